"""Two KCP conversations joined by lossy lines in virtual time; used by the KCP tests of every directory."""

from __future__ import annotations

import random
import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from kcpg.core.kcp.kcp import Kcp, KcpParams
from netem.profile import Chance, Impair
from tests.engines import twin
from tests.line import MS, Line

CONV = 77
FAST = KcpParams(nodelay=1, interval_ms=10, resend=2)
LOWER_BYTES = 24 + 1 + 28  # of a datagram of ours beside its segments, and its UDP and IPv4 headers
BURST_BYTES = 10 * 1400  # a pacer admits at once


class Peer(Protocol):
    """What a simulation needs of an end: a Kcp, or ikcp in its clothes."""

    @property
    def wants_flush(self) -> bool: ...
    @property
    def deadline(self) -> int | None: ...
    def input(self, data: bytes, now_ms: int) -> int: ...
    def flush(self, now_ms: int) -> list[bytes]: ...


def impaired(*, delay_ms: int = 20, jitter_ms: int = 0, loss: float = 0.0, duplicate: float = 0.0) -> Impair:
    """Loses, duplicates, and delays by up to `jitter_ms` more, which reorders what leaves closer together."""
    return Impair(
        delay_ns=delay_ms * MS + jitter_ms * MS // 2,
        jitter_ns=jitter_ms * MS // 2,
        loss=Chance(loss),
        duplicate=Chance(duplicate),
        limit=100_000,
    )


