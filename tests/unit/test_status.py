"""The status socket and the page made of its report."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import gevent
import gevent.socket
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcpg.app import asking, descriptors, status, status_report, wording
from kcpg.app.paths import Instance
from kcpg.app.troubles import KEPT_S, MAX_TROUBLES, Troubles

ASK = """
import sys
from pathlib import Path
from kcpg.app.paths import Instance
from kcpg.app.asking import ask
print("ready", flush=True)
for _ in sys.stdin:
    print(ask(Instance("node", Path(sys.argv[1]).parent, Path("log"))), flush=True)
"""


def ask(path):
    """`asking.ask` from a thread, because this test's own event loop has to answer."""
    return gevent.get_hub().threadpool.apply(asking.ask, (Instance(path.stem, path.parent, path),))


@pytest.mark.parametrize("depth", [0, 12])
def test_report_comes_back_whatever_the_length_of_the_path(tmp_path, depth):
    directory = tmp_path.joinpath(*["a-long-name"] * depth)
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "node.sock"
    server = status.StatusServer(file, lambda: {"pid": 7, "text": "é" * 100_000})
    server.start()
    try:
        assert ask(file) == {"pid": 7, "text": "é" * 100_000}
        assert file.stat().st_mode & 0o777 == 0o600
    finally:
        server.close()
    assert not file.exists()
    assert ask(file) is None


def test_socket_of_a_crashed_process_is_replaced(tmp_path):
    file = tmp_path / "node.sock"
    file.touch()
    server = status.StatusServer(file, dict)
    server.start()
    assert ask(file) == {}
    server.close()


def test_a_process_without_descriptors_still_answers(tmp_path, capfd):
    file = tmp_path / "node.sock"
    server = status.StatusServer(file, lambda: {"pid": 7})
    server.start()
    command = [sys.executable, "-c", ASK, str(file)]
    asking = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    taken = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert asking.stdout.readline() == b"ready\n"
        # A descriptor beyond the limit could not be taken again.
        most = max(int(name) for name in os.listdir("/dev/fd")) + 20
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.dup(0))
        asking.stdin.write(b"go\ngo\n")
        for _ in range(2):
            gevent.socket.wait_read(asking.stdout.fileno(), timeout=20)
            assert asking.stdout.readline() == b"{'pid': 7}\n"
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        asking.kill()
        asking.communicate()
        server.close()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("left", "flows", "says"), [(900, 65_536, True), (1100, 65_536, False), (900, 100, False)]
)
def test_few_descriptors_are_told_with_the_way_to_more(left, flows, says):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(descriptors.in_use())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + left, hard))
    try:
        text = descriptors.shortage(flows)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert bool(text) == says
    if says:
        assert f"{used} of {used + left} file descriptors are in use, so {left} are left" in text
        assert "ulimit -n" in text and "LimitNOFILE" in text


def test_where_nobody_can_tell_the_descriptors_a_node_starts_all_the_same(monkeypatch):
    """A jail without /proc, a guest whose /dev has no fd."""
    monkeypatch.setattr(descriptors, "_LIST", "/nonexistent")
    assert descriptors.shortage(1 << 30) == ""


def test_descriptors_in_use_are_those_that_are_open():
    before = set(descriptors.in_use())
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        assert set(descriptors.in_use()) - before == {fd}
    finally:
        os.close(fd)
    assert set(descriptors.in_use()) == before


LINK = {
    "peer": "192.0.2.1:3000",
    "state": "up",
    "heard_s": 0.31,
    "srtt_ms": 34,
    "flows": 2,
    "datagram_bytes": 1392,
    "datagram_bytes_final": False,
    "rate_bps": 0,
    "rx_bytes": 1_234_567,
    "tx_bytes": 999,
    "dials": True,
    "local_port": 40123,
    "segments_sent": 195,
    "segments_resent_fast": 3,
    "segments_resent_rto": 2,
    "counters": {"hops": 12},
    "fec": {"sends": "off", "loss": 0.012, "groups": 0, "parity_bytes": 0, "rebuilt": 0},
}
TUNNEL = {
    "kind": "tunnel",
    "action": "dial",
    "where": "192.0.2.1:3000",
    "algorithm": "AES-GCM",
    "drops": {"auth": 3, "short": 0},
    "counters": {"strangers": 2},
    "unanswered": None,
    "links": [LINK],
    "link_count": 1,
}
NODE = {
    "role": "client",
    "name": "office",
    "file": "office.conf",
    "flows": {"tcp": 2, "udp": 1, "opened": 9, "refused": 0, "reset": 1},
    "ingress": {"kind": "local", "action": "listen", "where": "*:59000"},
    "egress": TUNNEL,
}
REPORT = {
    "at_s": 12.0, "uptime_s": 7261.5, "version": "1", "engine": "compiled", "nodes": [NODE],
    "reload": {"ok": True, "at": None, "text": ""},
}  # fmt: skip


def test_page_for_people():
    before = {
        **REPORT,
        "at_s": 10.0,
        "nodes": [{**NODE, "egress": {**TUNNEL, "links": [{**LINK, "rx_bytes": 234_567}]}}],
    }
    page = status_report.text("office-1", 77, REPORT, before)
    assert (
        page
        == """\
office-1: running, pid 77, up 2 h 1 min, kcpg 1, compiled engine
  client office, office.conf
    flows: 2 TCP, 1 UDP now; 9 since start, 0 refused, 1 reset
    listens on *:59000
    dials 192.0.2.1:3000, AES-GCM: 1 link; dropped: auth 3
    peer                        state  heard    rtt  in b/s out b/s   in B  out B  loss resent flows
    192.0.2.1:3000                 up   0.3s   34ms   4.00M       0  1.23M    999  1.2%   2.5%     2
      datagrams of 1392 B or more, from port 40123, 12 hops"""
    )
    assert status_report.text("x", 1, None) == "x: running, pid 1, does not answer"


