"""Names to addresses without blocking a greenlet that carries traffic.

``getaddrinfo`` runs in gevent's resolver (its thread pool by default, so /etc/hosts and nsswitch count);
numeric addresses are answered at once. Answers are kept for a while and bounded, a failed connection
drops them (`forget`), so that a name that moved is looked up again.
"""

from __future__ import annotations

import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import gevent
import gevent.socket
import gevent.timeout

from kcpg.net import addr as addresses
from kcpg.net.clock import now_ms

# getaddrinfo does not tell the record's TTL; a minute is what resolvers commonly use as a floor.
KEEP_MS = 60_000
# A name that failed is asked again after this; long enough to spare a dead name server.
KEEP_FAILED_MS = 1_000
MAX_NAMES = 1024
# gevent's pool has ten threads; two stay free for other work however many names hang.
MAX_LOOKUPS = 8
# resolv.conf(5): 5 s per try, two tries; the thread itself cannot be interrupted.
LOOKUP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Unresolved:
    """Why a name has no address."""

    host: str
    text: str


# Packed addresses, in the resolver's order of preference, or the reason there are none.
Answer = list[bytes] | Unresolved


@dataclass
class _Entry:
    """One name's last answer, or the callers waiting for it."""

    answer: Answer | None = None
    asked_ms: int = 0
    waiting: list[Callable[[Answer], None]] = field(default_factory=list)

    def is_good(self, now_ms: int, max_age_ms: int) -> bool:
        """Whether the answer may still be used."""
        keep_ms = KEEP_FAILED_MS if isinstance(self.answer, Unresolved) else KEEP_MS
        return now_ms - self.asked_ms < min(keep_ms, max_age_ms)


class Resolver:
    """The names of one process.

    `family` of 0 allows both, AF_INET or AF_INET6 only that one. `lookup` may be replaced in tests by
    a function with getaddrinfo's first arguments and result.
    """

    def __init__(self, lookup: Callable[..., list[tuple[object, ...]]] | None = None) -> None:
        self._lookup = lookup or gevent.socket.getaddrinfo
        self._entries: OrderedDict[tuple[str, int], _Entry] = OrderedDict()
        self._numeric: dict[tuple[str, int, int], Answer] = {}  # worked out once, as every flow asks
        self._queue: deque[tuple[str, int]] = deque()
        self._running = 0

    def resolve(
        self,
        host: str,
        port: int,
        answer: Callable[[Answer], None],
        family: int = 0,
        max_age_ms: int = KEEP_MS,
    ) -> None:
        """Call `answer` with the addresses of `host` at `port`: at once if known, else from the hub later.

        What was learnt more than `max_age_ms` ago is asked again. Never raises and never blocks; `answer` is
        called exactly once.
        """

        numeric = self.numeric(host, port, family)
        if numeric is not None:
            answer(numeric)
            return

        def with_port(found: Answer) -> None:
            answer(found if isinstance(found, Unresolved) else [addresses.with_port(a, port) for a in found])

        bare = addresses.strip_brackets(host)
        key = (bare, family)
        entry = self._entries.get(key)
        if entry is not None and entry.answer is not None and entry.is_good(now_ms(), max_age_ms):
            self._entries.move_to_end(key)
            with_port(entry.answer)
            return
        if entry is None or entry.answer is not None:
            if not self._make_room():
                with_port(Unresolved(host, f"{host}: more than {MAX_NAMES} names are being looked up"))
                return
            entry = self._entries[key] = _Entry()
            self._queue.append(key)
        entry.waiting.append(with_port)
        self._start()

    def numeric(self, host: str, port: int, family: int = 0) -> Answer | None:
        """The answer for an address, which needs no name server; None: `host` is a name."""
        key = (host, port, family)
        if key not in self._numeric:
            bare = addresses.strip_brackets(host)
            if not addresses.is_numeric(bare):
                return None
            if len(self._numeric) >= MAX_NAMES:
                self._numeric.clear()
            found = _numeric(bare, family)
            self._numeric[key] = (
                found if isinstance(found, Unresolved) else [addresses.with_port(a, port) for a in found]
            )
        return self._numeric[key]

    def forget(self, host: str) -> None:
        """Drop what is known of `host` (a connection to it failed): the next `resolve` asks again."""
        bare = addresses.strip_brackets(host)
        for key in [key for key, entry in self._entries.items() if key[0] == bare]:
            if self._entries[key].answer is not None:
                del self._entries[key]

    def _make_room(self) -> bool:
        if len(self._entries) < MAX_NAMES:
            return True
        for key, entry in self._entries.items():
            if entry.answer is not None:
                del self._entries[key]
                return True
        return False

    def _start(self) -> None:
        while self._queue and self._running < MAX_LOOKUPS:
            self._running += 1
            gevent.spawn(self._work, self._queue.popleft())

    def _work(self, key: tuple[str, int]) -> None:
        host, family = key
        try:
            answer = self._ask(host, family)
        finally:
            self._running -= 1
        entry = self._entries[key]
        entry.answer = answer
        entry.asked_ms = now_ms()
        waiting, entry.waiting = entry.waiting, []
        self._start()
        for one in waiting:
            # Each in its own callback: what one of them raises must not cost the others their answer.
            gevent.get_hub().loop.run_callback(one, answer)

    def _ask(self, host: str, family: int) -> Answer:
        try:
            with gevent.timeout.Timeout(LOOKUP_TIMEOUT_S):
                rows = self._lookup(host, None, family, socket.SOCK_STREAM)
        except gevent.timeout.Timeout:
            return Unresolved(host, f"{host}: no answer from the name server in {LOOKUP_TIMEOUT_S:.0f} s")
        except Exception as error:  # whatever it is, flows wait for an answer
            return Unresolved(host, f"{host}: {_reason(error)}")
        found = [addresses.from_tuple(row[4]) for row in rows if isinstance(row[4], tuple)]
        return list(dict.fromkeys(found)) or Unresolved(host, f"{host}: the name has no address")


def _numeric(host: str, family: int) -> Answer:
    try:
        packed = addresses.pack(host, 0)
    except ValueError as error:
        return Unresolved(host, str(error))
    if family:
        bare = addresses.unmapped(packed)
        if addresses.family(bare) != family:
            kind = "IPv4" if family == addresses.AF_INET else "IPv6"
            return Unresolved(host, f"{host}: only {kind} addresses may be used here")
    return [packed]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
