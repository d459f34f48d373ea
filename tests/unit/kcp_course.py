"""Two KCP conversations over a described network, millisecond by millisecond in virtual time, and the cost.

What kcpg's driver does on sockets is done here on `netem`'s impairment: all datagrams that have come are
taken in, then what may leave leaves, paced. Either end can be made to stand still, as a busy machine does.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kcpg.core.kcp.kcp import Kcp, KcpParams
from netem.impair import Direction
from netem.profile import Impair, load
from tests.unit.kcp_pair import ACK, PUSH, new_kcp, segments

MS = 1_000_000
LOWER_BYTES = 24 + 1 + 28  # of a datagram of ours beside its segments, and its UDP and IPv4 headers
BURST_BYTES = 10 * 1400  # a pacer admits at once
REGULAR = KcpParams(nodelay=1, interval_ms=1, resend=5, snd_wnd=4096, rcv_wnd=4096)


@dataclass
class Bill:
    """What one end sent over the network; `lost` are the pushes that did not come through."""

    pushes: int = 0
    lost: int = 0
    acks: int = 0
    datagrams: int = 0
    wire_bytes: int = 0
    payload_bytes: int = 0


@dataclass
class End:
    kcp: Kcp
    way: Direction
    rate_bps: int
    tokens: float = BURST_BYTES
    awake_ms: int = 0  # stands still before
    bill: Bill = field(default_factory=Bill)
    coming: list[tuple[int, int, bytes]] = field(default_factory=list)


def profile(name: str, rate_bps: int = 0) -> tuple[Impair, Impair]:
    """Both directions of a profile; `rate_bps`: of the line, instead of the profile's own."""
    found = load(name)
    if not rate_bps:
        return found.up, found.down
    return replace(found.up, rate_bps=rate_bps), replace(found.down, rate_bps=rate_bps)


class Course:
    """`client` and `server` joined by `up` and `down`. `pace_bps`: of both pacers; 0: none."""

    def __init__(
        self,
        engine: str,
        up: Impair,
        down: Impair,
        *,
        params: KcpParams = REGULAR,
        pace_bps: int = 0,
        seed: int = 1,
        stall_every_ms: int = 0,
    ) -> None:
        self.now = 1000
        self.client = End(new_kcp(engine, params), Direction(up, f"{seed}:up"), pace_bps)
        self.server = End(new_kcp(engine, params), Direction(down, f"{seed}:down"), pace_bps)
        self._order = 0
        self._rng = random.Random(f"{seed}:stalls")
        self._stall_every_ms = stall_every_ms

    def step(self) -> None:
        """One millisecond for both ends."""
        self.now += 1
        for end, other in ((self.client, self.server), (self.server, self.client)):
            if self._stall_every_ms and self._rng.random() * self._stall_every_ms < 1:
                end.awake_ms = max(end.awake_ms, self.now + self._rng.randint(20, 50))
            if self.now >= end.awake_ms:
                self._turn(end, other)

    def _turn(self, end: End, other: End) -> None:
        end.tokens = min(end.tokens + end.rate_bps / 8000, max(BURST_BYTES, end.rate_bps / 4000))
        for _ in range(4):  # an answer on the same machine comes within the millisecond
            self._take(end)
            due = end.kcp.deadline
            if not end.kcp.wants_flush and (due is None or due > self.now):
                return
            for datagram in end.kcp.flush(self.now, max(int(end.tokens), 0) if end.rate_bps else None):
                end.tokens -= len(datagram) + LOWER_BYTES
                self._send(end, other, datagram)

    def _take(self, end: End) -> None:
        while end.coming and end.coming[0][0] <= self.now * MS:
            datagram = heapq.heappop(end.coming)[2]
            assert end.kcp.input(datagram, self.now) == 0

    def _send(self, end: End, other: End, datagram: bytes) -> None:
        bill = end.bill
        arrivals = end.way.offer(self.now * MS, len(datagram) + LOWER_BYTES)
        for arrival in arrivals:
            if arrival.flipped_bit is None:  # a hurt one does not pass the seal
                self._order += 1
                heapq.heappush(other.coming, (arrival.due_ns, self._order, datagram))
        bill.datagrams += 1
        bill.wire_bytes += len(datagram) + LOWER_BYTES - 28
        for each in segments([datagram]):
            if each.cmd == PUSH:
                bill.pushes += 1
                bill.lost += not arrivals
                bill.payload_bytes += len(each.payload)
            bill.acks += each.cmd == ACK


