"""Whose name is looked up next: each asker's in turn, so that none waits for all of somebody else's."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import islice

# Of an asker, such as a link, of the 1,024 names and 64 threads that there are. A page of the web has some
# dozen names, each asked for once.
MOST_WAITING = 256
MOST_QUICK = 6  # threads, of 8
MOST_SLOW = 16  # and of 56 for names whose server is silent
LOOKUPS_PER_S = 100  # beyond as many as may wait

MAX_ASKERS = 4096  # whose rate is remembered

Key = tuple[str, int]  # A name and the family of its addresses


@dataclass
class _Asker:
    """One of them: names that wait, threads that ask, and when all asked so far is due at the rate."""

    waiting: deque[Key] = field(default_factory=deque)
    quick: int = 0
    slow: int = 0
    due_ms: int = 0


class LookupShares:
    """What waits to be looked up. None is an asker as any other: the node itself."""

    def __init__(self) -> None:
        self._askers: OrderedDict[Hashable, _Asker] = OrderedDict()
        self._line: deque[Hashable] = deque()  # those that have something to begin, and a thread for it

    def ask(self, asker: Hashable, key: Key, now_ms: int) -> bool:
        """Let this name wait for its turn. False: too many of this asker's do, or come too fast."""
        one = self._askers.get(asker)
        if one is None:
            self._forget(now_ms)
            one = self._askers[asker] = _Asker()
        ahead_ms = one.due_ms - now_ms
        if len(one.waiting) >= MOST_WAITING or ahead_ms > MOST_WAITING * 1000 // LOOKUPS_PER_S:
            return False
        one.due_ms = max(one.due_ms, now_ms) + 1000 // LOOKUPS_PER_S
        one.waiting.append(key)
        if len(one.waiting) == 1 and one.quick < MOST_QUICK:
            self._line.append(asker)
        return True

    def take(self) -> tuple[Hashable, Key] | None:
        """The next name, of whose turn it is; `done` must follow. None: nobody may begin one."""
        if not self._line:
            return None
        asker = self._line.popleft()
        one = self._askers[asker]
        key = one.waiting.popleft()
        one.quick += 1
        if one.waiting and one.quick < MOST_QUICK:
            self._line.append(asker)
        return asker, key

    def slows(self, asker: Hashable) -> bool:
        """A look-up takes long. True: it does not count as a quick one any more, but as a slow one."""
        one = self._askers[asker]
        if one.slow >= MOST_SLOW:
            return False
        one.slow += 1
        self._leave(asker, one)
        return True

    def done(self, asker: Hashable, was_slow: bool) -> None:
        """A look-up is over."""
        one = self._askers[asker]
        if was_slow:
            one.slow -= 1
        else:
            self._leave(asker, one)

    def _leave(self, asker: Hashable, one: _Asker) -> None:
        one.quick -= 1
        if one.waiting and one.quick == MOST_QUICK - 1:
            self._line.append(asker)

    def _forget(self, now_ms: int) -> None:
        """Those that were here longest and ask for nothing; at the bound, whatever their rate."""
        for asker in list(islice(self._askers, 2)):
            one = self._askers[asker]
            if one.waiting or one.quick or one.slow:
                self._askers.move_to_end(asker)
            elif one.due_ms <= now_ms or len(self._askers) >= MAX_ASKERS:
                del self._askers[asker]
