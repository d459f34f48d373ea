"""What has gone wrong in a node lately, for the status: the last event of each kind, and its count."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kcpg.app.metrics import Snapshot

MAX_TROUBLES = 16  # Kinds of one node that are remembered; the one that is longest ago gives way

KEPT_S = 3600.0  # A trouble that has not come again for so long is over


@dataclass(slots=True)
class _Trouble:
    peer: str
    text: str
    count: int
    last_s: float


class Troubles:
    """Of one node."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """`now_s`: returns monotonic seconds."""
        self._now_s = now_s
        self._known: dict[tuple[str, str], _Trouble] = {}  # by leg and kind, the latest last

    def note(self, leg: str, kind: str, peer: str, text: str) -> None:
        """It happened now."""
        known = self._known.pop((leg, kind), None)
        self._known[leg, kind] = _Trouble(peer, text, known.count + 1 if known else 1, self._now_s())
        if len(self._known) > MAX_TROUBLES:
            del self._known[next(iter(self._known))]

    def over(self, leg: str, kinds: Iterable[str]) -> None:
        """Those of these kinds are over."""
        for kind in kinds:
            self._known.pop((leg, kind), None)

    def snapshot(self) -> list[Snapshot]:
        """The latest last."""
        now_s = self._now_s()
        return [
            {
                "leg": leg,
                "kind": kind,
                "peer": one.peer,
                "text": one.text,
                "count": one.count,
                "ago_s": round(now_s - one.last_s, 1),
            }
            for (leg, kind), one in self._known.items()
            if now_s - one.last_s <= KEPT_S
        ]