def test_page_without_an_earlier_report_has_no_rates():
    (row,) = [line for line in status_report.text("o", 7, REPORT).splitlines() if "34ms" in line]
    assert row.split()[4:6] == ["-", "-"]


def test_fec_in_words():
    used = {
        **LINK,
        "fec": {**LINK["fec"], "sends": "1:2,2:3", "groups": 7, "parity_bytes": 4_200, "rebuilt": 3},
    }
    words = " ".join(line.strip() for line in status_report.link_lines(used))
    assert words.endswith(", fec 1:2,2:3, sent 4.2 kB of parity, rebuilt 3")


def test_congestion_in_words():
    believed = {"state": "startup", "delivery_bps": 0, "min_rtt_ms": -1, "queue_ms": None, "loss": 0.0}
    assert status_report.congestion_words(believed) == "path not measured yet (startup)"
    believed |= {"state": "cycle", "delivery_bps": 18_500_000}
    assert status_report.congestion_words(believed) == "path takes 18.5 Mbit/s (cycle)"
    believed |= {"min_rtt_ms": 40, "queue_ms": 3, "loss": 0.5}
    row, *path = status_report.link_lines({**LINK, "congestion": believed})
    assert " ".join(line.strip() for line in path).endswith(
        ", path takes 18.5 Mbit/s (cycle), queue 3 ms over 40 ms"
    )
    assert row.split()[8] == "50%", "the larger of what the peer and what congestion control say"


def test_page_says_what_is_wrong():
    refused = {
        "leg": "tunnel",
        "kind": "refused",
        "peer": "192.0.2.1:3000",
        "text": "no",
        "count": 3,
        "ago_s": 90.0,
    }
    egress = {**TUNNEL, "links": [], "link_count": 0, "unanswered": {"handshakes": 9, "for_s": 12.3}}
    listener = {**egress, "action": "listen", "unanswered": None}
    node = {**NODE, "ingress": listener, "egress": egress, "troubles": [refused]}
    reload = {"ok": False, "at": 0, "text": "kept the old configuration: 1 error"}
    page = status_report.text("o", 7, {**REPORT, "nodes": [node], "reload": reload})
    assert (
        "! the configuration was refused at 1970-01-01" in page
        and "kept the old configuration: 1 error" in page
    )
    assert "! 9 handshakes sent, none answered for 12 s" in page
    assert "! 2 datagrams since start under another password" in page
    assert "! 1m ago, 3 times: 192.0.2.1:3000: no" in page


@given(
    st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=300),
    st.integers(0, 10**15), st.floats(0, 10**8), st.integers(-1, 100_000), st.floats(0, 1),
)  # fmt: skip
def test_no_line_is_longer_than_100_columns(name, count, seconds, rtt_ms, loss):
    fec = {**LINK["fec"], "loss": loss, "rebuilt": count}
    link = {
        **LINK, "peer": name[:46], "rx_bytes": count, "tx_bytes": count, "heard_s": seconds, "fec": fec,
        "segments_resent_rto": count, "flows": count % 65536, "srtt_ms": rtt_ms,
    }  # fmt: skip
    old = {**link, "rx_bytes": 0, "tx_bytes": 0}
    tunnel = {**TUNNEL, "where": name, "links": [link], "drops": {name: count}}
    trouble = {
        "leg": name,
        "kind": name,
        "peer": name,
        "text": f"{name} {name}",
        "count": count,
        "ago_s": seconds,
    }
    node = {**NODE, "file": name, "egress": tunnel, "troubles": [trouble], "public_addresses": [name] * 3}
    report = {
        **REPORT,
        "nodes": [node],
        "uptime_s": seconds,
        "reload": {"ok": False, "at": 0, "text": name * 3},
    }
    before = {**report, "at_s": 11.0, "nodes": [{**node, "egress": {**tunnel, "links": [old]}}]}
    for line in status_report.text(name, count, report, before).splitlines():
        assert len(line) <= status_report.WIDTH, line


def test_troubles_are_bounded_counted_and_end():
    now = [0.0]
    troubles = Troubles(lambda: now[0])
    for number in range(MAX_TROUBLES + 1):
        troubles.note("tunnel", f"kind{number}", "", "text")
    kinds = [one["kind"] for one in troubles.snapshot()]
    assert kinds == [f"kind{n}" for n in range(1, MAX_TROUBLES + 1)]
    troubles.note("tunnel", "kind3", "192.0.2.1:1", "again")
    assert {
        "kind": "kind3",
        "peer": "192.0.2.1:1",
        "text": "again",
        "count": 2,
    }.items() <= troubles.snapshot()[-1].items()
    troubles.over("tunnel", ["kind3", "kind99"])
    assert "kind3" not in [one["kind"] for one in troubles.snapshot()]
    now[0] = KEPT_S + 1
    assert troubles.snapshot() == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (999, "999"),
        (999.6, "1.00k"),
        (12_340, "12.3k"),
        (999_900, "1.00M"),
        (1.25e9, "1.25G"),
        (5e15, "5000T"),
    ],
)
def test_brief_numbers(value, words):
    assert wording.brief(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (303, "5 min 3 s"), (7800, "2 h 10 min"), (3 * 86400 + 4 * 3600, "3 d 4 h")],
)
def test_durations(seconds, words):
    assert wording.duration(seconds) == words
