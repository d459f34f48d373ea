"""What the two kcptube legs have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kcpg.core.env import Env
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcptube.cipher import Cipher
from kcpg.core.kcptube.link import Link, LinkState
from kcpg.core.kcptube.wire import Conv, Format, Wire
from kcpg.core.plainleg import PlainLeg

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


class TubeLeg(PlainLeg[Wire, Link, LegCounters]):
    """Base of TubeDialer and TubeListener. `kcp`: the engine's class if not the default one."""

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
        self.format = wire_format
        seeds = (int.from_bytes(env.entropy(2), "big"), int.from_bytes(env.entropy(2), "big"))
        cipher = Cipher(wire_format.algorithm, wire_format.password, seeds)
        wire = Wire(wire_format, cipher, env.wall_s, self._find, greets, kcp)
        super().__init__(
            name, env, wire, LegCounters(), _deadline, kcp_params, outbound_bps, wire_format.datagram_bytes
        )

    def advance(self, now_ms: int) -> None:
        self._clock(now_ms)
        for sock, addr, block in self.wire.take_strangers():
            self._stranger(sock, addr, block)
        self._serve_links(now_ms)
        self._serve(now_ms)
        self.wire.alert = False  # whatever asked for this turn had it

    # -- for the two legs --

    def _find(self, sock: int, addr: bytes, number: int) -> Conv | None:
        """Whose this datagram is."""
        raise NotImplementedError

    def _stranger(self, sock: int, addr: bytes, block: bytes) -> None:
        """Segments of conversation 0 that are nobody's."""

    def _serve(self, now_ms: int) -> None:
        """What the leg itself has to do."""
        raise NotImplementedError


def _deadline(link: Link) -> int | None:
    return None if link.state is LinkState.CLOSED else link.deadline()


def agreed_rate(own_bps: int, peer_bytes_s: int) -> int:
    """Bits per second that this end may send: its own limit and what the peer receives; 0 is no limit."""
    peer_bps = 8 * peer_bytes_s
    return min(own_bps, peer_bps) if own_bps and peer_bps else own_bps or peer_bps
