"""How large a link's datagrams may be: what its path takes is found by asking (DPLPMTUD, RFC 8899).

Sizes are those of UDP payloads. Each end asks for the direction it sends in: an MTU_PROBE is as long as what
it asks about, an MTU_ACK says that it came. No ICMP is needed, and none is believed. Nothing depends on a
probe, so data flows meanwhile, at a size that every path in use takes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kcpg.core.native.wire import frames

if TYPE_CHECKING:
    from kcpg.core.native.link.liveness import Liveness
    from kcpg.core.native.wire.counters import LinkCounters
    from kcpg.core.native.wire.wire import LinkWire

LEAST_BYTES = 548  # What every IPv4 host takes (RFC 791: 576), less its headers

# What paths are expected to take before anything is known (RFC 9000, 14: the least for QUIC); fits IPv6's
# 1,280.
BASE_BYTES = 1200

# IP MTUs that are met: the least of IPv6, tunnels, WireGuard, clouds, GRE, PPPoE, Ethernet, jumbo.
_NETWORKS = (1280, 1400, 1420, 1452, 1472, 1480, 1492, 1500, 9000)

# Their UDP payloads, for IPv4 and IPv6.
LADDER = tuple(sorted({mtu - headers for mtu in _NETWORKS for headers in (28, 48)}))

# Asked at once, with the largest of all: Ethernet is found in one round trip, most tunnels nearly so.
FIRST = (BASE_BYTES, 1392, 1472)

RESOLUTION_BYTES = 16  # The search ends when it is known to within this: 1 % of a datagram

TRIES = 3  # MAX_PROBES of RFC 8899: a size of which this many probes are lost in a row does not pass

# Least time until a probe counts as lost, so that those that do not pass are no more than 2 in the 250 ms by
# which `quality` judges a path.
WAIT_MS = 150

RAISE_MS = 600_000  # PMTU_RAISE_TIMER of RFC 8899: then larger sizes are asked for again

# How often the size in use is confirmed while much is sent: what nobody acknowledges tells nothing.
CONFIRM_MS = 30_000

CONFIRM_DATAGRAMS = 16  # Sent since the last time, so that it is worth the probe

# Segments sent again by time-out that raise the question whether full datagrams still pass.
CHECK_TIMEOUTS = 2

# Least time between two such questions; doubled while the answer is yes, as loss may be the path's habit.
CHECK_MS = 1000
CHECK_MOST_MS = 8000

_OPAQUE = struct.Struct(">II")  # number of the path, size


class PathMtu:
    """Of one link's sending direction, as long as the link lives.

    `most`: what was agreed. `find` False: somebody configured it, so it is used unasked until it is seen not
    to pass. Call `advance` often while the peer is heard. Sets the link wire's `datagram_bytes`.
    """

    def __init__(
        self, link_wire: LinkWire, liveness: Liveness, counters: LinkCounters, most: int, find: bool
    ) -> None:
        self.limit = most if not find else min(BASE_BYTES, most)  # Bytes of UDP payload that may be sent now
        self.searching = False
        self._link_wire = link_wire
        self._liveness = liveness
        self._counters = counters
        self._most = most
        self._find = find
        self._failed = most + 1  # the smallest size known not to pass
        self._asked: dict[int, int] = {}  # size: how often
        self._path = 0
        self._due_ms = 0
        self._heard = 0
        self._timeouts = 0
        self._sent = 0
        self._raise_ms = self._confirm_ms = self._check_ms = 0
        self._check_wait_ms = CHECK_MS
        self._apply()
        if find and most > self.limit:
            self._search()

    # -- what happens --

    def agree(self, most: int, now_ms: int) -> None:
        """A resumed link may have agreed on another limit."""
        if most == self._most:
            return
        self._most = most
        self._failed = most + 1
        self.limit = most if not self._find else min(self.limit, most)
        self.moved(now_ms)

    def moved(self, now_ms: int, elsewhere: bool = False) -> None:
        """The link sends by another path now: begin with what is safe, and ask whether the former size
        passes. `elsewhere`: to another host or network, so that what failed on the way there says nothing."""
        self._path += 1
        if elsewhere:
            self._failed = self._most + 1
        self._asked = {}
        if self._find:
            former, self.limit = self.limit, min(self.limit, BASE_BYTES)
            self.searching = True
            if former > BASE_BYTES:
                self._ask((self.limit, former))
            self._next(now_ms)
        self._apply()

    def acked(self, opaque: bytes, now_ms: int) -> None:
        """An MTU_ACK came."""
        path, size = _OPAQUE.unpack(opaque)
        late = size not in self._asked
        if path != self._path & 0xFFFFFFFF or size > self._most or (late and size <= self.limit):
            return
        if size >= self._failed:
            self._failed = self._most + 1
        self.limit = max(self.limit, size)
        self._asked = {other: tries for other, tries in self._asked.items() if other > size}
        self._next(now_ms)
        self._apply()

    def refused(self, size: int, now_ms: int) -> None:
        """The kernel does not send datagrams of this size: the network interface takes less."""
        self._drop(size, now_ms)
        self._next(now_ms)
        self._apply()

    def advance(self, now_ms: int, used: bool) -> None:
        """Ask what is due. Only while the peer is heard. `used`: the link has flows."""
        if self._asked:
            if self.limit not in self._asked and self._doubted(now_ms):
                self._asked[self.limit] = self._due_ms = 0
            if now_ms >= self._due_ms:
                self._ask_again(now_ms)
        else:
            self._inspect(now_ms, used)
        self._apply()

    def deadline(self, used: bool) -> int | None:
        """When `advance` has something to do though nothing happens."""
        if self._asked:
            return self._due_ms
        if not used or not self._find:
            return None
        return min(self._raise_ms, self._confirm_ms)

    # -- asking --

    def _search(self) -> None:
        self.searching = True
        self._ask(size for size in (*FIRST, self._most) if self.limit <= size < self._failed)

    def _ask(self, sizes: Iterable[int]) -> None:
        self._asked = dict.fromkeys(sizes, 0)
        self._due_ms = 0

    def _ask_again(self, now_ms: int) -> None:
        """What was not asked yet, all; then the smallest, as those above it can only pass if it does."""
        fresh = [size for size, tries in self._asked.items() if not tries]
        smallest = min(self._asked)
        if not fresh and self._link_wire.rx_datagrams == self._heard:
            self._liveness.ping(now_ms)  # nothing at all came: that is no question of size
        elif not fresh and self._asked[smallest] >= TRIES:
            self._drop(smallest, now_ms)
            self._next(now_ms)
            return
        else:
            for size in fresh or [smallest]:
                self._send(size)
            if not fresh or self.limit in fresh:
                self._liveness.ping(now_ms)  # its answer tells a size that does not pass from silence
            self._heard = self._link_wire.rx_datagrams
        self._due_ms = now_ms + max(self._liveness.rto_ms, WAIT_MS)

    def _send(self, size: int) -> None:
        self._asked[size] += 1
        opaque = _OPAQUE.pack(self._path & 0xFFFFFFFF, size)
        self._link_wire.send(frames.MTU_PROBE, opaque + bytes(size - self._link_wire.OVERHEAD - len(opaque)))
        self._counters.mtu_probes += 1

    def _drop(self, size: int, now_ms: int) -> None:
        """This size does not pass, and what is larger does not either."""
        self._failed = min(self._failed, size)
        self._asked = {other: tries for other, tries in self._asked.items() if other < size}
        if size > self.limit or size <= LEAST_BYTES:
            return
        self.limit = min(BASE_BYTES if size > BASE_BYTES else LEAST_BYTES, self._most)
        self._find = True
        self._check_wait_ms = CHECK_MS
        self._counters.mtu_shrinks += 1
        self._search()
        self._link_wire.hurry(now_ms)

    def _next(self, now_ms: int) -> None:
        """What to ask next: upwards, as a size that passes costs one round trip, and one that does not costs
        several."""
        if self._asked:
            return
        if self.searching:
            above = [size for size in LADDER if self.limit < size < self._failed]
            if above:
                self._ask(above[:1])
                return
            if self._failed - self.limit > RESOLUTION_BYTES:
                self._ask([(self._failed + self.limit) // 2])
                return
            self.searching = False
            if self._raise_ms <= now_ms:  # a hop in between does not put it off
                self._raise_ms = now_ms + RAISE_MS
        self._rest(now_ms)

    # -- watching what was found --

    def _rest(self, now_ms: int) -> None:
        self._confirm_ms = now_ms + CONFIRM_MS
        self._sent = self._link_wire.tx_datagrams

    def _doubted(self, now_ms: int) -> bool:
        """Whether segments timed out, so that it may be because of their size."""
        if self._link_wire.timeouts - self._timeouts < CHECK_TIMEOUTS or now_ms < self._check_ms:
            return False
        self._timeouts = self._link_wire.timeouts
        self._check_ms = now_ms + self._check_wait_ms
        self._check_wait_ms = min(2 * self._check_wait_ms, CHECK_MOST_MS)
        return True

    def _inspect(self, now_ms: int, used: bool) -> None:
        if self._doubted(now_ms):
            self._ask([self.limit])
        elif self._find and used and now_ms >= self._raise_ms:
            self._failed = self._most + 1
            self._search()
        elif self._find and used and now_ms >= self._confirm_ms:
            if self._link_wire.tx_datagrams - self._sent >= CONFIRM_DATAGRAMS:
                self._ask([self.limit])
            else:
                self._rest(now_ms)
        if self._asked:
            self._ask_again(now_ms)

    def _apply(self) -> None:
        if self.limit != self._link_wire.datagram_bytes:
            self._link_wire.datagram_bytes = self.limit
