"""When a tunnel socket is left alone for some milliseconds, so that what comes meanwhile is taken together.

A line spaces the datagrams of a download evenly, so that each of them would wake the node: to receive it,
to acknowledge it and to write it to the application. What that costs per byte is ten times what a full
batch costs (docs/adr/0013). So while datagrams come fast and nobody waits for a single one, the socket is
not watched, and the node looks at it from time to time: at even times, which are the same for several
sockets.
"""

from __future__ import annotations

LEAST_DATAGRAMS = 3  # within the time for which a socket would be left alone: fewer are not worth it
STAY_DATAGRAMS = 2  # found by a look: with fewer it is watched again


class Coalescing:
    """One socket's state. `look_ms`: when to look at it; 0: it is watched."""

    __slots__ = ("_count", "_since_ms", "look_ms")

    def __init__(self) -> None:
        self.look_ms = 0
        self._since_ms = 0
        self._count = 0

    def taken(self, now_ms: int, count: int, coalesce_ms: int) -> None:
        """So many datagrams were taken from the socket; sets `look_ms`.

        `coalesce_ms`: how long they may lie there, 0 not at all.
        """
        stays = coalesce_ms > 0 and self._is_worth_it(now_ms, count, coalesce_ms)
        if not stays and self.look_ms:
            self._since_ms, self._count = now_ms, 0
        self.look_ms = (now_ms // coalesce_ms + 1) * coalesce_ms if stays else 0

    def _is_worth_it(self, now_ms: int, count: int, coalesce_ms: int) -> bool:
        if self.look_ms:
            return count >= STAY_DATAGRAMS
        self._count += count
        elapsed_ms = now_ms - self._since_ms
        if elapsed_ms < coalesce_ms:
            return False
        enough = elapsed_ms <= 2 * coalesce_ms and self._count >= LEAST_DATAGRAMS
        self._since_ms, self._count = now_ms, 0
        return enough
