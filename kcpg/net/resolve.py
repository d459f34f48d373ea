"""Names to addresses without blocking a greenlet that carries traffic.

``getaddrinfo`` runs in threads of its own pool (so /etc/hosts and nsswitch count); numeric addresses are
answered at once. Answers are kept for a while and bounded, a failed connection makes them stale (`forget`),
so that a name that moved is looked up again.

A name whose server is silent holds a thread for as long as the C library waits. So look-ups that take long
stand in a lane of their own and do not hold up other names, and a name that was known goes on with what was
known (RFC 8767) while its server does not answer.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import gevent
from gevent.resolver.thread import Resolver as ThreadResolver
from gevent.threadpool import ThreadPool

from kcpg.net import addr as addresses
from kcpg.net.clock import now_ms
from kcpg.net.lookupshares import LookupShares

# getaddrinfo does not tell the record's TTL; a minute is what resolvers commonly use as a floor.
KEEP_MS = 60_000
# A name that failed is asked again after this; long enough to spare a dead name server.
KEEP_FAILED_MS = 1_000
MAX_NAMES = 1024
MAX_LOOKUPS = 8  # at once, of those that are quick
MAX_SLOW = 56  # and of those that are not, each a thread that waits
SLOW_S = 1.0  # a look-up that takes longer is slow
LOOKUP_TIMEOUT_S = 10.0  # resolv.conf(5): 5 s per try, two tries; the thread goes on, and nobody waits for it
STALE_S = 1.8  # what was known is the answer after this: RFC 8767 section 5, client response timer
STALE_MS = 86_400_000  # and no older than this
STALE_RECHECK_MS = 30_000  # its name server is asked again after this: RFC 8767, failure recheck timer


@dataclass(frozen=True)
class Unresolved:
    """Why a name has no address. `is_final`: its name server has said so, not merely been silent."""

    host: str
    text: str
    is_final: bool = False


# Packed addresses, in the resolver's order of preference, or the reason there are none.
Answer = list[bytes] | Unresolved


@dataclass
class _Entry:
    """One name: its last answer, the last good one, and the callers waiting for the next."""

    answer: Answer | None = None
    expires_ms: int = 0
    asked_ms: int = 0
    known: list[bytes] = field(default_factory=list)
    known_ms: int = 0
    is_running: bool = False  # a thread asks
    askers: set[Hashable] = field(default_factory=set)  # in whose share it waits for one
    waiting: list[Callable[[Answer], None]] = field(default_factory=list)
    patience: gevent.Greenlet | None = None  # ends their wait

    def is_good(self, now_ms: int, max_age_ms: int) -> bool:
        """Whether the answer may still be used."""
        return self.answer is not None and now_ms < min(self.expires_ms, self.asked_ms + max_age_ms)

    def stale(self, now_ms: int) -> list[bytes]:
        """What was known, unless that is too old."""
        return self.known if now_ms - self.known_ms < STALE_MS else []


class Resolver:
    """The names of one process.

    `family` of 0 allows both, AF_INET or AF_INET6 only that one. `lookup` may be replaced in tests by
    a function with getaddrinfo's first arguments and result.
    """

    def __init__(self, lookup: Callable[..., list[tuple[object, ...]]] | None = None) -> None:
        self._lookup = lookup
        self._entries: OrderedDict[tuple[str, int], _Entry] = OrderedDict()
        self._numeric: dict[tuple[str, int, int], Answer] = {}  # worked out once, as every flow asks
        self._idle: OrderedDict[tuple[str, int], None] = OrderedDict()  # names that nobody waits for
        self._shares = LookupShares()
        self._running = 0
        self._slow = 0

    def resolve(
        self,
        host: str,
        port: int,
        answer: Callable[[Answer], None],
        family: int = 0,
        max_age_ms: int = KEEP_MS,
        asker: Hashable = None,
    ) -> None:
        """Call `answer` with the addresses of `host` at `port`: at once if known, else from the hub later.

        What was learnt more than `max_age_ms` ago is asked again. `asker`: in whose share of the look-ups.
        Never raises and never blocks; `answer` is called exactly once.
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
        if entry is None:
            if not self._make_room():
                with_port(Unresolved(host, f"{host}: more than {MAX_NAMES} names are being looked up"))
                return
            entry = self._entries[key] = _Entry()
        elif entry.answer is not None and entry.is_good(now_ms(), max_age_ms):
            if key in self._idle:
                self._idle.move_to_end(key)
            with_port(entry.answer)
            return
        if not entry.is_running and asker not in entry.askers:
            if not self._shares.ask(asker, key, now_ms()):
                self._idle_if_over(key, entry)
                with_port(entry.stale(now_ms()) or Unresolved(host, f"{host}: too many names are looked up"))
                return
            entry.askers.add(asker)
        self._idle.pop(key, None)
        entry.waiting.append(with_port)
        if len(entry.waiting) == 1:
            wait_s = STALE_S if entry.stale(now_ms()) else LOOKUP_TIMEOUT_S
            entry.patience = gevent.spawn_later(wait_s, self._give_up, key, entry)
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
        """Doubt what is known of `host` (a connection to it failed): the next `resolve` asks again."""
        bare = addresses.strip_brackets(host)
        for family in (0, socket.AF_INET, socket.AF_INET6):
            entry = self._entries.get((bare, family))
            if entry is not None:
                entry.expires_ms = 0

    def _make_room(self) -> bool:
        if len(self._entries) < MAX_NAMES:
            return True
        if not self._idle:
            return False
        del self._entries[self._idle.popitem(last=False)[0]]
        return True

    def _idle_if_over(self, key: tuple[str, int], entry: _Entry) -> None:
        """Nobody waits for this name any more: it may be forgotten for another one."""
        if not entry.waiting and not entry.is_running and not entry.askers:
            self._idle[key] = None

    # -- looking up --

    def _start(self) -> None:
        while self._running < MAX_LOOKUPS and (taken := self._shares.take()) is not None:
            asker, key = taken
            entry = self._entries[key]
            entry.askers.discard(asker)
            if entry.is_running or not entry.waiting:  # asked for in another one's share, or given up
                self._shares.done(asker, False)
                self._idle_if_over(key, entry)
                continue
            entry.is_running = True
            self._running += 1
            gevent.spawn(self._work, key, asker)

    def _work(self, key: tuple[str, int], asker: Hashable) -> None:
        entry = self._entries[key]
        is_slow = [False]
        slow = gevent.spawn_later(SLOW_S, self._slow_down, is_slow, asker)
        answer: Answer = Unresolved(key[0], f"{key[0]}: the look-up was ended")
        try:
            answer = self._ask(*key)
        finally:
            slow.kill()
            if is_slow[0]:
                self._slow -= 1
            else:
                self._running -= 1
            self._shares.done(asker, is_slow[0])
            entry.is_running = False
            self._answered(key, entry, answer)
            self._idle_if_over(key, entry)
            self._start()

    def _slow_down(self, is_slow: list[bool], asker: Hashable) -> None:
        """This look-up takes long: let another one begin in its place, if there is a thread for that."""
        if self._slow < MAX_SLOW and self._shares.slows(asker):
            is_slow[0] = True
            self._slow += 1
            self._running -= 1
            self._start()

    def _ask(self, host: str, family: int) -> Answer:
        try:
            rows = (self._lookup or _threads().getaddrinfo)(host, None, family, socket.SOCK_STREAM)
        except Exception as error:  # whatever it is, flows wait for an answer
            return Unresolved(host, f"{host}: {_reason(error)}", is_final=_is_final(error))
        found = [addresses.from_tuple(row[4]) for row in rows if isinstance(row[4], tuple)]
        return list(dict.fromkeys(found)) or Unresolved(host, f"{host}: the name has no address", True)

    def _answered(self, key: tuple[str, int], entry: _Entry, answer: Answer) -> None:
        now = now_ms()
        entry.asked_ms = now
        if not isinstance(answer, Unresolved):
            entry.known, entry.known_ms, entry.expires_ms = answer, now, now + KEEP_MS
        elif not answer.is_final and entry.stale(now):
            answer, entry.expires_ms = entry.known, now + STALE_RECHECK_MS
        else:
            entry.expires_ms = now + KEEP_FAILED_MS
        entry.answer = answer
        self._tell(entry, answer)

    def _give_up(self, key: tuple[str, int], entry: _Entry) -> None:
        """Nobody waits longer than this. The thread goes on; what it finds is for those who ask next."""
        entry.patience = None
        text = f"{key[0]}: no answer from the name server in {LOOKUP_TIMEOUT_S:.0f} s"
        self._tell(entry, entry.stale(now_ms()) or Unresolved(key[0], text))

    def _tell(self, entry: _Entry, answer: Answer) -> None:
        waiting, entry.waiting = entry.waiting, []
        if entry.patience is not None:
            entry.patience.kill(block=False)
            entry.patience = None
        for one in waiting:
            # Each in its own callback: what one of them raises must not cost the others their answer.
            gevent.get_hub().loop.run_callback(one, answer)


_thread_resolver: ThreadResolver | None = None


def _threads() -> ThreadResolver:
    """gevent's resolver with a pool of threads of its own: the hub's has ten, and others need them."""
    global _thread_resolver
    if _thread_resolver is None or _thread_resolver.pool.hub is not gevent.get_hub():
        _thread_resolver = ThreadResolver()
        _thread_resolver.pool = ThreadPool(MAX_LOOKUPS + MAX_SLOW)
    return _thread_resolver


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


def _is_final(error: Exception) -> bool:
    return isinstance(error, socket.gaierror) and error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
