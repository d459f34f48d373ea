"""Does a path lose more than it used to? Judged by what is counted anyway, without a timer of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kcpg.core.native.wire.wire import LinkWire

# Two bad windows make a verdict: half a second, which together with a probe stays under a second.
WINDOW_MS = 250

STALE_MS = 2000  # A window with too little traffic for this long begins anew

MANY = 30  # Datagrams or segments from which on a share of some per cent means something

FEW = 8  # Enough to tell when more than half of them are lost

# Loss that ordinary lines do not have for half a second, and a throttled port exceeds (20 to 30 %).
BAD_SHARE = 0.10

JUMP = 3.0  # times what the network loses all the time; below that no other port would help

BAD_WINDOWS = 2


class _Counts(NamedTuple):
    """Of a link wire, at one moment."""

    sent: int
    resent: int
    rx_cid: int | None
    rx_pn: int
    rx_datagrams: int


class Quality:
    """Of one link's path. `inspect` often: it costs nothing between windows."""

    def __init__(self) -> None:
        self._usual = 0.0
        self._bad_windows = 0
        self._began_ms = 0
        self._counts: _Counts | None = None

    @property
    def usual_share(self) -> float:
        """What the network loses all the time, 0.0 to 1.0, on whatever path."""
        return self._usual

    def reset(self, from_ms: int) -> None:
        """Another path: what was sent before `from_ms` says nothing about it."""
        self._bad_windows = 0
        self._began_ms = from_ms
        self._counts = None

    def inspect(self, link_wire: LinkWire, now_ms: int) -> bool:
        """Whether the path has become bad."""
        since_ms = now_ms - self._began_ms
        if self._counts is None:
            if since_ms >= 0:
                self._begin(link_wire, now_ms)
            return False
        if since_ms < WINDOW_MS:
            return False
        share = _share(self._counts, _counts(link_wire))
        if share is None:
            if since_ms >= STALE_MS:
                self._bad_windows = 0
                self._begin(link_wire, now_ms)
            return False
        bad = share >= max(BAD_SHARE, JUMP * self._usual)
        # What stays bad everywhere is usual after some seconds, and then no reason to move.
        self._usual += (share - self._usual) / (32 if bad else 8)
        self._bad_windows = self._bad_windows + 1 if bad else 0
        self._begin(link_wire, now_ms)
        return self._bad_windows >= BAD_WINDOWS

    def _begin(self, link_wire: LinkWire, now_ms: int) -> None:
        self._began_ms = now_ms
        self._counts = _counts(link_wire)


def _counts(link_wire: LinkWire) -> _Counts:
    return _Counts(
        link_wire.segments_sent,
        link_wire.segments_resent - link_wire.resends_spurious,
        link_wire.rx_cid,
        link_wire.rx_pn,
        link_wire.rx_datagrams,
    )


def _share(before: _Counts, after: _Counts) -> float | None:
    """The larger loss of the two directions; None: too little traffic to tell."""
    resent = after.resent - before.resent
    shares = [_loss(resent, after.sent - before.sent + resent)]
    if after.rx_cid == before.rx_cid:
        numbered = after.rx_pn - before.rx_pn
        shares.append(_loss(numbered - (after.rx_datagrams - before.rx_datagrams), numbered))
    return max((share for share in shares if share is not None), default=None)


def _loss(lost: int, of: int) -> float | None:
    share = max(lost, 0) / of if of else 0.0
    return share if of >= MANY or (of >= FEW and share > 0.5) else None