class KcpLine:
    """One direction, for datagrams, by the millisecond. `lose(datagram)` decides before the line does.

    `sent`: every datagram; `gone`: which of them, by number, no copy came through of.
    """

    def __init__(self, impair: Impair, seed: str) -> None:
        self._line: Line[bytes] = Line(impair, seed)
        self.lose: Callable[[bytes], bool] = lambda datagram: False
        self.sent: list[bytes] = []
        self.gone: set[int] = set()

    def put(self, datagram: bytes, now: int) -> None:
        self.sent.append(datagram)
        if self.lose(datagram) or not self._line.put(datagram, len(datagram) + LOWER_BYTES, now * MS):
            self.gone.add(len(self.sent) - 1)

    def take(self, now: int) -> list[bytes]:
        """What has arrived; a hurt one does not pass the seal."""
        return [arrival.item for arrival in self._line.take(now * MS) if arrival.flipped_bit is None]

    def delay(self, delay_ms: int, now: int) -> None:
        """Another delay for what is sent from now on."""
        direction = self._line.direction
        direction.change(replace(direction.impair, delay_ns=delay_ms * MS), now * MS)

    @property
    def next_at(self) -> int | None:
        due_ns = self._line.next_ns
        return None if due_ns is None else -(-due_ns // MS)


class Pacer:
    """Tokens of one end: what a line of `rate_bps` takes, and a little at once."""

    def __init__(self, rate_bps: int, now: int) -> None:
        self.rate_bps = rate_bps
        self._tokens: float = BURST_BYTES
        self._at = now

    def tokens(self, now: int) -> int:
        """Bytes that may leave now."""
        most = max(BURST_BYTES, self.rate_bps / 4000)
        self._tokens = min(self._tokens + (now - self._at) * self.rate_bps / 8000, most)
        self._at = now
        return max(int(self._tokens), 0)

    def spend(self, nbytes: int) -> None:
        self._tokens -= nbytes


class Stalls:
    """When an end stands still for 20 to 50 ms, as a busy machine does: once per `every_ms` on average."""

    def __init__(self, every_ms: int, seed: str, now: int) -> None:
        self._rng = random.Random(seed)
        self._every_ms = every_ms
        self._begins = [now]
        self._ends = [now]

    def awake_at(self, at: int) -> int:
        """`at`, or the end of the stall that it falls into. Asked for any time, later or earlier."""
        while self._ends[-1] <= at:
            self._begins.append(self._ends[-1] + round(self._rng.expovariate(1 / self._every_ms)))
            self._ends.append(self._begins[-1] + self._rng.randint(20, 50))
        number = bisect_right(self._ends, at)  # the first that is not over
        return self._ends[number] if self._begins[number] <= at else at


class KcpEnd:
    """One end of a simulation: its lines, and what holds it back, if anything does."""

    def __init__(
        self, kcp: Peer, inward: KcpLine, outward: KcpLine, pacer: Pacer | None, stalls: Stalls | None
    ) -> None:
        self.kcp = kcp
        self.inward = inward
        self.outward = outward
        self.pacer = pacer
        self.stalls = stalls

    def take(self, now: int) -> None:
        """What has arrived."""
        if self.is_awake(now):
            for datagram in self.inward.take(now):
                assert self.kcp.input(datagram, now) == 0

    def send(self, now: int) -> None:
        """What may leave."""
        kcp = self.kcp
        deadline = kcp.deadline
        if not (kcp.wants_flush or (deadline is not None and deadline <= now)) or not self.is_awake(now):
            return
        if self.pacer is None:
            for datagram in kcp.flush(now):
                self.outward.put(datagram, now)
            assert not kcp.wants_flush
        else:
            for datagram in kcp.flush(now, self.pacer.tokens(now)):  # type: ignore[call-arg]
                self.pacer.spend(len(datagram) + LOWER_BYTES)
                self.outward.put(datagram, now)
        assert kcp.deadline is None or kcp.deadline > now

    def is_awake(self, now: int) -> bool:
        return self.stalls is None or self.stalls.awake_at(now) <= now

    def due(self, now: int) -> int | None:
        """When it has something to do: never while it stands still."""
        at, deadline = self.inward.next_at, self.kcp.deadline
        if at is None or (deadline is not None and deadline < at):
            at = deadline
        if self.kcp.wants_flush:
            wanted = now + (self.pacer is not None)  # 1: the pacer held it
            at = wanted if at is None else min(at, wanted)
        if at is None:
            return None
        at = max(at, now)
        return at if self.stalls is None else self.stalls.awake_at(at)


class KcpSim:
    """`left` and `right` and the lines between them; time goes from event to event.

    What kcpg's driver does on sockets is done here on `netem`'s impairment: all datagrams that have come are
    taken in, then what may leave leaves, paced. Either end can be made to stand still.
    """

    def __init__(
        self,
        left: Peer,
        right: Peer,
        up: Impair | None = None,
        down: Impair | None = None,
        *,
        seed: int = 1,
        start_ms: int = 1000,
        pace_bps: int = 0,
        stall_every_ms: int = 0,
        **both: float,
    ) -> None:
        """`up` and `down`: of the two lines; without them `both` says what `impaired` makes them."""
        self.left = left
        self.right = right
        self.now = start_ms
        alike = impaired(**both)  # type: ignore[arg-type]
        self.to_right = KcpLine(up or alike, f"{seed}:up")
        self.to_left = KcpLine(down or alike, f"{seed}:down")
        ways = (left, self.to_left, self.to_right), (right, self.to_right, self.to_left)
        self._left, self._right = (
            KcpEnd(
                *way,
                Pacer(pace_bps, start_ms) if pace_bps else None,
                Stalls(stall_every_ms, f"{seed}:stalls:{side}", start_ms) if stall_every_ms else None,
            )
            for side, way in zip(("left", "right"), ways, strict=True)
        )

    def exchange(self) -> None:
        """Deliver what has arrived, then let both ends send what they may."""
        now = self.now
        self._right.take(now)
        self._left.take(now)
        self._left.send(now)
        self._right.send(now)

    def next_event(self) -> int | None:
        left, right = self._left.due(self.now), self._right.due(self.now)
        if left is None or right is None:
            return right if left is None else left
        return min(left, right)

    def advance(self, most: int) -> None:
        """To the next event, or to `most` if that is sooner."""
        at = self.next_event()
        self.now = most if at is None else min(at, most)

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
                self.now = at
        return self.now - start


def new_kcp(engine: str, params: KcpParams = FAST, *, mtu: int = 1400, sn: int = 0) -> Kcp:
    """One end; typed as the plain one, whose interface the compiled one has."""
    kcp: Kcp = twin(engine, "Kcp")(CONV, mtu, params, initial_sn=sn)
    return kcp


class KcpPair(KcpSim):
    """Two equal ends of one engine."""

    left: Kcp
    right: Kcp

    def __init__(
        self, engine: str, params: KcpParams = FAST, *, mtu: int = 1400, sn: int = 0, **simulation: Any
    ) -> None:
        super().__init__(
            new_kcp(engine, params, mtu=mtu, sn=sn), new_kcp(engine, params, mtu=mtu, sn=sn), **simulation
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
