"""Collapses repeated events into one line with a count. Pure: takes the time as an argument, writes
nothing."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

# Repeats within this time of the first become one line: people read minutes, not milliseconds.
WINDOW_S = 60.0

# Peers with lines of their own, per kind and window: a stranger can invent any number of source addresses.
MAX_PEERS = 16

# Kinds tracked at once. The program has far fewer; the limit stops a mistake from becoming a leak.
MAX_KINDS = 256

OTHERS = "others"  # Stands for all further peers


@dataclass(frozen=True)
class Repeated:
    """A line that stands for `count` further events."""

    kind: str
    peer: str
    level: int
    text: str
    count: int


@dataclass
class _Seen:
    """One kind and peer within its window."""

    since_s: float
    text: str
    level: int
    count: int = 0


class LogDeduplicator:
    """Passes the first event of a kind and peer, and counts the next ones for a minute."""

    def __init__(self, window_s: float = WINDOW_S, max_peers: int = MAX_PEERS) -> None:
        self._window_s = window_s
        self._max_peers = max_peers
        self._kinds: OrderedDict[str, OrderedDict[str, _Seen]] = OrderedDict()

    def admit(self, kind: str, peer: str, text: str, level: int, now_s: float) -> bool:
        """Whether to write the event now; otherwise it is counted."""
        peers = self._kinds.setdefault(kind, OrderedDict())
        while len(self._kinds) > MAX_KINDS:
            self._kinds.popitem(last=False)
        if peer not in peers and len(peers) >= self._max_peers:
            return self._count(peers.setdefault(OTHERS, _Seen(now_s, text, level)), text)
        seen = peers.get(peer)
        if seen is None or (now_s - seen.since_s >= self._window_s and not seen.count):
            peers[peer] = _Seen(now_s, text, level)
            return True
        return self._count(seen, text)

    def due(self, now_s: float) -> list[Repeated]:
        """The counts whose window is over, oldest kind first; forgets pairs that stayed silent.

        A pair that goes on gets a new window but no new first line: one line a minute while it lasts.
        """
        lines = []
        for kind, peers in list(self._kinds.items()):
            for peer, seen in list(peers.items()):
                elapsed_s = now_s - seen.since_s
                if elapsed_s < self._window_s:
                    continue
                if seen.count:
                    lines.append(_line(kind, peer, seen, elapsed_s))
                    seen.since_s, seen.count = now_s, 0
                else:
                    del peers[peer]
            if not peers:
                del self._kinds[kind]
        return lines

    def drain(self) -> list[Repeated]:
        """All counts, of any age; forgets everything."""
        lines = [
            _line(kind, peer, seen, self._window_s)
            for kind, peers in self._kinds.items()
            for peer, seen in peers.items()
            if seen.count
        ]
        self._kinds.clear()
        return lines

    @staticmethod
    def _count(seen: _Seen, text: str) -> bool:
        seen.count += 1
        seen.text = text
        return False


def _line(kind: str, peer: str, seen: _Seen, elapsed_s: float) -> Repeated:
    times = f"repeated {seen.count} times in {elapsed_s:.0f} s"
    if peer == OTHERS:
        times = f"{seen.count} more from other peers in {elapsed_s:.0f} s"
    return Repeated(kind, peer, seen.level, f"{seen.text} ({times})", seen.count)
