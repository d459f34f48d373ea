"""What a conversation tells of itself: measurements, windows and counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kcpg.core.kcp.receiver import Receiver
    from kcpg.core.kcp.sender import Sender


class Facts:
    """Read only, and of no use to the protocol itself."""

    _tx: Sender
    _rx: Receiver

    @property
    def acked_ms(self) -> int:
        """When something was acknowledged last; -1: never."""
        return self._tx.acked_ms

    @property
    def latest_rtt_ms(self) -> int:
        """Of the latest transmission known to have arrived; 0: none is known."""
        return self._tx.rack.rtt_ms

    @property
    def srtt_ms(self) -> int:
        return self._tx.rtt.srtt_ms

    @property
    def rttvar_ms(self) -> int:
        return self._tx.rtt.rttvar_ms

    @property
    def rto_ms(self) -> int:
        return self._tx.rtt.rto_ms

    @property
    def snd_una(self) -> int:
        return self._tx.snd_una

    @property
    def snd_nxt(self) -> int:
        return self._tx.snd_nxt

    @property
    def rcv_nxt(self) -> int:
        return self._rx.rcv_nxt

    @property
    def snd_wnd(self) -> int:
        return self._tx.snd_wnd

    @property
    def rcv_wnd(self) -> int:
        return self._rx.rcv_wnd

    @property
    def rmt_wnd(self) -> int:
        return self._tx.rmt_wnd

    @property
    def cwnd(self) -> int:
        return self._tx.cwnd.segments

    @property
    def segments_sent(self) -> int:
        return self._tx.segments_sent

    @property
    def segments_resent_fast(self) -> int:
        return self._tx.segments_resent_fast

    @property
    def segments_resent_rto(self) -> int:
        return self._tx.segments_resent_rto

    @property
    def segments_resent_tail(self) -> int:
        """Sent again ahead of their time-out, to hear of them sooner."""
        return self._tx.segments_resent_tail

    @property
    def segments_missing(self) -> int:
        """In flight, but known to be lost: they are to be sent again."""
        tx = self._tx
        waits = tx.fast_due or tx.rack.at is not None
        return tx.rack.missing(tx.flight, tx.rtt.srtt_ms) if waits else 0

    @property
    def resends_spurious(self) -> int:
        """Resends that turned out to have been needless, as far as acknowledgements tell."""
        return self._tx.resends_spurious

    @property
    def segments_received(self) -> int:
        return self._rx.segments_received

    @property
    def duplicates_received(self) -> int:
        return self._rx.duplicates_received

    @property
    def segments_refused(self) -> int:
        return self._rx.segments_refused

    @property
    def bytes_sent(self) -> int:
        return self._tx.bytes_sent

    @property
    def acked_bytes(self) -> int:
        return self._tx.acked_bytes

    @property
    def bytes_received(self) -> int:
        return self._rx.bytes_received
