"""Our KCP against ikcp.c (PyPI `kcp` wraps it), both directions at once, in virtual time over bad lines."""

from __future__ import annotations

from collections import deque

import pytest
from kcp.extension import KCP

from kcpg.core.kcp.kcp import Kcp, KcpParams
from tests.unit.kcp_pair import CONV, KcpLine, KcpSim, impaired, messages_of, new_kcp, segments

MTU = 224


class Ikcp:
    """ikcp with the part of our interface that a KcpSim and these tests use; it lives by its clock tick."""

    def __init__(self, params: KcpParams, mtu: int = MTU) -> None:
        self.tick_ms = max(params.interval_ms, 10)  # ikcp takes no shorter one
        self._out: list[bytes] = []
        self._next: int | None = None
        self._kcp = KCP(
            CONV,
            mtu,
            params.nodelay > 0,
            self.tick_ms,
            params.resend,
            params.nc,
            params.snd_wnd,
            params.rcv_wnd,
        )
        self._kcp.include_outbound_handler(lambda _, datagram: self._out.append(bytes(datagram)))

    wants_flush = False

    @property
    def deadline(self) -> int | None:
        return self._next

    @property
    def room(self) -> int:
        return 256 - self._kcp.get_outbound_packets()

    @property
    def idle(self) -> bool:
        return self._kcp.get_outbound_packets() == 0

    def send(self, message: bytes) -> None:
        self._kcp.enqueue(message)

    def recv(self) -> bytes | None:
        return bytes(self._kcp.get_received()) if self._kcp.next_packet_available else None

    def input(self, data: bytes, now_ms: int) -> int:
        self._kcp.receive(data)
        return 0

    def start(self, now_ms: int) -> None:
        self._next = now_ms

    def flush(self, now_ms: int) -> list[bytes]:
        self._kcp.update(now_ms & 0xFFFFFFFF)
        self._next = now_ms + self.tick_ms
        sent, self._out = self._out, []
        return sent


class Exchange:
    """Messages both ways between our end (left) and ikcp (right)."""

    def __init__(self, ours: Kcp, ikcp: Ikcp, messages: list[bytes], **line: float) -> None:
        start_ms = int(line.pop("start_ms", 1000))
        ikcp.start(start_ms)
        self.pair = KcpSim(ours, ikcp, start_ms=start_ms, **line)  # type: ignore[arg-type]
        self.ends: tuple[Kcp | Ikcp, ...] = (ours, ikcp)
        self.messages = messages
        self.waiting = [deque(messages), deque(messages)]
        self.got: list[list[bytes]] = [[], []]

    def users(self) -> None:
        for end, waiting, got in zip(self.ends, self.waiting, self.got, strict=True):
            while waiting and end.room > 200:
                end.send(waiting.popleft())
            while (message := end.recv()) is not None:
                got.append(message)

    def run(self, limit_ms: int) -> None:
        def done() -> bool:
            return all(len(got) == len(self.messages) for got in self.got) and self.ends[0].idle

        self.pair.run(done, each=self.users, limit_ms=limit_ms)
        assert [len(got) for got in self.got] == [len(self.messages)] * 2
        assert self.got == [self.messages, self.messages]


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("nodelay", [0, 1, 2])
@pytest.mark.parametrize("resend", [0, 2])
@pytest.mark.parametrize("nc", [True, False])
def test_messages_both_ways(engine: str, loss: float, nodelay: int, resend: int, nc: bool) -> None:
    """Up to ten fragments each, with reordering and duplicates."""
    params = KcpParams(nodelay=nodelay, interval_ms=10, resend=resend, nc=nc, snd_wnd=64, rcv_wnd=128)
    seed = round(loss * 100) * 100 + nodelay * 10 + resend + nc
    exchange = Exchange(
        new_kcp(engine, params, mtu=MTU),
        Ikcp(params),
        messages_of(seed, 40, 2000),
        seed=seed,
        loss=loss,
        duplicate=0.05,
        jitter_ms=15,
    )
    exchange.run(limit_ms=600_000)


@pytest.mark.parametrize("start_ms", [2**31 - 400, 2**32 - 400])
def test_the_clock_may_wrap(engine: str, start_ms: int) -> None:
    params = KcpParams(nodelay=1, interval_ms=10)
    exchange = Exchange(
        new_kcp(engine, params, mtu=MTU),
        Ikcp(params),
        messages_of(7, 100, 1500),
        start_ms=start_ms,
        loss=0.1,
        jitter_ms=15,
    )
    exchange.run(limit_ms=60_000)
    assert exchange.pair.now > start_ms + 400


def test_the_first_flush_is_ikcps_byte_for_byte(engine: str) -> None:
    params = KcpParams(nodelay=1, interval_ms=10, snd_wnd=64, rcv_wnd=128)
    ours, ikcp = new_kcp(engine, params, mtu=MTU), Ikcp(params)
    for message in messages_of(9, 30, 700):
        ours.send(message)
        ikcp.send(message)
    theirs = ikcp.flush(1000)
    assert len(theirs) > 30
    assert ours.flush(1000) == theirs


def test_a_slow_reader_at_either_end_stops_the_other(engine: str) -> None:
    """And both go on when it reads: ikcp is told by our WINS, we by ikcp's window or our probe."""
    params = KcpParams(nodelay=1, interval_ms=10, snd_wnd=128, rcv_wnd=128)
    ours, ikcp = new_kcp(engine, params, mtu=MTU), Ikcp(params)
    exchange = Exchange(ours, ikcp, messages_of(3, 800, 200))

    def users() -> None:
        for end, waiting in zip(exchange.ends, exchange.waiting, strict=True):
            while waiting and end.room > 1:
                end.send(waiting.popleft())

    exchange.pair.run(each=users, limit_ms=5000)
    assert ours.unread == 128
    assert ours.queued > 100
    assert (ours.rmt_wnd, ours.in_flight) == (0, 0)
    exchange.run(limit_ms=5000)


def test_ikcp_understands_thinned_acknowledgements(engine: str) -> None:
    """One acknowledgement for many pushes: nothing is resent, and its RTT is measured."""
    params = KcpParams(nodelay=1, interval_ms=10, snd_wnd=128, rcv_wnd=128)
    ours, ikcp = new_kcp(engine, params, mtu=MTU), Ikcp(params)
    pair = KcpSim(ours, ikcp)
    ikcp.start(pair.now)
    for message in messages_of(5, 100, 200):
        ikcp.send(message)
    pair.run(lambda: ikcp.idle, limit_ms=2000)
    pushes = [s for s in segments(pair.to_left.sent) if s.cmd == 81]
    assert len(pushes) == 100
    assert ours.acks_sent < 60


def test_lines_are_as_bad_as_they_say() -> None:
    """The instrument first: a line that loses 10 % loses 10 %, and its jitter reorders."""
    line = KcpLine(impaired(jitter_ms=15, loss=0.1, duplicate=0.05), "instrument")
    for number in range(20_000):
        line.put(b"%d" % number, number)
    arrived = line.take(10**6)
    assert 0.89 < len(arrived) / (20_000 * 1.05) < 0.91
    twice = len(arrived) - len(set(arrived))  # both copies survived
    assert 0.045 < twice / 20_000 / 0.81 < 0.055
    numbers = [int(datagram) for datagram in arrived]
    assert numbers != sorted(numbers)
