"""What the two kcptube legs have in common: one wire, many links, a timer for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kcpg.core.env import REPEAT_EVENT_MS, Env, Reporter
from kcpg.core.flow import Reset
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcptube.cipher import Cipher
from kcpg.core.kcptube.link import Link, LinkState
from kcpg.core.kcptube.wire import Conv, Format, Wire
from kcpg.core.pacer import Pacer
from kcpg.core.timers import AskedTimers
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from kcpg.core.kcp.kcp import Kcp

# How conversation 0 retransmits, at both ends.
GREETING = KcpParams(nodelay=1, interval_ms=1, resend=3, nc=True, snd_wnd=32, rcv_wnd=128)

FIRST_NUMBER = 32  # Of a data conversation; kcptube keeps those below for itself


@dataclass(slots=True)
class LegCounters:
    """What happens before there is a link, and to links as a whole."""

    asked: int = 0  # Requests for a link and probes, repeated ones with a new port included (dialer)
    answered: int = 0  # Requests and probes that were answered (listener)
    no_answer: int = 0  # Requests and probes that ran out of time (dialer)
    refused: int = 0  # Requests that ended in a refusal, on either side
    messages_malformed: int = 0
    greetings_evicted: int = 0  # Unanswered requests that gave way to others (listener)
    links_opened: int = 0
    links_closed: int = 0
    links_lost: int = 0  # Of these: because nothing came any more
    links_full: int = 0
    flows_unreachable: int = 0  # Flows that waited for a link in vain (dialer)
    sockets_missing: int = 0
    unresolved: int = 0
    too_big: int = 0  # Datagrams that an interface did not take: mtu is too large


class TubeLeg:
    """Base of TubeDialer and TubeListener; their turns are those of the native legs. `kcp`: the engine's
    class if not the default one."""

    def __init__(
        self,
        name: str,
        wire_format: Format,
        kcp_params: KcpParams,
        outbound_bps: int,
        env: Env,
        greets: bool,
        kcp: type[Kcp] | None,
    ) -> None:
        self.name = name
        self.env = env
        self.format = wire_format
        self.kcp_params = kcp_params
        self.counters = LegCounters()
        self.now_ms = 0
        seeds = (int.from_bytes(env.entropy(2), "big"), int.from_bytes(env.entropy(2), "big"))
        cipher = Cipher(wire_format.algorithm, wire_format.password, seeds)
        self.wire = Wire(wire_format, cipher, env.wall_s, self._find, greets, kcp)
        self.pacer = Pacer(outbound_bps, wire_format.datagram_bytes)
        self._links: dict[Link, None] = {}
        self._timers: AskedTimers[Link] = AskedTimers(_deadline)
        self._reporter = Reporter(name, env.report)

    @property
    def links(self) -> list[Link]:
        """The links there are, oldest first."""
        return list(self._links)

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        self.wire.receive(sock, addr, datagram, now_ms)

    def transmit(self, now_ms: int) -> list[tuple[int, bytes, bytes]]:
        return self.wire.transmit(now_ms)

    def advance(self, now_ms: int) -> None:
        self._clock(now_ms)
        for sock, addr, block in self.wire.take_strangers():
            self._stranger(sock, addr, block)
        for conv, events in self.wire.take_ready():
            if not conv.closed:
                conv.user.ready(events)
        for link in self._timers.take_due(now_ms):
            link.advance(now_ms)
            self._timers.touch(link)
        self._serve(now_ms)
        self.wire.alert = False  # whatever asked for this turn had it

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
        text = f"datagrams of {size} bytes are too long for the interface; set mtu="
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

    def _find(self, sock: int, addr: bytes, number: int) -> Conv | None:
        """Whose this datagram is."""
        raise NotImplementedError

    def _stranger(self, sock: int, addr: bytes, block: bytes) -> None:
        """Segments of conversation 0 that are nobody's."""

    def _serve(self, now_ms: int) -> None:
        """What the leg itself has to do."""
        raise NotImplementedError

    def _own_deadline(self) -> int | None:
        """When the leg itself must be called."""
        raise NotImplementedError

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


def _deadline(link: Link) -> int | None:
    return None if link.state is LinkState.CLOSED else link.deadline()


def agreed_rate(own_bps: int, peer_bytes_s: int) -> int:
    """Bits per second that this end may send: its own limit and what the peer receives; 0 is no limit."""
    peer_bps = 8 * peer_bytes_s
    return min(own_bps, peer_bps) if own_bps and peer_bps else own_bps or peer_bps
