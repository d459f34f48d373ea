"""Ends of flows that are held back, because of what a kcptun does at a FIN.

An older one closes both directions, so a dialer waits while an answer may come. A newer one throws away
what its application has not read when the second FIN comes, so that one waits until all is acknowledged,
and read as far as one can know, and a moment longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kcpg.core.kcptun import smux
from kcpg.core.units import MASK32, add32, diff32

if TYPE_CHECKING:
    from kcpg.core.kcptun.flow import StreamFlow
    from kcpg.core.kcptun.framestream import FrameStream

END_GRACE_MS = 1000  # The moment


class HeldEnds:
    """Those of one link. `send` tells the peer the end of a flow, and may forget the flow here."""

    def __init__(self, frames: FrameStream, send: Callable[[StreamFlow], None]) -> None:
        self._frames = frames
        self._send = send
        self._flows: dict[StreamFlow, None] = {}

    def __contains__(self, flow: StreamFlow) -> bool:
        return flow in self._flows

    def __len__(self) -> int:
        return len(self._flows)

    def hold(self, flow: StreamFlow, now_ms: int) -> None:
        """Send the end later; also when the peer's own end has come meanwhile."""
        kcp = self._frames.conv.kcp
        flow.end_mark = add32(kcp.snd_nxt, kcp.queued) if flow.heard_end else None
        flow.end_at_ms = max(now_ms, flow.moved_ms) + END_GRACE_MS
        self._flows[flow] = None

    def forget(self, flow: StreamFlow) -> None:
        """It is sent, or the flow is over."""
        self._flows.pop(flow, None)

    def clear(self) -> None:
        """Forget all of them."""
        self._flows.clear()

    def serve(self, now_ms: int) -> None:
        """Send those whose time has come."""
        for flow in list(self._flows):
            if flow.end_mark is None:
                flow.end_at_ms = max(flow.end_at_ms or 0, flow.moved_ms + END_GRACE_MS)
            elif not self._is_read(flow, flow.end_mark):
                flow.end_at_ms = now_ms + END_GRACE_MS
            if flow.end_at_ms is not None and flow.end_at_ms <= now_ms:
                self._send(flow)

    def deadline(self) -> int | None:
        """When `serve` has something to do."""
        return min((flow.end_at_ms for flow in self._flows if flow.end_at_ms is not None), default=None)

    def _is_read(self, flow: StreamFlow, end_mark: int) -> bool:
        if self._frames.pending or diff32(self._frames.conv.kcp.snd_una, end_mark) < 0:
            return False
        # A peer of version 2 tells what it has read each time that half of its window was.
        unread = diff32(flow.sent & MASK32, flow.peer_read)
        return self._frames.version == 1 or unread <= max(flow.peer_window, smux.FIRST_WINDOW_BYTES) // 2
