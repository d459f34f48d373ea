"""The kcptun leg that listens: takes links, whatever their smux version, compression and FEC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kcpg.core.env import REPEAT_EVENT_MS, Env, EventKind
from kcpg.core.flow import Flow, Open, Reset, ResetCode
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcp.params import CMD_PUSH, CMD_TELL, HEADER
from kcpg.core.kcptun.cipher import OPEN
from kcpg.core.kcptun.flow import StreamFlow
from kcpg.core.kcptun.framestream import StreamSettings
from kcpg.core.kcptun.leg import TunLeg, in_words
from kcpg.core.kcptun.link import Link, LinkState
from kcpg.core.kcptun.wire import FIRST_WINDOW, Format, TunConv, TunWire
from kcpg.core.plainwire import Path
from kcpg.core.units import diff32

MAX_LINKS = 16_384  # Links at once; an idle one takes some 10 kB

# Links that sent nothing that makes them one yet; then the oldest gives way. With `null`, `none` and `xor`
# anybody can begin one, from any address.
MAX_FRESH = 256

# A datagram from a new address belongs to the link whose window is so near. Copies of what is nearer are
# remembered.
NEAR_SEGMENTS = 4096


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """How a TunListener works."""

    name: str
    format: Format = field(default_factory=Format)
    kcp: KcpParams = field(default_factory=KcpParams)
    streams: StreamSettings = field(default_factory=StreamSettings)
    outbound_bps: int = 0
    max_links: int = MAX_LINKS


class TunListener(TunLeg):
    """The listening leg of a node (`node.IngressLeg`)."""

    def __init__(self, settings: ListenSettings, env: Env, wire: type[TunWire] | None = None) -> None:
        follows = replace(settings.format, fec=(0, 0), follows=True)
        super().__init__(settings.name, follows, settings.kcp, settings.outbound_bps, env, wire)
        self.settings = settings
        self.on_flow: Callable[[Flow, Open, int], None] = _nobody
        self._streams = replace(settings.streams, version=None, compresses=None)
        self._by_number: dict[int, Link] = {}
        self._fresh: dict[Link, None] = {}
        self._over: list[tuple[Link, Reset]] = []
        self._closed = False

    def start(self, now_ms: int) -> None:
        """The sockets are the driver's."""
        self._clock(now_ms)

    def close(self, now_ms: int, reason: str) -> None:
        """There is no farewell but those of flows, which were reset."""
        self._clock(now_ms)
        self._closed = True

    # -- LinkOwner --

    def link_up(self, link: Link) -> None:
        self._fresh.pop(link, None)
        self.report(EventKind.LINK_UP, link.peer, f"link up, {in_words(link)}", REPEAT_EVENT_MS)

    def link_over(self, link: Link, reason: Reset | None) -> None:
        super().link_over(link, reason)
        if self._by_number.get(link.conv.number) is link:
            del self._by_number[link.conv.number]
        self._fresh.pop(link, None)
        if reason is not None and link.framed:
            self.report(EventKind.LINK_DOWN, link.peer, f"link lost: {reason}", REPEAT_EVENT_MS)

    # -- TunLeg --

    def _stranger(self, path: Path, segments: bytes) -> TunConv | None:
        number, command, _, _, _, sn, una, size = HEADER.unpack_from(segments)
        if self._closed or not CMD_PUSH <= command <= CMD_TELL:
            return None
        begins = command == CMD_PUSH and sn < FIRST_WINDOW and size > 0
        known = self.wire.convs.get(path)
        if known is not None:  # as kcptun: another link from the same port begins with its first segment
            if not begins or sn:
                return None
            self._replace(known)
            return self._begin(path, number)
        link = self._by_number.get(number)
        if link is not None and self._has_moved(link, una, sn if command == CMD_PUSH else None):
            link.conv.move_to(path)
            link.counters.moves += 1
            self.wire.alert = True
            return link.conv
        return self._begin(path, number) if begins else None

    def _has_moved(self, link: Link, una: int, sn: int | None) -> bool:
        """A NAT has given the peer another address. A kcptun does not follow; nothing forbids it where nobody
        else can make such a datagram. One that was recorded a while ago is behind in what it acknowledges or,
        with data, in its place (`sn`)."""
        if self.format.crypt in OPEN or link.state is LinkState.FRESH:
            return False
        kcp = link.conv.kcp
        if diff32(una, kcp.snd_una) < 0:
            return False
        return sn is None or -NEAR_SEGMENTS < diff32(sn, kcp.rcv_nxt) < NEAR_SEGMENTS

    def _replace(self, conv: TunConv) -> None:
        """Its flows are told in the next turn, as nothing is called back while datagrams come in."""
        link: Link = conv.user
        self.wire.convs.pop(conv.path, None)
        reason = Reset(ResetCode.LINK_LOST, "the other end began a new link from the same port")
        self._over.append((link, reason))
        self.wire.alert = True

    def _begin(self, path: Path, number: int) -> TunConv | None:
        if len(self._links) >= self.settings.max_links:
            self.counters.links_full += 1
            self.report(EventKind.LINKS_FULL, path[1], "too many links", REPEAT_EVENT_MS)
            return None
        while len(self._fresh) >= MAX_FRESH:
            self.counters.links_evicted += 1
            next(iter(self._fresh)).close(None)
        link = Link(self, self.converse(number, path), self._streams, self._enter)
        self._by_number[number] = link
        self._fresh[link] = None
        self.add(link)
        return link.conv

    def _enter(self, flow: StreamFlow, wanted: Open) -> None:
        """Let the node have a flow."""
        self.on_flow(flow, wanted, self.now_ms)

    def _hear(self) -> None:
        over, self._over = self._over, []
        for link, reason in over:
            link.close(reason)

    def _serve(self, now_ms: int) -> None:
        """Everything is done by the links."""

    def _own_deadline(self) -> int | None:
        return None


def _nobody(flow: Flow, _open: Open, _now_ms: int) -> None:
    """Until a node listens there is nobody to serve a flow."""
    flow.reset(Reset(ResetCode.SHUTDOWN))