@dataclass
class Result:
    """Of a bulk transfer: `again`, `fast`, `rto`, `tail` and `spurious` are segments of the sender."""

    took_ms: int
    sent: int
    lost: int
    fast: int
    rto: int
    tail: int
    spurious: int
    wire_per_payload: float
    ack_bytes_per_payload: float

    @property
    def again(self) -> int:
        return self.fast + self.rto + self.tail


def bulk(course: Course, nbytes: int, limit_ms: int = 120_000) -> Result:
    """The client sends `nbytes`; until all of it was read and acknowledged."""
    client, server = course.client, course.server
    piece = bytes(65536)
    left, got, start = nbytes, 0, course.now
    while got < nbytes or not client.kcp.idle:
        assert course.now - start < limit_ms, f"{got} of {nbytes} bytes after {limit_ms} ms"
        if left:
            left -= client.kcp.write(piece[:left])
        course.step()
        got += len(server.kcp.read(1 << 24))
    kcp = client.kcp
    return Result(
        course.now - start,
        kcp.segments_sent,
        client.bill.lost,
        kcp.segments_resent_fast,
        kcp.segments_resent_rto,
        getattr(kcp, "segments_resent_tail", 0),
        getattr(kcp, "resends_spurious", 0),
        client.bill.wire_bytes / nbytes,
        server.bill.acks * 24 / nbytes,
    )


def exchanges(course: Course, count: int, every_ms: int = 10) -> list[int]:
    """The client asks 64 bytes every `every_ms` ms and the server answers the same; sorted times."""
    asked: dict[int, int] = {}
    times: list[int] = []
    number = 0
    while len(times) < count:
        if number < count and (course.now - 1000) % every_ms == 0:
            asked[number] = course.now
            course.client.kcp.send(number.to_bytes(64, "big"))
            number += 1
        course.step()
        while (request := course.server.kcp.recv()) is not None:
            course.server.kcp.send(request)
        while (answer := course.client.kcp.recv()) is not None:
            times.append(course.now - asked[int.from_bytes(answer, "big")])
        assert course.now < 1000 + count * every_ms + 60_000, f"{len(times)} of {count} answers"
    return sorted(times)


def percentile(times: list[int], share: float) -> int:
    return times[min(int(len(times) * share), len(times) - 1)]


CASES: dict[str, Callable[[str, int], Course]] = {
    "lossy1 100M": lambda e, s: Course(e, *profile("lossy1", 100_000_000), pace_bps=95_000_000, seed=s),
    "lossy5 100M": lambda e, s: Course(e, *profile("lossy5", 100_000_000), pace_bps=95_000_000, seed=s),
    "lossy10 100M": lambda e, s: Course(e, *profile("lossy10", 100_000_000), pace_bps=95_000_000, seed=s),
    "bursty 50M": lambda e, s: Course(e, *profile("bursty", 50_000_000), pace_bps=45_000_000, seed=s),
    "reorder 50M": lambda e, s: Course(e, *profile("reorder"), pace_bps=50_000_000, seed=s),
    "mobile 9M": lambda e, s: Course(e, *profile("mobile"), pace_bps=9_000_000, seed=s),
    "wifi 90M": lambda e, s: Course(e, *profile("wifi"), pace_bps=90_000_000, seed=s),
    "wifi-bad 18M": lambda e, s: Course(e, *profile("wifi-bad"), pace_bps=18_000_000, seed=s),
    "loopback, stalls": lambda e, s: Course(
        e,
        Impair(limit=100_000),
        Impair(limit=100_000),
        pace_bps=1_000_000_000,
        seed=s,
        stall_every_ms=200,
        params=replace(REGULAR, snd_wnd=1024, rcv_wnd=1024),
    ),
}
