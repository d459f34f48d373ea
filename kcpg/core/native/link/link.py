"""A link: one security association between two adjacent nodes, and the flows it carries.

The same class on both sides. What differs is who acts: the dialer notices silence, renews keys and pings;
the listener answers, follows the dialer's address, and forgets links that nobody uses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from kcpg.core.congestion import CongestionController
from kcpg.core.flow import Reset, ResetCode
from kcpg.core.native.handshake.params import lower_limit
from kcpg.core.native.link.epochs import Epochs, NewEpoch
from kcpg.core.native.link.feccontrol import FecControl
from kcpg.core.native.link.flowtable import FlowTable, reset_code
from kcpg.core.native.link.liveness import Liveness
from kcpg.core.native.link.pathmtu import PathMtu
from kcpg.core.native.link.pathproof import PathProof
from kcpg.core.native.link.rekey import DialerRekey, ListenerRekey
from kcpg.core.native.link.setup import LinkSetup
from kcpg.core.native.link.state import CLOSED, FRESH, NEXT_STATE, SILENT, UP, LinkInput, LinkState
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.counters import LinkCounters
from kcpg.core.native.wire.linkwire import DEFAULT_DATAGRAM_BYTES
from kcpg.core.native.wire.wire import UNKNOWN_CONV

if TYPE_CHECKING:
    from kcpg.core.env import Env
    from kcpg.core.native.handshake.envelope import Entropy
    from kcpg.core.native.handshake.params import LinkParams
    from kcpg.core.native.link.cids import Cids
    from kcpg.core.native.wire.wire import Path

# CLOSE is not acknowledged, as its sender is about to be gone; at 10 % loss all copies get lost once in
# 1,000.
CLOSE_COPIES = 3

# What a peer may ask for at most: that many seconds an application waits for a new link, and no longer.
MAX_SPREAD_MS = 60_000

CHALLENGED_PATHS = 8  # Paths that the peer asked about lately: more than a dialer tries one after another


NOT_RENEWED = "the peer did not renew the keys of the link"

# Of a peer that changes its address: how often at most its conversations are looked at for that, of which
# there may be tens of thousands. Shorter than what a user notices.
HURRY_EVERY_MS = 100


class LinkOwner(Protocol):
    """The leg a link belongs to."""

    cids: Cids[Link]
    entropy: Entropy
    env: Env

    def link_touched(self, link: Link) -> None:
        """`deadline()` may have come nearer."""

    def link_active(self, link: Link) -> None:
        """The link carries data: `advance` and a new look at `deadline()` are due soon, not at once."""

    def link_heard(self, link: Link, former: LinkState) -> None:
        """The link is UP now."""

    def link_silent(self, link: Link) -> None:
        """The link is SILENT now."""

    def link_path_answered(self, link: Link, token: bytes, path: Path) -> None:
        """A PATH_RESPONSE with these 8 bytes came by this path."""

    def link_leaving(self, link: Link, spread_ms: int, text: str) -> None:
        """The peer ends soon. Calls for another link are to be spread over this time."""

    def link_closed(self, link: Link, reason: Reset, by_peer: bool) -> None:
        """The link is gone, its flows are reset."""


class Link:
    """One peer: what its wire carries, how it lives and how it ends."""

    def __init__(self, owner: LinkOwner, setup: LinkSetup, now_ms: int) -> None:
        self.link_wire = setup.link_wire
        self.params = setup.params
        self.limits = setup.limits
        self.dials = setup.dials
        self.incarnation = setup.incarnation
        self.user_key = setup.user_key
        self.state = FRESH
        self.since_ms = self._silent_ms = now_ms
        self.timer_ms: int | None = None  # the leg's own notes: when this link is due, ...
        self.handle: list[Link] = [self]  # ... and the link itself, nothing once it is closed
        self.is_leaving = False  # the peer ends soon: new flows belong elsewhere
        self.close_spread_ms = 0  # over this time the peer wants calls for another link to be spread
        self.counters = LinkCounters()
        self._owner = owner
        self._state_rx = 0
        self._doubt = ""  # why the link ends if the peer does not answer
        self._hurry_at: int | None = None  # a move that is to be followed by hurry is due then ...
        self._hurried_ms = -HURRY_EVERY_MS  # ... as one was now and then
        self._challenged: deque[Path] = deque(maxlen=CHALLENGED_PATHS)
        self._begin_wire(setup)
        self._begin_keys(setup, now_ms)
        self._begin_flows(setup, now_ms)

    def _begin_wire(self, setup: LinkSetup) -> None:
        link_wire, params = self.link_wire, self.params
        link_wire.user = self
        link_wire.rate_bps = params.outbound_bps
        if setup.kcp.auto:
            datagram_bytes = min(params.datagram_bytes, DEFAULT_DATAGRAM_BYTES)
            link_wire.adapt(CongestionController(datagram_bytes, setup.rtt_ms))
        self.fec_control = FecControl(link_wire, params)

    def _begin_keys(self, setup: LinkSetup, now_ms: int) -> None:
        cids, entropy = self._owner.cids, self._owner.entropy
        self.epochs: Epochs[Link] = Epochs(self, self.link_wire, cids, self.dials)
        self.epochs.begin(setup.epoch, now_ms)
        exchange = DialerRekey if self.dials else ListenerRekey
        self.rekey: DialerRekey | ListenerRekey = exchange(
            self.link_wire, self.params.algorithm, setup.epoch.secret, cids, entropy
        )

    def _begin_flows(self, setup: LinkSetup, now_ms: int) -> None:
        link_wire, params, counters = self.link_wire, self.params, self.counters
        self.flows = FlowTable(
            link_wire, setup.conv_params, counters, self.limits.max_flows, setup.on_flow, self._touch
        )
        self.flows.now_ms = now_ms
        self.liveness = Liveness(link_wire, counters, params.keep_alive_s, self.dials, setup.rtt_ms, now_ms)
        link_wire.rtt_hint_ms = setup.rtt_ms
        self.mtu = PathMtu(link_wire, self.liveness, counters, params.datagram_bytes, setup.find_mtu)
        self._host = self._owner.env.source_key
        self._proof = PathProof(link_wire, self.liveness, self._owner.entropy, self._host)

    @property
    def peer(self) -> bytes:
        """The address we send to; b"" before there is one."""
        return self.link_wire.path[1] if self.link_wire.path is not None else b""

    @property
    def rtt_ms(self) -> int:
        """The round-trip time as it is known now, -1: not at all."""
        return self.link_wire.srtt_ms if self.link_wire.srtt_ms >= 0 else self.liveness.rtt_ms

    @property
    def closed(self) -> bool:
        """Nothing can be done with this link any more."""
        return self.state is CLOSED

    # -- what came in --

    def heard(self, now_ms: int) -> None:
        """Call when datagrams came, before what they held: the peer is there, and perhaps under new keys."""
        self.flows.now_ms = now_ms
        if self.link_wire.rx_datagrams == self._state_rx:
            return
        self._state_rx = self.link_wire.rx_datagrams
        changed = self.epochs.confirmed(now_ms)
        if changed and isinstance(self.rekey, ListenerRekey):
            self.rekey.confirm()
            self.liveness.forgive(now_ms)
            self.link_wire.hurry(now_ms)  # these keys may be those of a resumed link
        if self.state is FRESH or (self._silent and self.liveness.heeded_ms >= self._silent_ms):
            self._answered(now_ms)
        elif self._silent:
            self.liveness.ask_again(now_ms)
            self._touch()
        elif changed:
            self._touch()
        else:
            self._owner.link_active(self)

    def on_frame(self, kind: int, payload: bytes, path: Path, now_ms: int) -> None:
        """A control frame."""
        self.heard(now_ms)
        if kind != UNKNOWN_CONV:
            self.fec_control.note_control()
        if self.closed:
            return
        read, act = ACTIONS[kind]
        content = read(payload)
        if content is None:
            self.counters.frames_malformed += 1
        else:
            act(self, content, path, now_ms)

    def follow(self) -> bool:
        """Send where the newest authentic datagram came from. True: the peer had asked about that path, so
        this is a hop."""
        path = self.link_wire.source
        assert path is not None
        now_ms = self.link_wire.rx_last_ms
        if path != self.link_wire.path:
            self.take_path(path, now_ms)
            self._proof.moved(path, now_ms)
        hop = path in self._challenged
        if self._hurry_at is None:
            self._hurry_at = max(now_ms, self._hurried_ms + HURRY_EVERY_MS)
            self._hurry(now_ms)
            self._touch()
        self.counters.moves += 1
        return hop

    def _hurry(self, now_ms: int) -> None:
        """Send at once what waits for a later retransmission. Asks all conversations: not for each of many
        moves."""
        if self._hurry_at is not None and self._hurry_at <= now_ms:
            self._hurry_at, self._hurried_ms = None, now_ms
            self.link_wire.hurry(now_ms)

    def take_path(self, path: Path, now_ms: int) -> None:
        """Send by this path from now on."""
        former = self.link_wire.path
        if path != former:
            self.link_wire.set_path(*path)
            self.mtu.moved(now_ms, former is None or self._host(former[1]) != self._host(path[1]))
            self._touch()

    def too_big(self, size: int, now_ms: int) -> None:
        """The kernel refused to send a datagram of `size` bytes by the present path."""
        self.mtu.refused(size, now_ms)
        self._touch()

    def renew(self, epoch: NewEpoch, params: LinkParams, now_ms: int) -> None:
        """A handshake resumed this link: new keys, perhaps new parameters; its flows live on."""
        self.counters.resumes += 1
        self.params = params
        self.mtu.agree(params.datagram_bytes, now_ms)
        self.link_wire.rate_bps = params.outbound_bps
        self.fec_control.configure(params)
        self.rekey.restart(epoch.secret)
        self.epochs.renew(epoch, now_ms)
        if self.dials:
            self.liveness.forgive(now_ms)
            self.link_wire.hurry(now_ms)
            former = self.state
            if self._turn(LinkInput.HEARD):
                self._owner.link_heard(self, former)
        self._touch()

    def doubt(self, now_ms: int, why: str = "the dialer was started again, and does not answer here") -> None:
        """Nobody may be there any more, as the dialer has begun a new life, or others want the place: ask,
        and end the link for this reason if nobody answers.
        """
        if self.state is not FRESH and not self.closed:
            self._doubt = why
            self.liveness.doubt(now_ms)
            self._touch()

    def share(self, links: int, most_bps: int = 0) -> None:
        """This many links keep to the limit of the rate together, and this one to `most_bps`, unless 0."""
        rate_bps = lower_limit(self.params.outbound_bps // links, most_bps)
        if self.link_wire.rate_bps != rate_bps:
            self.link_wire.rate_bps = rate_bps

    # -- time --

    def advance(self, now_ms: int) -> None:
        """Serve every timer that is due."""
        self.heard(now_ms)
        if self.closed:
            return
        self._hurry(now_ms)
        self.epochs.advance(now_ms)
        self.flows.advance(now_ms)
        self.fec_control.advance(now_ms)
        if self._expired(now_ms):
            return
        if self.epochs.used_up:
            self.close(Reset(ResetCode.LINK_LOST, NOT_RENEWED), tell=True)
            return
        self.liveness.advance(now_ms, self._used, self._silent)
        if isinstance(self.rekey, DialerRekey) and self.state is UP:
            self._advance_rekey(self.rekey, now_ms)
        self._proof.advance(now_ms)
        if self._asks_sizes:
            self.mtu.advance(now_ms, self._used)
        if self._heeds_silence and self.liveness.is_silent(now_ms) and self._turn(LinkInput.SILENCE):
            self.counters.silences += 1
            self._silent_ms = now_ms
            self.liveness.ping(now_ms)
            self._owner.link_silent(self)

    def deadline(self) -> int | None:
        """When `advance` must be called though nothing happens; None: never."""
        if self.closed:
            return None
        silent_at = self.liveness.silent_at() if self._heeds_silence else None
        times = [self.epochs.deadline(), self.flows.deadline(), silent_at, self._expires_at()]
        if silent_at is None and self.link_wire.outstanding:
            times.append(self.flows.now_ms + self.liveness.rto_ms)  # sent again, it will be owed an answer
        times.append(self.liveness.ping_at(self._used, self._silent))
        times.append(self.fec_control.deadline())
        times += [self._hurry_at, self._proof.deadline()]
        if isinstance(self.rekey, DialerRekey) and self.state is UP:
            times.append(self.rekey.deadline() if self.rekey.running else self._rekey_at())
        if self._asks_sizes:
            times.append(self.mtu.deadline(self._used))
        return min((at for at in times if at is not None), default=None)

    def go_away(self, spread_ms: int, deadline_ms: int, text: str) -> None:
        """Tell the peer that this end will be gone in `deadline_ms`."""
        self.link_wire.send(frames.GOAWAY, frames.pack_goaway(spread_ms, deadline_ms, text))

    def close(self, reason: Reset, tell: bool, spread_ms: int = 0) -> None:
        """End the link and its flows. `tell`: say so to the peer, which then does the same at once, and calls
        for another link at some moment within `spread_ms`."""
        if tell and not self.closed:
            for _ in range(CLOSE_COPIES):
                self.link_wire.send(frames.CLOSE, frames.pack_close(reason.code, reason.text, spread_ms))
        self._end(reason, by_peer=False)

    # -- inside --

    @property
    def _used(self) -> bool:
        return bool(self.flows.flows)

    @property
    def _silent(self) -> bool:
        return self.state is SILENT

    def _answered(self, now_ms: int) -> None:
        """The peer is there, and hears us if it was silent: what waits for that goes on."""
        former = self.state
        if self._turn(LinkInput.HEARD):
            if former is SILENT:
                self.link_wire.hurry(now_ms)
            self._owner.link_heard(self, former)
            self._touch()

    def _turn(self, what: LinkInput) -> bool:
        following = NEXT_STATE.get((self.state, what))
        if following is None:
            return False
        self.state = following
        self._watch()
        return True

    def _end(self, reason: Reset, by_peer: bool) -> None:
        if not self._turn(LinkInput.END):
            return
        self.flows.close(reason)
        self.epochs.free()
        self.link_wire.free()
        self._owner.link_closed(self, reason, by_peer)
        self.link_wire.user = None  # itself: as cycles both would stay for long
        self.handle.clear()

    def _touch(self) -> None:
        self._watch()
        self._owner.link_touched(self)

    def _watch(self) -> None:
        """Whatever comes is news while it may tell that the peer is back, or has new keys."""
        self.link_wire.watched = self.state is not UP or self.epochs.on_trial

    @property
    def _asks_sizes(self) -> bool:
        """Sizes are asked about on a path that has answered; little may be sent by another one."""
        return self.state is UP and not self._proof.awaited

    @property
    def _heeds_silence(self) -> bool:
        """A dialer doubts a link that it has just made; a listener forgets that one sooner than it asks."""
        return self.state is UP or (self.dials and self.state is FRESH)

    def _expires_at(self) -> int | None:
        """When the link is given up if the peer is not heard."""
        if self.state is FRESH and not self.dials:
            return self.since_ms + self.limits.fresh_ms
        if self.liveness.doubted_ms is not None:
            return self.liveness.doubted_ms + self.limits.doubted_ms
        if self._used:
            silent_ms = self.liveness.heard_ms + self.limits.silent_ms
            owed_ms = self.liveness.owed_ms
            return silent_ms if owed_ms is None else min(silent_ms, owed_ms + self.limits.unanswered_ms)
        return None if self.limits.idle_ms is None else self.liveness.heard_ms + self.limits.idle_ms

    def _expired(self, now_ms: int) -> bool:
        expires_ms = self._expires_at()
        if expires_ms is None or expires_ms > now_ms:
            return False
        if self.liveness.doubted_ms is not None:
            reason = Reset(ResetCode.LINK_LOST, self._doubt)
        else:
            reason = Reset(ResetCode.TIMEOUT, "not heard for too long")
        self.close(reason, tell=self.state is not FRESH)
        return True

    def _rekey_at(self) -> int | None:
        if self.epochs.worn:
            return 0
        return self.epochs.worn_at_ms if self._used else None

    def _advance_rekey(self, rekey: DialerRekey, now_ms: int) -> None:
        due_ms = self._rekey_at()
        if rekey.is_vain:
            self.close(Reset(ResetCode.LINK_LOST, NOT_RENEWED), tell=True)
        elif rekey.running:
            rekey.advance(now_ms)
        elif due_ms is not None and due_ms <= now_ms:
            rekey.start(now_ms)

    # -- control frames --

    def _on_ping(self, opaque: bytes, path: Path, now_ms: int) -> None:
        self.link_wire.send(frames.PONG, opaque, None)

    def _on_pong(self, opaque: bytes, path: Path, now_ms: int) -> None:
        self.liveness.ponged(opaque, now_ms)
        self.link_wire.rtt_hint_ms = self.liveness.rtt_ms
        if self._silent:
            self._answered(now_ms)

    def _on_path_challenge(self, opaque: bytes, path: Path, now_ms: int) -> None:
        if path not in self._challenged:
            self._challenged.append(path)
        self.link_wire.send(frames.PATH_RESPONSE, opaque, path)
        if self.dials and self.state is UP:
            self.liveness.ping(now_ms)  # as the listener may send more by this path the more comes by it
            self._touch()

    def _on_path_response(self, opaque: bytes, path: Path, now_ms: int) -> None:
        if self._proof.awaited:
            self._proof.answered(opaque)
            self._touch()
        self._owner.link_path_answered(self, opaque, path)

    def _on_mtu_probe(self, opaque: bytes, path: Path, now_ms: int) -> None:
        self.link_wire.send(frames.MTU_ACK, opaque, path)

    def _on_mtu_ack(self, opaque: bytes, path: Path, now_ms: int) -> None:
        self.mtu.acked(opaque, now_ms)
        self._touch()

    def _on_reset(self, payload: bytes, path: Path, now_ms: int) -> None:
        self.flows.on_reset(payload)

    def _on_reset_ack(self, payload: bytes, path: Path, now_ms: int) -> None:
        self.flows.on_reset_ack(payload)

    def _on_goaway(self, goaway: frames.GoAwayFrame, path: Path, now_ms: int) -> None:
        if self.dials and not self.is_leaving:
            self.is_leaving = True
            self._owner.link_leaving(self, min(goaway.spread_ms, MAX_SPREAD_MS), goaway.text)

    def _on_close(self, close: frames.CloseFrame, path: Path, now_ms: int) -> None:
        self.close_spread_ms = min(close.spread_ms, MAX_SPREAD_MS)
        self._end(Reset(reset_code(close.code), close.text), by_peer=True)

    def _on_rekey(self, message: bytes, path: Path, now_ms: int) -> None:
        epoch = self.rekey.receive(message, now_ms) if self.state is UP else None
        if epoch is None:
            return
        self.counters.rekeys += 1
        self.epochs.renew(epoch, now_ms)
        if self.dials:
            self.liveness.ping(now_ms)  # so that the listener hears us under the new keys at once

    def _on_losses(self, losses: frames.Losses, path: Path, now_ms: int) -> None:
        self.fec_control.reported(losses, self.rtt_ms, now_ms)

    def _on_unknown(self, number: int, path: Path, now_ms: int) -> None:
        self.flows.on_unknown(number)


# What is done about each control frame: what reads its payload (None: malformed), and what acts on that.
ACTIONS: dict[int, tuple[Callable[[bytes], Any], Callable[[Link, Any, Path, int], None]]] = {
    frames.PING: (frames.read_opaque, Link._on_ping),
    frames.PONG: (frames.read_opaque, Link._on_pong),
    frames.PATH_CHALLENGE: (frames.read_opaque, Link._on_path_challenge),
    frames.PATH_RESPONSE: (frames.read_opaque, Link._on_path_response),
    frames.MTU_PROBE: (frames.read_opaque, Link._on_mtu_probe),
    frames.MTU_ACK: (frames.read_opaque, Link._on_mtu_ack),
    frames.RESET: (bytes, Link._on_reset),
    frames.RESET_ACK: (bytes, Link._on_reset_ack),
    frames.CLOSE: (frames.read_close, Link._on_close),
    frames.REKEY: (frames.read_rekey, Link._on_rekey),
    frames.GOAWAY: (frames.read_goaway, Link._on_goaway),
    frames.LOSS_REPORT: (frames.read_losses, Link._on_losses),
    UNKNOWN_CONV: (frames.read_conv, Link._on_unknown),
}
