"""Is the peer still there? Keep-alive PINGs, and the moment at which its silence becomes a fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcpg.core.native import frames

if TYPE_CHECKING:
    from kcpg.core.native.counters import LinkCounters
    from kcpg.core.native.wire import Bundle

SILENCE_RTOS = 3
SILENCE_MIN_MS = 250
"""A peer that owes an answer is silent after three retransmission timeouts, but not before this:
scheduling alone
may take tens of milliseconds."""

RTO_MIN_MS = 100
"""Floor of the estimate below, so that three of them span a few of KCP's own retransmissions."""

NAT_MS = 20_000
"""Flows without traffic are kept alive this often: half the shortest UDP mapping timeouts seen in the
field (RFC 4787
demands 120 s, many boxes have 30 to 60)."""

IDLE_MS = 240_000
"""A link without flows is touched this often, so that the listener, who drops it after 600 s, keeps it ready
even if one PING gets lost."""

_U64 = 0xFFFFFFFFFFFFFFFF


class Liveness:
    """Of one link, as seen from here.

    `pings` False: this side only answers (the listener, unless a keep-alive is configured).
    """

    def __init__(
        self, bundle: Bundle, counters: LinkCounters, keep_alive_s: int, pings: bool, rtt_ms: int, now_ms: int
    ) -> None:
        self.rtt_ms = rtt_ms
        """The newest round-trip time of a PING or of the handshake; -1: none yet."""
        self._bundle = bundle
        self._counters = counters
        self._keep_alive_ms = keep_alive_s * 1000
        self._pings = pings or keep_alive_s > 0
        self._begin_ms = now_ms
        self._calm_ms = now_ms
        self._pinged_ms: int | None = None
        self._heard_before = 0

    @property
    def heard_ms(self) -> int:
        """When the peer was heard last."""
        return max(self._bundle.rx_last_ms, self._begin_ms)

    @property
    def rto_ms(self) -> int:
        """An estimate of the link's retransmission timeout: twice the round-trip time."""
        rtt = self._bundle.srtt_ms if self._bundle.srtt_ms >= 0 else max(self.rtt_ms, 0)
        return max(2 * rtt, RTO_MIN_MS)

    @property
    def silence_ms(self) -> int:
        """How long a peer that owes an answer may say nothing."""
        return max(SILENCE_RTOS * self.rto_ms, SILENCE_MIN_MS)

    def advance(self, now_ms: int, flows: bool) -> None:
        """Note what is owed, and send a PING if one is due."""
        if self._pinged_ms is not None and self._answered:
            self._pinged_ms = None
        if not self._owed:
            self._calm_ms = now_ms
        due_ms = self.ping_at(flows)
        if due_ms is not None and due_ms <= now_ms:
            self.ping(now_ms)

    def ping(self, now_ms: int) -> None:
        """Send a PING and expect to hear something."""
        if self._pinged_ms is None:
            self._heard_before = self._bundle.rx_datagrams
        self._pinged_ms = now_ms
        self._counters.pings_sent += 1
        self._bundle.send(frames.PING, (now_ms & _U64).to_bytes(frames.OPAQUE_BYTES, "big"))

    def ponged(self, opaque: bytes, now_ms: int) -> None:
        """Take the time from an answer to `ping`."""
        self._counters.pongs_received += 1
        rtt_ms = (now_ms - int.from_bytes(opaque, "big")) & _U64
        if rtt_ms <= NAT_MS:
            self.rtt_ms = rtt_ms

    def forgive(self, now_ms: int) -> None:
        """Begin anew: the peer has proved itself by other means."""
        self._begin_ms = self._calm_ms = now_ms
        self._pinged_ms = None

    def silent_at(self) -> int | None:
        """When the peer's silence is a fact, if it says nothing; None: it owes nothing."""
        owed_ms = self.owed_ms
        return None if owed_ms is None else owed_ms + self.silence_ms

    @property
    def owed_ms(self) -> int | None:
        """Since when the peer has owed an answer; None: it owes nothing."""
        return max(self.heard_ms, self._calm_ms) if self._owed else None

    def ping_at(self, flows: bool) -> int | None:
        """When the next PING is due. `flows`: somebody uses the link."""
        if self._pinged_ms is not None and not self._answered:
            return self._pinged_ms + self.rto_ms
        if not self._pings:
            return None
        return self.heard_ms + (self._keep_alive_ms or (NAT_MS if flows else IDLE_MS))

    @property
    def _answered(self) -> bool:
        return self._bundle.rx_datagrams > self._heard_before

    @property
    def _owed(self) -> bool:
        """What waits for a retransmission that is not due yet has not been asked again, so nobody owes an
        answer."""
        asked = self._bundle.outstanding and self._bundle.tx_last_ms > self.heard_ms
        return asked or (self._pinged_ms is not None and not self._answered)
