"""What the two kcptun legs have in common."""

from __future__ import annotations

from dataclasses import dataclass

from kcpg import engine
from kcpg.core.env import Env
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcptun.link import Link
from kcpg.core.kcptun.wire import Format, TunConv, TunWire
from kcpg.core.plainleg import PlainLeg
from kcpg.core.plainwire import Path


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


class TunLeg(PlainLeg[TunWire, Link, LegCounters]):
    """Base of TunDialer and TunListener. `wire`: the engine's class if not the default one."""

    MTU_KEY = "kcp_mtu"

    def __init__(
        self,
        name: str,
        wire_format: Format,
        kcp_params: KcpParams,
        outbound_bps: int,
        env: Env,
        wire: type[TunWire] | None,
    ) -> None:
        self.format = wire_format
        wire = wire or engine.module("kcpg.core.kcptun.wire").TunWire
        super().__init__(
            name,
            env,
            wire(wire_format, env.entropy, self._stranger),
            LegCounters(),
            Link.deadline,
            kcp_params,
            outbound_bps,
            wire_format.datagram_bytes,
        )

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        self.now_ms = now_ms
        super().receive(sock, addr, datagram, now_ms)

    def advance(self, now_ms: int) -> None:
        self._clock(now_ms)
        self.wire.alert = False
        self._hear()
        self._serve_links(now_ms)
        self._serve(now_ms)

    # -- for the two legs --

    def _stranger(self, path: Path, segments: bytes) -> TunConv | None:
        """Whose these are, of an unknown path or with another number than the path's."""
        raise NotImplementedError

    def _hear(self) -> None:
        """Some conversation may have been heard for the first time."""

    def _serve(self, now_ms: int) -> None:
        """What the leg itself has to do."""
        raise NotImplementedError

    def converse(self, number: int, path: Path) -> TunConv:
        """A conversation by this path."""
        conv = self.wire.converse(number, self.kcp_params, path)
        conv.pacers = (self.pacer,)
        return conv


def in_words(link: Link) -> str:
    """What both ends of a link have found to be alike."""
    compression = "snappy" if link.frames.compresses else "no compression"
    return f"{link.conv.wire.format.crypt}, smux {link.version or '?'}, {compression}"
