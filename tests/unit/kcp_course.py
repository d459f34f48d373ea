"""What a bulk transfer, and questions and answers, cost over described networks, in virtual time."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from kcpg.core.kcp.kcp import KcpParams
from netem.profile import Impair, load
from tests.unit.kcp_pair import ACK, LOWER_BYTES, PUSH, KcpLine, KcpPair

UDP_BYTES = 28  # UDP and IPv4 headers, which the bill leaves out
REGULAR = KcpParams(nodelay=1, interval_ms=1, resend=5, snd_wnd=4096, rcv_wnd=4096)


@dataclass
class Bill:
    """What one end sent over the network; `lost` are the pushes that did not come through."""

    pushes: int = 0
    lost: int = 0
    acks: int = 0
    wire_bytes: int = 0
    payload_bytes: int = 0


def bill_of(line: KcpLine) -> Bill:
    """Of everything that was sent on a line."""
    bill = Bill()
    for number, datagram in enumerate(line.sent):
        bill.wire_bytes += len(datagram) + LOWER_BYTES - UDP_BYTES
        at = 0
        while at < len(datagram):
            cmd, size = struct.unpack_from("<4xB15xI", datagram, at)
            at += 24 + size
            bill.acks += cmd == ACK
            if cmd == PUSH:
                bill.pushes += 1
                bill.lost += number in line.gone
                bill.payload_bytes += size
    return bill


def profile(name: str, rate_bps: int = 0) -> tuple[Impair, Impair]:
    """Both directions of a profile; `rate_bps`: of the line, instead of the profile's own."""
    found = load(name)
    if not rate_bps:
        return found.up, found.down
    return replace(found.up, rate_bps=rate_bps), replace(found.down, rate_bps=rate_bps)


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


def bulk(course: KcpPair, nbytes: int, limit_ms: int = 120_000) -> Result:
    """The left end sends `nbytes`; until all of it was read and acknowledged."""
    left, right = course.left, course.right
    piece = bytes(65536)
    unsent, got = nbytes, 0

    def each() -> None:
        nonlocal unsent, got
        if unsent:
            unsent -= left.write(piece[:unsent])
        got += len(right.read(1 << 24))

    took_ms = course.run(lambda: got == nbytes and left.idle, each=each, limit_ms=limit_ms)
    assert got == nbytes and left.idle, f"{got} of {nbytes} bytes after {took_ms} ms"
    bill = bill_of(course.to_right)
    return Result(
        took_ms,
        left.segments_sent,
        bill.lost,
        left.segments_resent_fast,
        left.segments_resent_rto,
        left.segments_resent_tail,
        left.resends_spurious,
        bill.wire_bytes / nbytes,
        bill_of(course.to_left).acks * 24 / nbytes,
    )


def exchanges(course: KcpPair, count: int, every_ms: int = 10) -> list[int]:
    """The left end asks 64 bytes every `every_ms` ms and the right one answers the same; sorted times."""
    asked: list[int] = []
    times: list[int] = []
    start, limit_ms = course.now, count * every_ms + 60_000
    while len(times) < count:
        ask_at = start + len(asked) * every_ms
        if len(asked) < count and course.now >= ask_at:
            course.left.send(len(asked).to_bytes(64, "big"))
            asked.append(course.now)
            ask_at += every_ms
        course.exchange()
        while (request := course.right.recv()) is not None:
            course.right.send(request)
        while (answer := course.left.recv()) is not None:
            times.append(course.now - asked[int.from_bytes(answer, "big")])
        assert course.now < start + limit_ms, f"{len(times)} of {count} answers"
        course.advance(ask_at if len(asked) < count else start + limit_ms)
    return sorted(times)


def percentile(times: list[int], share: float) -> int:
    return times[min(int(len(times) * share), len(times) - 1)]


def course(engine: str, up: Impair, down: Impair, params: KcpParams = REGULAR, **simulation: int) -> KcpPair:
    """Two ends over these lines."""
    return KcpPair(engine, params, up=up, down=down, **simulation)


CASES: dict[str, Callable[[str, int], KcpPair]] = {
    "lossy1 100M": lambda e, s: course(e, *profile("lossy1", 100_000_000), pace_bps=95_000_000, seed=s),
    "lossy5 100M": lambda e, s: course(e, *profile("lossy5", 100_000_000), pace_bps=95_000_000, seed=s),
    "lossy10 100M": lambda e, s: course(e, *profile("lossy10", 100_000_000), pace_bps=95_000_000, seed=s),
    "bursty 50M": lambda e, s: course(e, *profile("bursty", 50_000_000), pace_bps=45_000_000, seed=s),
    "reorder 50M": lambda e, s: course(e, *profile("reorder"), pace_bps=50_000_000, seed=s),
    "mobile 9M": lambda e, s: course(e, *profile("mobile"), pace_bps=9_000_000, seed=s),
    "wifi 90M": lambda e, s: course(e, *profile("wifi"), pace_bps=90_000_000, seed=s),
    "wifi-bad 18M": lambda e, s: course(e, *profile("wifi-bad"), pace_bps=18_000_000, seed=s),
    "loopback, stalls": lambda e, s: course(
        e,
        Impair(limit=100_000),
        Impair(limit=100_000),
        pace_bps=1_000_000_000,
        seed=s,
        stall_every_ms=200,
        params=replace(REGULAR, snd_wnd=1024, rcv_wnd=1024),
    ),
}
