"""The status socket and the page made of its report."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import gevent
import gevent.socket
import pytest

from kcpg.app import asking, descriptors, status, status_report, wording
from kcpg.app.paths import Instance

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


def test_page_for_people():
    link = {
        "peer": "192.0.2.1:3000",
        "state": "up",
        "srtt_ms": 34,
        "flows": 2,
        "datagram_bytes": 1392,
        "datagram_bytes_final": False,
        "rx_bytes": 1_234_567,
        "tx_bytes": 999,
        "dials": True,
        "local_port": 40123,
        "counters": {"hops": 12},
        "fec": {"sends": "off", "groups": 0, "parity_bytes": 0, "rebuilt": 0},
    }
    flows = {"tcp": 2, "udp": 1, "opened": 9, "refused": 0, "reset": 1}
    tunnel = {
        "kind": "tunnel",
        "where": "192.0.2.1:3000",
        "algorithm": "AES-GCM",
        "drops": {"auth": 3},
        "links": [link],
        "link_count": 1,
    }
    node = {
        "role": "client",
        "name": "office",
        "file": "office.conf",
        "flows": flows,
        "ingress": {"kind": "local"},
        "egress": tunnel,
    }
    page = status_report.text("office-1", 77, {"uptime_s": 7261.5, "version": "1", "nodes": [node]})
    assert "office-1: running, pid 77, up 2 h 1 min, kcpg 1" in page
    assert "2 TCP and 1 UDP flows now, 9 since start, 0 refused, 1 reset" in page
    assert "egress 192.0.2.1:3000 AES-GCM: 1 link, dropped: auth 3" in page
    line = "192.0.2.1:3000 up, rtt 34 ms, 2 flows, datagrams of 1392 bytes or more, in 1.2 MB, out 999 B,"
    assert f"{line} 12 hops, from port 40123" in page
    assert "fec" not in page
    link["fec"] = {"sends": "1:2,2:3", "groups": 7, "parity_bytes": 4_200, "rebuilt": 3}
    assert ", fec 1:2,2:3, sent 4.2 kB of parity, rebuilt 3" in status_report.link_line(link)
    link["congestion"] = believed = {
        "state": "startup",
        "delivery_bps": 0,
        "min_rtt_ms": -1,
        "queue_ms": None,
        "loss": 0.0,
    }
    assert status_report.link_line(link).endswith(", path not measured yet (startup)")
    believed |= {"state": "cycle", "delivery_bps": 18_500_000}
    assert status_report.link_line(link).endswith(", path takes 18.5 Mbit/s (cycle)")
    believed |= {"min_rtt_ms": 40, "queue_ms": 3, "loss": 0.005}
    assert status_report.link_line(link).endswith(
        ", path takes 18.5 Mbit/s (cycle), queue 3 ms over 40 ms, loses 0.5 %"
    )
    assert status_report.text("x", 1, None) == "x: running, pid 1, does not answer"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (303, "5 min 3 s"), (7800, "2 h 10 min"), (3 * 86400 + 4 * 3600, "3 d 4 h")],
)
def test_durations(seconds, words):
    assert wording.duration(seconds) == words
