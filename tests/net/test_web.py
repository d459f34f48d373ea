"""`web_listen`: the page, its answers, and what a real browser makes of it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from kcpg.app.config import load_text
from kcpg.app.web import history
from kcpg.app.web.application import Web, is_local
from kcpg.app.web.history import POINT, POINTS, History, point
from tests.needs import needs
from tests.net import processes
from tests.net.test_process_chain import CLIENT, SERVER, write
from tests.unit.test_topfigures import report

TOKEN = "a-token+that/is=long"

# -- figures --


def test_points_are_means_by_what_links_carried() -> None:
    """The slow link (90 ms) moved 3 MB, the quick one 1 MB."""
    before = report(10.0)
    now = report(12.0, tx_bytes=999 + 3_000_000)
    slow, quick = now["nodes"][0]["egress"]["links"]
    quick["rx_bytes"] += 1_000_000
    slow["srtt_ms"], quick["srtt_ms"] = 90, 10
    slow["fec"] = {**slow["fec"], "loss": 0.2}
    quick["fec"] = {**quick["fec"], "loss": 0.0}
    slow["congestion"], quick["congestion"] = {"loss": 0.1, "queue_ms": 40}, None
    found = point(now, before, history.figures([now], [before]))
    moved = (3_000_000 + 999 - before["nodes"][0]["egress"]["links"][0]["tx_bytes"], 1_000_000)
    share = moved[0] / sum(moved)
    assert found["rtt_ms"] == pytest.approx(90 * share + 10 * (1 - share), abs=0.01)
    assert found["loss"] == pytest.approx(0.2 * share, abs=0.001)
    assert found["queue_ms"] == 40, "where it is not known, it does not count"
    idle = point(before, before, history.figures([before], [before]))
    assert idle["rtt_ms"] is not None and idle["in_bps"] == 0


def test_the_history_is_an_hour_and_no_more() -> None:
    times = iter(range(10, 10_000, 5))
    kept = History(lambda: report(float(next(times))))
    for _ in range(POINTS + 10):
        kept.sample()
    data = kept.data()
    assert {name: len(data["history"][name]) for name in POINT} == dict.fromkeys(POINT, POINTS)
    assert data["links"]["count"] == 2 and len(data["links"]["cells"]) == 2


# -- answers --


def ask(web: Web, path: str = "/", method: str = "GET", **headers: str) -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body of the answer to one request."""
    said: list[Any] = []
    where, _, query = path.partition("?")
    environ = {"REQUEST_METHOD": method, "PATH_INFO": where, "QUERY_STRING": query,
               "HTTP_HOST": "127.0.0.1:9151", **headers}  # fmt: skip
    body = b"".join(web(environ, lambda status, given: said.extend((status, dict(given)))))
    return said[0][:3], said[1], body


def test_only_reading_is_possible() -> None:
    web = Web(lambda: {"x": 1}, lambda: "")
    assert ask(web)[0] == "200" and ask(web, method="HEAD")[2] == b""
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(web, method=method)[0] == "405"
    for path in ("/../service.py", "/page.py", "//", "/data.json/"):
        assert ask(web, path)[0] == "404"


def test_every_answer_forbids_what_is_not_ours() -> None:
    web = Web(dict, lambda: TOKEN)
    for path in ("/", "/page.js", "/data.json", f"/?token={TOKEN}"):
        _, headers, _ = ask(web, path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
        assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"


def test_a_name_that_was_made_to_lead_here_reads_nothing() -> None:
    web = Web(dict, lambda: "")
    assert ask(web, "/data.json", HTTP_HOST="evil.example")[0] == "403"
    assert ask(web, "/data.json", HTTP_HOST="")[0] == "403"
    for host in ("127.0.0.1", "127.0.0.1:9151", "[::1]:9151", "[::1]", "localhost:9151", "LOCALHOST"):
        assert is_local(host), host
    for host in (
        "evil.example:127.0.0.1",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "[::2]",
    ):
        assert not is_local(host), host


def test_a_token_is_asked_for_and_kept_by_the_browser() -> None:
    token = TOKEN
    web = Web(dict, lambda: token)
    for path in ("/", "/data.json", "/page.js", "/?token=", "/?token=wrong", f"/?token={TOKEN}x"):
        assert ask(web, path)[0] == "401", path
    status, headers, _ = ask(web, f"/?token={TOKEN}", HTTP_HOST="box.example:9151")
    assert status == "303" and headers["Location"] == "/"
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(attributes) and TOKEN not in cookie
    assert ask(web, "/data.json", HTTP_COOKIE=f"other=1; {cookie}", HTTP_HOST="box.example")[0] == "200"
    assert ask(web, "/data.json", HTTP_COOKIE=f"kcpg={TOKEN}")[0] == "401"
    token = "another-token-of-some-length"
    assert ask(web, "/data.json", HTTP_COOKIE=cookie)[0] == "401", "a reload took the old one away"


# -- configuration --


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("web_listen=0.0.0.0:9151", "could read the page"),
        ("web_listen=[::]:9151", "could read the page"),
        ("web_listen=192.0.2.1:9151", "could read the page"),
        ("web_listen=box.example:9151", "could read the page"),
        ("web_listen=127.0.0.1:9151\nweb_token=short", "is no token of at least 16"),
        ("web_listen=127.0.0.1:9151\nweb_token=with a blank in between", "is no token of at least 16"),
        ("web_token=" + TOKEN, "has no effect without web_listen"),
    ],
)
def test_a_page_for_everybody_needs_a_token(lines: str, words: str) -> None:
    text = SERVER.format(listen=3000, target=9, password="a good long secret", algorithm="AES-GCM")
    found = [str(problem) for problem in load_text("x.conf", text + lines).problems]
    assert sum(words in problem for problem in found) == 1, found
    assert not any("blank in between" in problem for problem in found)


