"""Collapsing repeated events into one line with a count. Pure: time is an argument, nothing is written
here."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

# Repeats within this time after the first become one line: a person reads minutes, not milliseconds.
WINDOW_S = 60.0

# Peers that may have lines of their own per kind and window; sources of datagrams can be invented by a
# stranger.
MAX_PEERS = 16

# Kinds tracked at once. The program has far fewer; the limit keeps a mistake from becoming a leak.
MAX_KINDS = 256

OTHERS = "others"  # Peer name under which the events of further peers are counted


@dataclass(frozen=True)
class Repeated:
    """The line that stands for `count` further events."""

    kind: str
    peer: str
    level: int
    text: str
    count: int


@dataclass
class _Seen:
    """One (kind, peer) within its window."""

    since_s: float
    text: str
    level: int
    count: int = 0


class LogDeduplicator:
    """Lets the first event of a (kind, peer) pass and counts the next ones for a minute."""

    def __init__(self, window_s: float = WINDOW_S, max_peers: int = MAX_PEERS) -> None:
        self._window_s = window_s
        self._max_peers = max_peers
        self._kinds: OrderedDict[str, OrderedDict[str, _Seen]] = OrderedDict()

    def admit(self, kind: str, peer: str, text: str, level: int, now_s: float) -> bool:
        """Whether the event is to be written now; otherwise it has been counted."""
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
        """Counts whose window is over, oldest kind first. A pair that stayed silent is forgotten.

        A pair that goes on gets a new window without a new first line: one line a minute for as long as it
        lasts.
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
        """Every count there is, whatever its age; forgets everything."""
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
