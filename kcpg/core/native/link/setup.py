"""What a link is made of and bound by, settled before it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kcpg.core.flow import Open
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.handshake.params import Incarnation, LinkParams
from kcpg.core.native.link.epochs import NewEpoch

if TYPE_CHECKING:
    from kcpg.core.native.link.convflow import ConvFlow
    from kcpg.core.native.wire.wire import LinkWire

RTT_UNKNOWN_MS = -1


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """How long a link is kept, and how much it may carry."""

    max_flows: int = 65_535  # Conversations at once: more than the ports one peer could open them from
    # A link that a handshake made and nobody uses is dropped. Dialers speak at once, but their word may take
    # long: over a 2G line, or behind a full queue of 64 kbit/s.
    fresh_ms: int = 45_000
    idle_ms: int | None = 600_000  # Without flows and silent for this long: dropped. None: kept.
    # With flows and silent for this long: given up. As long as a NAT must keep a TCP connection (RFC 5382:
    # 2 h 4 min).
    silent_ms: int = 7_440_000
    # With flows whose data nobody acknowledges: given up after as long as Linux's TCP would resend it
    # (tcp_retries2 = 15).
    unanswered_ms: int = 924_000
    # Of a dialer that began a new life, and does not answer on a link of an earlier one: given up.
    doubted_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class LinkSetup:
    """What a new link begins with. The link wire's path must be set before anything is sent.

    `epoch`: the first keys. `params`: what was agreed, as seen from this side. `kcp`: how conversations send
    again; their windows come from `params`. `find_mtu`: datagrams may be as large as the path takes, at most
    what was agreed; else they are as large as agreed. `rtt_ms`: how long the handshake took, if known.
    `on_flow` takes the flows that the peer opens; None: this is the dialer's side, where the peer opens none.
    """

    link_wire: LinkWire
    epoch: NewEpoch
    params: LinkParams
    kcp: KcpParams
    limits: LinkLimits
    find_mtu: bool
    rtt_ms: int = RTT_UNKNOWN_MS
    on_flow: Callable[[ConvFlow, Open, int], None] | None = None
    incarnation: Incarnation | None = None  # The dialer's, as the listener was told
    user_key: bytes = b""  # The dialer's public key, where the listener knows users by theirs

    @property
    def dials(self) -> bool:
        """This is the dialer's side."""
        return self.on_flow is None

    @property
    def conv_params(self) -> KcpParams:
        """How the conversations of this link work."""
        return replace(self.kcp, snd_wnd=self.params.snd_wnd, rcv_wnd=self.params.rcv_wnd)