@pytest.mark.parametrize("where", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_this_machine_needs_none(where: str) -> None:
    text = SERVER.format(listen=3000, target=9, password="a good long secret", algorithm="AES-GCM")
    loaded = load_text("x.conf", f"{text}web_listen={where}\n")
    assert loaded.ok and loaded.nodes[0].web_listen == where
    loaded = load_text("x.conf", f"{text}web_listen=0.0.0.0:1\nweb_token={TOKEN}\n")
    assert loaded.ok and loaded.nodes[0].web_token == TOKEN and TOKEN not in repr(loaded)


# -- a process --


def get(port: int, path: str, **headers: str) -> HTTPResponse:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    answer: HTTPResponse = urllib.request.urlopen(request, timeout=processes.PATIENCE_S)
    return answer


def test_a_process_shows_what_its_links_carry(tmp_path: Path) -> None:
    tunnel, entry = processes.free_ports(2)
    (web,) = processes.free_ports(1)
    with processes.echo() as target:
        client = write(tmp_path, "client.conf", CLIENT, listen=entry, ports=tunnel)
        server = write(tmp_path, "server.conf", SERVER, listen=tunnel, target=target)
        client.write_text(f"{client.read_text()}web_listen=127.0.0.1:{web}\n")
        server.write_text(server.read_text() + "workers=2\n")
        node = processes.Node(tmp_path / "state", client, server).ready()
        try:
            assert processes.exchange(entry, b"x" * 100_000) == b"x" * 100_000
            found = processes.until(lambda: moved(web), "a sample with traffic")
            assert isinstance(found, dict)
            assert [one["role"] for one in found["nodes"]] == ["client", "server"]
            assert found["links"]["count"] == 2, "of the client, and of whichever worker"
            assert "<script src" in get(web, "/").read().decode()
            text = client.read_text()
            client.write_text(f"{text}web_token={TOKEN}\n")
            node.signal(1)
            node.says("it changes what the process serves, and no node")
            with pytest.raises(urllib.error.HTTPError, match="401"):
                get(web, "/data.json")
            client.write_text(re.sub("web_listen=.*\n", "", text))
            node.signal(1)
            processes.until(lambda: is_closed(web), "the page to be gone")
            assert "Traceback" not in node.output, node.output
        finally:
            node.stop()


def moved(port: int) -> dict[str, Any] | None:
    """What is shown once there was traffic and every worker has answered; a busy machine puts that off."""
    data: dict[str, Any] = json.load(get(port, "/data.json"))
    return data if any(data["history"]["out_bps"]) and data["links"]["count"] >= 2 else None


def is_closed(port: int) -> bool:
    try:
        get(port, "/").close()
    except (urllib.error.HTTPError, ConnectionResetError):  # the latter: taken, and closed unanswered
        return False
    except urllib.error.URLError:
        return True
    return False


# -- a browser --

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def hour() -> dict[str, Any]:
    """A full history, and texts of a peer that would like to be markup."""
    kept = History(lambda: report(10.0))
    kept.sample()
    data = kept.data()
    data["nodes"][0]["troubles"] = [f"refused: {HOSTILE}"]
    data["flows"]["cells"] = [(cells[0], cells[1], HOSTILE, *cells[3:]) for cells in data["flows"]["cells"]]
    data["every_s"] = 3600
    turns = range(POINTS)
    data["history"] = {
        "at_s": [1_700_000_000 + 5 * turn for turn in turns],
        "in_bps": [40e6 + 30e6 * math.sin(turn / 40) for turn in turns],
        "out_bps": [8e6 if turn % 200 < 120 else 1e6 for turn in turns],
        "loss": [0.03 if 300 < turn < 340 else 0.001 for turn in turns],
        "rtt_ms": [None if 500 < turn < 520 else 35 + turn % 7 for turn in turns],
        "queue_ms": [turn % 90 / 3 for turn in turns],
    }
    return data


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *given: object) -> None:
        """Requests are no news."""


@contextlib.contextmanager
def served(web: Web) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, web, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.skipif(not shutil.which("chromium"), reason=needs("chromium"))
def test_a_browser_draws_it_and_runs_nothing_else(tmp_path: Path) -> None:
    """KCPG_SCREENSHOT=FILE keeps the picture, to be looked at."""
    picture = Path(os.environ.get("KCPG_SCREENSHOT", tmp_path / "page.png"))
    with served(Web(hour, lambda: TOKEN)) as port:
        command = [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--window-size=1280,1000", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
            "--virtual-time-budget=5000",
            f"--screenshot={picture}", "--dump-dom", f"http://127.0.0.1:{port}/?token={TOKEN}",
        ]  # fmt: skip
        home = {**os.environ, "HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=home)
    page = done.stdout
    assert 'data-shown="yes"' in page, f"{page}\n{done.stderr}"
    assert "Refused to" not in done.stderr and "CONSOLE" not in done.stderr, done.stderr
    assert "<title>kcpg</title>" in page and "<img" not in page
    assert page.count("&lt;img src=x") == 3, "as text, in the trouble and in each flow"
    assert len(re.findall("<canvas", page)) == 4 and re.search(r'class="in">in [\d.]+ Mbit/s<', page)
    assert "192.0.2.2:3000" in page and "Links (2)" in page
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert int.from_bytes(head[16:20], "big") == 1280 and picture.stat().st_size > 20_000
