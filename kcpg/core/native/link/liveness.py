"""Is the peer still there? Keep-alive PINGs, and the moment at which its silence becomes a fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcpg.core.native.wire import frames

if TYPE_CHECKING:
    from kcpg.core.native.wire.counters import LinkCounters
    from kcpg.core.native.wire.wire import LinkWire

# A peer that owes an answer is silent after three retransmission timeouts, but not before this: scheduling
# alone may take tens of milliseconds.
SILENCE_RTOS = 3
SILENCE_MIN_MS = 250

RTO_MIN_MS = 100  # Floor of the estimate below, so that three of them span a few of KCP's own retransmissions

# Flows without traffic are kept alive this often: half the shortest UDP mapping timeouts seen in the field
# (RFC 4787 demands 120 s, many boxes have 30 to 60).
NAT_MS = 20_000

# A dialer with flows that says nothing for this long has missed three of its own PINGs. The listener asks
# then, and every NAT_MS: more often would keep a sleeping machine's radio awake.
UNHEARD_MS = 3 * NAT_MS

# A link without flows is touched this often, so that the listener, who drops it after 600 s, keeps it ready
# even if one PING gets lost.
IDLE_MS = 240_000

LATE_MS = 20  # A moment noticed later than this: the process or the machine stood still

# A pure receiver expects no acknowledgement, so it would take up to `NAT_MS` to notice a dead path. It sends
# one PING when something like a download pauses, early enough to know the answer within a second of the last
# datagram. Keystrokes cause no PING of their own.
NOTICE_MS = 1000
QUIET_MIN_MS = 250
QUIET_DATAGRAMS = 8

# While data waits for a silent peer, PINGs go out often enough for the data to flow again within this time
# and a round trip of the path's return: a question, its answer and the data take one and a half round trips.
RETURN_MS = 250
RETRY_MIN_MS = 100

# After `URGENT_MS`, or with nothing waiting, the PINGs become rarer: one per sixteenth of the silence.
URGENT_MS = 900_000
RETRY_MAX_MS = 5000
RETRY_AGE = 16

_U64 = 0xFFFFFFFFFFFFFFFF


class Liveness:
    """Of one link, as seen from here.

    The peer owes nothing, or an answer since `owed_ms`: to data that was sent again, or to a PING. It is
    silent (`silent_at`) when it has owed one for `silence_ms` and said nothing. Then the link decides what
    happens.

    `pings` False: this side mostly answers (the listener, unless a keep-alive is configured). It asks only a
    dialer with flows that falls silent, or that it doubts.
    """

    def __init__(
        self,
        link_wire: LinkWire,
        counters: LinkCounters,
        keep_alive_s: int,
        pings: bool,
        rtt_ms: int,
        now_ms: int,
    ) -> None:
        self.rtt_ms = rtt_ms  # The newest round-trip time of a PING or of the handshake; -1: none yet
        self._link_wire = link_wire
        self._counters = counters
        self._keep_alive_ms = keep_alive_s * 1000
        self._pings = pings or keep_alive_s > 0
        self._begin_ms = now_ms  # what was before does not count: the peer had proved itself by then
        self._calm_ms = now_ms  # when the peer owed nothing last
        self._asked_ms = 0  # the first PING of those that wait for an answer ...
        self._pinged_ms: int | None = None  # ... and the last; None: none waits
        self._ponged_ms = now_ms  # when a PING was answered last
        self._heard_before = 0  # datagrams received before the last PING
        self._doubted_ms: int | None = None  # since when the peer may have died; None: nobody doubts it
        self._hold_until_ms = 0  # no verdict before this, as the last one was noticed late

    @property
    def heard_ms(self) -> int:
        """When the peer was heard last."""
        return max(self._link_wire.rx_last_ms, self._begin_ms)

    @property
    def heeded_ms(self) -> int:
        """When the peer showed last that it hears us: it acknowledged data, or answered a PING."""
        return max(self._link_wire.heeded_ms, self._ponged_ms, self._begin_ms)

    @property
    def rto_ms(self) -> int:
        """An estimate of the link's retransmission timeout: twice the round-trip time."""
        return max(2 * self._known_rtt_ms, RTO_MIN_MS)

    @property
    def silence_ms(self) -> int:
        """How long a peer that owes an answer may say nothing."""
        return max(SILENCE_RTOS * self.rto_ms, SILENCE_MIN_MS)

    def advance(self, now_ms: int, flows: bool, silent: bool) -> None:
        """Note what is owed, and send a PING if one is due. `silent`: the peer's silence is a fact."""
        if self._answered:
            self._pinged_ms = None
        if not self._owed:
            self._calm_ms = now_ms
        due_ms = self.ping_at(flows, silent)
        if due_ms is not None and due_ms <= now_ms:
            self.ping(now_ms)

    def ping(self, now_ms: int) -> None:
        """Send a PING and expect to hear something."""
        if self._pinged_ms is None:
            self._asked_ms = now_ms
        self._heard_before = self._link_wire.rx_datagrams
        self._pinged_ms = now_ms
        self._counters.pings_sent += 1
        self._link_wire.send(frames.PING, (now_ms & _U64).to_bytes(frames.OPAQUE_BYTES, "big"))

    def ask_again(self, now_ms: int) -> None:
        """Something came from a silent peer: whether it hears us as well, is worth a question now."""
        if self._pinged_ms is None or now_ms - self._pinged_ms >= self.rto_ms:
            self.ping(now_ms)

    def ponged(self, opaque: bytes, now_ms: int) -> None:
        """Take the time from an answer to `ping`."""
        self._counters.pongs_received += 1
        self._ponged_ms = now_ms
        self._pinged_ms = None
        rtt_ms = (now_ms - int.from_bytes(opaque, "big")) & _U64
        if rtt_ms <= NAT_MS:
            self.rtt_ms = rtt_ms

    def doubt(self, now_ms: int) -> None:
        """The peer seems to have died: ask it, and ask again soon until it answers."""
        if self.doubted_ms is None:
            self._doubted_ms = now_ms
            self.ping(now_ms)

    @property
    def doubted_ms(self) -> int | None:
        """Since when the peer has been doubted; None: it is not, or it has shown meanwhile that it lives."""
        since_ms = self._doubted_ms
        return since_ms if since_ms is not None and self.heeded_ms <= since_ms else None

    def forgive(self, now_ms: int) -> None:
        """Begin anew: the peer has proved itself by other means."""
        self._begin_ms = self._calm_ms = now_ms
        self._pinged_ms = None

    def silent_at(self) -> int | None:
        """When the peer's silence is a fact, if it says nothing; None: it owes nothing."""
        owed_ms = self.owed_ms
        if owed_ms is None:
            return None
        since_ms = max(owed_ms, self.heard_ms)
        if self._asking:  # a peer that talks and does not answer is deaf
            since_ms = min(since_ms, max(owed_ms, self._asked_ms))
        return max(since_ms + self.silence_ms, self._hold_until_ms)

    def is_silent(self, now_ms: int) -> bool:
        """Whether the peer's silence is a fact now.

        Noticed late it is not yet: this process was held up, and what the peer said lies unread.
        """
        at_ms = self.silent_at()
        if at_ms is None or at_ms > now_ms:
            return False
        if now_ms - at_ms > LATE_MS and at_ms != self._hold_until_ms:
            self._hold_until_ms = now_ms + min(now_ms - at_ms, self.silence_ms)
            return False
        return True

    @property
    def owed_ms(self) -> int | None:
        """Since when the peer has owed an answer; None: it owes nothing."""
        return max(self.heeded_ms, self._calm_ms) if self._owed else None

    def ping_at(self, flows: bool, silent: bool) -> int | None:
        """When the next PING is due, as `advance` has it; None: never. `flows`: somebody uses the link."""
        if self._pinged_ms is not None and not self._answered:
            return self._retry_at(self._pinged_ms, flows) if silent else self._pinged_ms + self.rto_ms
        if not self._pings:
            return self.heard_ms + UNHEARD_MS if flows else None
        owed_ms = self.owed_ms
        if owed_ms is not None and self.heard_ms > owed_ms:
            return owed_ms + self.silence_ms // 2
        if flows and self._link_wire.rx_datagrams - self._heard_before > QUIET_DATAGRAMS:
            return self.heard_ms + max(NOTICE_MS - self.silence_ms, QUIET_MIN_MS)
        return self.heard_ms + (self._keep_alive_ms or (NAT_MS if flows else IDLE_MS))

    def _retry_at(self, pinged_ms: int, flows: bool) -> int | None:
        """When a silent peer is asked again; by a side that does not ping by itself, seldom without data."""
        least_ms = max(RETURN_MS - self._known_rtt_ms // 2, RETRY_MIN_MS)
        age_ms = pinged_ms - self.heeded_ms
        if self._link_wire.outstanding and age_ms < URGENT_MS:
            return pinged_ms + least_ms
        if self.doubted_ms is not None:
            return pinged_ms + max(self.rto_ms, least_ms)
        if not self._pings:
            return pinged_ms + NAT_MS if flows else None
        return pinged_ms + max(min(age_ms // RETRY_AGE, RETRY_MAX_MS), least_ms)

    @property
    def _known_rtt_ms(self) -> int:
        return self._link_wire.srtt_ms if self._link_wire.srtt_ms >= 0 else max(self.rtt_ms, 0)

    @property
    def _answered(self) -> bool:
        return self._pinged_ms is not None and self._link_wire.heeded_ms > self._asked_ms

    @property
    def _owed(self) -> bool:
        """What waits for a retransmission that is not due yet has not been asked again, so nobody owes an
        answer."""
        asked = self._link_wire.outstanding and self._link_wire.tx_last_ms > self.heeded_ms
        return asked or self._asking

    @property
    def _asking(self) -> bool:
        return self._pinged_ms is not None and not self._answered
