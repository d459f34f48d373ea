"""What the two kcptun legs have in common: one wire, many links, a timer for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kcpg.core.env import REPEAT_EVENT_MS, Env, Reporter
from kcpg.core.flow import Reset
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcptun.cipher import Cipher, derive
from kcpg.core.kcptun.link import Link
from kcpg.core.kcptun.wire import Conv, Format, Path, Wire
from kcpg.core.pacer import Pacer
from kcpg.core.timers import AskedTimers
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from kcpg.core.kcp.kcp import Kcp


@dataclass(slots=True)
class LegCounters:
    """What happens to links as a whole."""

    called: int = 0  # Links that were begun (dialer)
    no_answer: int = 0  # Of these: never heard
    links_opened: int = 0
    links_closed: int = 0
    links_lost: int = 0  # Of these: not at their end
    links_full: int = 0
    links_evicted: int = 0  # Links that nothing had made one yet and that gave way to others (listener)
    flows_unreachable: int = 0  # Flows that waited for a link in vain (dialer)
    flows_refused: int = 0  # Flows that the format cannot carry (dialer)
    sockets_missing: int = 0
    unresolved: int = 0
    too_big: int = 0  # Datagrams that an interface did not take: kcp_mtu is too large


class TunLeg:
    """Base of TunDialer and TunListener; their turns are those of the native legs. `kcp`: the engine's
    class if not the default one."""

    def __init__(
        self,
        name: str,
        wire_format: Format,
        kcp_params: KcpParams,
        outbound_bps: int,
        env: Env,
        kcp: type[Kcp] | None,
    ) -> None:
        self.name = name
        self.env = env
        self.format = wire_format
        self.kcp_params = kcp_params
        self.counters = LegCounters()
        self.now_ms = 0
        cipher = Cipher(wire_format.crypt, derive(wire_format.password))
        self.wire = Wire(wire_format, cipher, env.entropy, self._stranger, kcp)
        self.pacer = Pacer(outbound_bps, wire_format.datagram_bytes)
        self._links: dict[Link, None] = {}
        self._timers: AskedTimers[Link] = AskedTimers(Link.deadline)
        self._reporter = Reporter(name, env.report)

    @property
    def links(self) -> list[Link]:
        """The links there are, oldest first."""
        return list(self._links)

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        self.now_ms = now_ms
        self.wire.receive(sock, addr, datagram, now_ms)

    def transmit(self, now_ms: int) -> list[tuple[int, bytes, bytes]]:
        return self.wire.transmit(now_ms)

    def advance(self, now_ms: int) -> None:
        self._clock(now_ms)
        self.wire.alert = False
        self._hear()
        for conv, events in self.wire.take_ready():
            if not conv.closed:
                conv.user.ready(events)
        for link in self._timers.take_due(now_ms):
            link.advance(now_ms)
            self._timers.touch(link)
        self._serve(now_ms)

    def deadline(self) -> int | None:
        if self.wire.news:
            return self.now_ms
        return earliest(self.wire.deadline(), self.advance_deadline())

    def advance_deadline(self) -> int | None:
        return earliest(self._timers.first(), self._own_deadline())

    def too_big(self, sock: int, addr: bytes, size: int) -> None:
        """The kernel refused to send a datagram of `size` bytes by this path. Segments that were cut cannot
        be cut again, so somebody has to configure less."""
        self.counters.too_big += 1
        text = f"datagrams of {size} bytes are too long for the interface; set kcp_mtu="
        self.report("too_big", addr, text, REPEAT_EVENT_MS)

    # -- LinkOwner --

    def link_touched(self, link: Link) -> None:
        self._timers.touch(link)
        self.wire.alert = True

    def link_over(self, link: Link, reason: Reset | None) -> None:
        self._links.pop(link, None)
        self._timers.forget(link)
        self.counters.links_closed += 1
        if reason is not None:
            self.counters.links_lost += 1

    # -- for the two legs --

    def _stranger(self, path: Path, segments: bytes) -> Conv | None:
        """Whose these are, of an unknown path or with another number than the path's."""
        raise NotImplementedError

    def _hear(self) -> None:
        """Some conversation may have been heard for the first time."""

    def _serve(self, now_ms: int) -> None:
        """What the leg itself has to do."""
        raise NotImplementedError

    def _own_deadline(self) -> int | None:
        """When the leg itself must be called."""
        raise NotImplementedError

    def converse(self, number: int, path: Path) -> Conv:
        """A conversation by this path."""
        conv = Conv(self.wire, number, self.kcp_params, None, path)
        conv.pacers = (self.pacer,)
        return conv

    def add(self, link: Link) -> None:
        """A link is there."""
        self._links[link] = None
        self.counters.links_opened += 1
        self.link_touched(link)

    def report(self, kind: str, peer: bytes, text: str, at_most_every_ms: int = 0) -> None:
        """Tell an event."""
        self._reporter.report(kind, peer, text, self.now_ms, at_most_every_ms)

    def _clock(self, now_ms: int) -> None:
        self.now_ms = self.wire.now_ms = now_ms


def in_words(link: Link) -> str:
    """What both ends of a link have found to be alike."""
    compression = "snappy" if link.frames.compresses else "no compression"
    return f"{link.conv.wire.format.crypt}, smux {link.version or '?'}, {compression}"
