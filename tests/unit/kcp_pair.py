"""Two KCP conversations joined by a lossy line in virtual time; used by the KCP tests of every directory."""

from __future__ import annotations

import heapq
import random
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from kcpg.core.kcp.kcp import Kcp, KcpParams
from tests.engines import twin

CONV = 77
FAST = KcpParams(nodelay=1, interval_ms=10, resend=2)


class Peer(Protocol):
    """What a Pair needs of an end: a Kcp, or ikcp in its clothes."""

    @property
    def wants_flush(self) -> bool: ...
    @property
    def deadline(self) -> int | None: ...
    def input(self, data: bytes, now_ms: int) -> int: ...
    def flush(self, now_ms: int) -> list[bytes]: ...


class Line:
    """One direction: loses, duplicates and delays datagrams; jitter above their spacing reorders them."""

    def __init__(
        self, rng: random.Random, *, delay_ms: int, jitter_ms: int, loss: float, duplicate: float
    ) -> None:
        self.rng = rng
        self.delay_ms = delay_ms
        self.jitter_ms = jitter_ms
        self.loss = loss
        self.duplicate = duplicate
        self.lose: Callable[[bytes], bool] = lambda datagram: False
        self.sent: list[bytes] = []
        self._way: list[tuple[int, int, bytes]] = []
        self._order = 0

    def put(self, datagram: bytes, now: int) -> None:
        self.sent.append(datagram)
        copies = 2 if self.rng.random() < self.duplicate else 1
        for _ in range(copies):
            if self.rng.random() < self.loss or self.lose(datagram):
                continue
            self._order += 1
            at = now + self.delay_ms + self.rng.randint(0, self.jitter_ms)
            heapq.heappush(self._way, (at, self._order, datagram))

    def take(self, now: int) -> list[bytes]:
        out = []
        while self._way and self._way[0][0] <= now:
            out.append(heapq.heappop(self._way)[2])
        return out

    @property
    def next_at(self) -> int | None:
        return self._way[0][0] if self._way else None


class Pair:
    """`left` and `right` and the two lines between them; time goes from event to event."""

    def __init__(
        self,
        left: Peer,
        right: Peer,
        *,
        seed: int = 1,
        start_ms: int = 1000,
        delay_ms: int = 20,
        jitter_ms: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
    ) -> None:
        self.left = left
        self.right = right
        self.now = start_ms
        rng = random.Random(seed)
        self.to_right = Line(rng, delay_ms=delay_ms, jitter_ms=jitter_ms, loss=loss, duplicate=duplicate)
        self.to_left = Line(rng, delay_ms=delay_ms, jitter_ms=jitter_ms, loss=loss, duplicate=duplicate)

    def exchange(self) -> None:
        """Deliver what has arrived, then let both ends send what they may."""
        for line, end in ((self.to_right, self.right), (self.to_left, self.left)):
            for datagram in line.take(self.now):
                assert end.input(datagram, self.now) == 0
        for end, line in ((self.left, self.to_right), (self.right, self.to_left)):
            deadline = end.deadline
            if end.wants_flush or (deadline is not None and deadline <= self.now):
                for datagram in end.flush(self.now):
                    line.put(datagram, self.now)
                assert not end.wants_flush
                assert end.deadline is None or end.deadline > self.now

    def next_event(self) -> int | None:
        times = (self.to_right.next_at, self.to_left.next_at, self.left.deadline, self.right.deadline)
        return min((at for at in times if at is not None), default=None)

    def run(
        self,
        done: Callable[[], bool] = lambda: False,
        *,
        each: Callable[[], None] = lambda: None,
        limit_ms: int = 120_000,
    ) -> int:
        """Go on until `done()`, nothing is left to happen, or `limit_ms` have passed; returns the ms it took.

        `each` is what the users at both ends do at every event.
        """
        start = self.now
        while self.now - start <= limit_ms:
            each()
            self.exchange()
            if done():
                break
            at = self.next_event()
            if at is None:
                each()  # what the last exchange delivered
                if done() or not (self.left.wants_flush or self.right.wants_flush):
                    break
            else:
                self.now = max(at, self.now)
        return self.now - start


def new_kcp(engine: str, params: KcpParams = FAST, *, mtu: int = 1400, sn: int = 0) -> Kcp:
    """One end; typed as the plain one, whose interface the compiled one has."""
    kcp: Kcp = twin(engine, "Kcp")(CONV, mtu, params, initial_sn=sn)
    return kcp


class KcpPair(Pair):
    """Two equal ends of one engine."""

    left: Kcp
    right: Kcp

    def __init__(
        self, engine: str, params: KcpParams = FAST, *, mtu: int = 1400, sn: int = 0, **line: Any
    ) -> None:
        super().__init__(
            new_kcp(engine, params, mtu=mtu, sn=sn), new_kcp(engine, params, mtu=mtu, sn=sn), **line
        )


def messages_of(seed: int, count: int, most: int) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.randint(1, most)) for _ in range(count)]


class Segment(NamedTuple):
    """One segment of a datagram, taken apart by the documented layout."""

    conv: int
    cmd: int
    frg: int
    wnd: int
    ts: int
    sn: int
    una: int
    payload: bytes


PUSH, ACK, ASK, TELL = 81, 82, 83, 84


def segment(
    cmd: int, *, sn: int = 0, ts: int = 0, una: int = 0, wnd: int = 1024, frg: int = 0, payload: bytes = b""
) -> bytes:
    """A segment as a peer of conversation CONV would send it."""
    return struct.pack("<IBBHIIII", CONV, cmd, frg, wnd, ts, sn, una, len(payload)) + payload


def segments(datagrams: list[bytes]) -> list[Segment]:
    """All segments of some datagrams."""
    found = []
    for datagram in datagrams:
        at = 0
        while at < len(datagram):
            conv, cmd, frg, wnd, ts, sn, una, size = struct.unpack_from("<IBBHIIII", datagram, at)
            payload = datagram[at + 24 : at + 24 + size]
            found.append(Segment(conv, cmd, frg, wnd, ts, sn, una, payload))
            at += 24 + size
    return found
