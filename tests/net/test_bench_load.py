"""The load generator and whole runs on loopback: what is wrong fails, with its reason."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from harness.bench import generator, places, processes
from harness.bench.generator import User
from harness.bench.measure import measure
from harness.bench.places import Place
from harness.bench.ready import await_answer
from harness.bench.systems import SYSTEMS
from harness.bench.systems.base import NEAR, Part, Settings, System, Wiring
from harness.bench.workloads import WORKLOADS
from harness.chain import LOOPBACK, Ports
from harness.netns import Lab, leftovers
from harness.process import Failed, Program
from tests.net import emulation

SHORT_S = 0.1
lab = emulation.lab


@pytest.fixture
def counters(tmp_path: Path) -> Path:
    path = tmp_path / "counters"
    path.write_bytes(b"")
    return path


@pytest.fixture
def target(tmp_path: Path, counters: Path) -> Iterator[tuple[str, int]]:
    address = (LOOPBACK, Ports().one())
    with Program("target", generator.words("target", address, counters), tmp_path / "target.log") as program:
        program.wait_for("^listening")
        yield address


class Proxy:
    """Passes connections on to the target, each piece of what comes back or goes there through `change`."""

    def __init__(self, target: tuple[str, int], change: Callable[[bytes], bytes], late: int = 0) -> None:
        """The first `late` connections are accepted and ended."""
        self._target, self._change, self.late = target, change, late
        self._listener = socket.create_server((LOOPBACK, 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.late > 0:
                    self.late -= 1
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), closing(sink):
            while data := source.recv(1 << 16):
                sink.sendall(self._change(data))


def use(address: tuple[str, int], counters: Path, program: str, **options: float) -> dict[str, float]:
    words = generator.words(program, address, counters, {"seconds": SHORT_S, **options})
    with User(words, counters.with_name("user.log")) as user:
        user.until("begin")
        figures = user.until("end", SHORT_S)
        user.until("settled")
        return figures


def test_every_workload_moves_what_it_says(target: tuple[str, int], counters: Path) -> None:
    assert use(target, counters, "bulk-up", flows=3)["bytes"] > 0
    assert use(target, counters, "bulk-down", flows=3)["bytes"] > 0
    assert use(target, counters, "bulk-up", flows=3, copies=1)["bytes"] > 0
    assert use(target, counters, "bulk-down", flows=3, copies=1)["bytes"] > 0
    for name in ("tcp-requests", "udp-requests"):
        figures = use(target, counters, name)
        assert figures["requests"] > 0
        assert (
            figures["rtt_p50_us"] <= figures["rtt_p99_us"] <= figures["rtt_p999_us"] <= figures["rtt_max_us"]
        )
    assert use(target, counters, "tcp-requests", interval_s=0.01)["requests"] == SHORT_S / 0.01
    figures = use(target, counters, "short", count=200, flows=10, size_bytes=1024)
    assert (figures["done"], figures["failed"]) == (200, 0)
    for size in (64, 1200):
        assert use(target, counters, "packets", size_bytes=size)["packets"] > 0
    assert generator.damaged(counters) == 0


def test_a_download_beside_requests_is_counted_while_it_runs(target: tuple[str, int], counters: Path) -> None:
    words = generator.words("bulk-down", target, counters, {"seconds": 30.0})
    with User(words, counters.with_name("beside.log")) as beside:
        beside.until("begin")
        before = generator.streamed(counters)
        figures = use(target, counters, "tcp-requests", interval_s=0.01)
        assert figures["requests"] == SHORT_S / 0.01
        assert figures["rtt_p90_us"] <= figures["rtt_p95_us"] <= figures["rtt_p99_us"]
        assert generator.streamed(counters) > before > 0


def _change_last(data: bytes) -> bytes:
    """Something long has its last byte changed, there and again back; what is short passes."""
    return data[:-1] + bytes([(data[-1] + 1) % 256]) if len(data) > 100 else data


def test_one_wrong_byte_in_each_piece_of_a_stream_is_found(target: tuple[str, int], counters: Path) -> None:
    with closing(Proxy(target, _change_last)) as proxy:
        for program in ("bulk-up", "bulk-down"):
            for copies in (0, 1):
                with pytest.raises(Failed, match="different from what was sent"):
                    use(proxy.address, counters, program, seconds=0.5, copies=copies)


def test_a_stream_with_a_piece_missing_is_found(target: tuple[str, int], counters: Path) -> None:
    seen = []

    def lose_one(data: bytes) -> bytes:
        seen.append(len(data))
        return b"" if len(seen) == 40 else data

    with closing(Proxy(target, lose_one)) as proxy, pytest.raises(Failed, match=r"sent|different"):
        use(proxy.address, counters, "bulk-up", seconds=0.3, patience_s=1)


def test_a_wrong_answer_and_a_connection_that_ends_are_failures(
    target: tuple[str, int], counters: Path
) -> None:
    with closing(Proxy(target, _change_last)) as proxy:
        with pytest.raises(Failed, match="answers were different"):
            use(proxy.address, counters, "tcp-requests", size_bytes=200)
        with pytest.raises(Failed, match=r"20 of 20 connections failed; the first: .*different"):
            use(proxy.address, counters, "short", count=20, flows=5, size_bytes=1024)
    closed = (LOOPBACK, Ports().one())
    with pytest.raises(Failed, match=r"connecting to .* refused"):
        use(closed, counters, "short")


def test_idle_connections_are_opened_looked_at_and_closed(target: tuple[str, int], counters: Path) -> None:
    words = generator.words("idle", target, counters, {"count": 50, "flows": 8})
    with User(words, counters.with_name("user.log")) as user:
        user.until("ready")
        user.tell("open")
        assert user.until("opened")["done"] == 50
        user.tell("check")
        user.until("checked")
        user.tell("close")
        user.until("settled")
        user.tell("end")


def test_words_that_make_no_sense_are_refused(target: tuple[str, int], counters: Path) -> None:
    for options in ({"flows": 0}, {"size_bytes": 3}, {"size_bytes": 70000}, {"nothing": 1}):
        words = generator.words("short", target, counters, options)
        with User(words, counters.with_name("log")) as user, pytest.raises(Failed):
            user.until("begin")


def test_the_generator_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    path = generator.build()
    assert os.access(path, os.X_OK)
    assert generator.build() == path
    monkeypatch.setattr(generator, "FLAGS", (*generator.FLAGS, "-DOTHER"))
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(Failed, match="no-such-compiler is not installed"):
        generator.build()


def test_costs_are_those_of_the_process_and_its_children(tmp_path: Path) -> None:
    work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    command = ["sh", "-c", f"({work}); sh -c 'echo ready; sleep 600'; :"]
    with Program("it", command, tmp_path / "log") as program:
        program.wait_for("^ready")
        assert len(processes.group(program.pid)) >= 2
        assert processes.group_cpu_s(program.pid) > processes.cpu_s(program.pid) >= 0
        assert processes.group_memory_bytes(program.pid, "VmHWM") > 0
        assert processes.group_memory_bytes(program.pid, "None") == 0
    assert processes.group(program.pid), "the shell ended before what it had started"
    processes.end_group(program.pid)
    until_s = time.monotonic() + 10
    while processes.group(program.pid):
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_a_child_that_ended_is_not_forgotten_before_it_is_waited_for(tmp_path: Path) -> None:
    """A forwarder that forks ends its child with the connection; until it waits for it, that is a zombie."""
    code = (
        "import os, time\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    while time.process_time() < 0.05: pass\n"
        "    os._exit(0)\n"
        "os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)\n"
        "print('ended', time.process_time(), flush=True)\n"
        "time.sleep(600)\n"
    )
    with Program("it", [sys.executable, "-c", code], tmp_path / "log") as program:
        own_s = float(program.wait_for(r"^ended (.*)", 60)[1])
        assert processes.group_cpu_s(program.pid) >= own_s + 0.05


def test_a_socket_that_is_bound_is_seen() -> None:
    with (
        socket.create_server((LOOPBACK, 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind((LOOPBACK, 0))
        assert processes.listens(os.getpid(), "tcp", tcp.getsockname()[1])
        assert processes.listens(os.getpid(), "udp", udp.getsockname()[1])
        port = Ports().one()
        assert not processes.listens(os.getpid(), "tcp", port) and not processes.listens(
            os.getpid(), "udp", port
        )


def test_a_system_that_ends_its_first_connections_is_waited_for(target: tuple[str, int]) -> None:
    with closing(Proxy(target, lambda data: data, late=3)) as proxy:
        await_answer(Place(), proxy.address, "tcp", patience_s=30)
        assert proxy.late == 0


def test_packets_that_get_lost_at_first_are_sent_again(target: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as entry:
        entry.bind((LOOPBACK, 0))
        seen = []

        def relay() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as onward:
                while len(seen) < 2:
                    packet, user = entry.recvfrom(100)
                    seen.append(packet)
                onward.sendto(seen[-1], target)
                entry.sendto(onward.recv(100), user)

        threading.Thread(target=relay, daemon=True).start()
        await_answer(Place(), entry.getsockname(), "udp", patience_s=30)
        assert len(seen) == 2


def test_a_system_that_never_answers_is_failed_with_what_it_did(target: tuple[str, int]) -> None:
    said = r"nothing came back through it within .* \(tcp: .*(ended|reset)"
    with closing(Proxy(target, lambda data: data, late=1 << 30)) as proxy, pytest.raises(Failed, match=said):
        await_answer(Place(), proxy.address, "tcp", patience_s=0.3)
    with pytest.raises(Failed, match=r"udp: .*refused"):
        await_answer(Place(), (LOOPBACK, Ports().one()), "udp", patience_s=0.3)
    said = r"b'\?' came back as b'!'"
    changing = Proxy(target, lambda data: data.replace(b"?", b"!"))
    with closing(changing) as proxy, pytest.raises(Failed, match=said):
        await_answer(Place(), proxy.address, "tcp", patience_s=30)

    def ended() -> None:
        raise Failed("client has ended")

    with pytest.raises(Failed, match="client has ended"):
        await_answer(Place(), target, "tcp", ended)


def test_every_run_on_loopback_has_a_loopback_of_its_own(lab: Lab) -> None:
    """Where root is: the connections of a run are gone with it."""
    assert places.shared_loopback() == ""
    with places.opened("loopback", WORKLOADS["short"]) as place:
        names = set(leftovers())
        measured, _ = measure(place, SYSTEMS["direct"], WORKLOADS["short"], Settings(), 0.1)
        assert measured["done"] == 2000
    with places.opened("loopback", WORKLOADS["short"]):
        assert set(leftovers()) != names


def test_what_emulates_the_line_is_no_foreign_load(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETEM_BACKEND", "box")
    with places.opened("line", WORKLOADS["lossy5"]) as place:
        assert place.line_cpu_s() > 0
    with places.opened("veth", WORKLOADS["short"]) as place:
        assert place.line_cpu_s() == 0


def test_without_root_loopback_is_the_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    places.shared_loopback.cache_clear()
    try:
        assert "need root" in places.shared_loopback()
        with places.opened("loopback", WORKLOADS["short"]) as place:
            assert type(place) is Place and place.command(NEAR, ["true"]) == ["true"]
        with pytest.raises(Failed, match="need root"), places.opened("veth", WORKLOADS["short"]):
            pass
    finally:
        places.shared_loopback.cache_clear()


@pytest.mark.parametrize(
    ("system", "workload"),
    [
        ("direct", "bulk-down"),
        ("direct-copy", "bulk-up"),
        ("direct", "short"),
        ("kcpg", "udp-requests"),
        ("udp-relay", "tcp-requests"),
        ("udp-relay", "udp-requests"),
        ("udp-relay", "short"),
    ],
)
def test_a_run_gives_figures_and_costs(system: str, workload: str) -> None:
    measured, used = measure(Place(), SYSTEMS[system], WORKLOADS[workload], Settings(), 0.2)
    assert measured["seconds"] > 0
    assert set(used.cpu_s) == (set() if system.startswith("direct") else {"client", "server"})
    assert all(seconds > 0 for seconds in used.cpu_s.values())
    assert used.wire_bytes is None, "loopback carries more than that"


class Broken(System):
    """A program that is not what it should be."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        return [Part("client", NEAR, self._words, sockets=(("tcp", wiring.entry[1]),))]


def test_a_system_that_does_not_start_says_why() -> None:
    with pytest.raises(Failed, match=r"client does not listen(?s:.)*no such luck"):
        measure(Place(), Broken("sh", "-c", "echo no such luck"), WORKLOADS["short"], Settings(), 0.1)
