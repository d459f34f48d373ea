"""Name look-ups: cached, bounded, asked again after failure, never raising."""

import socket

import gevent
import gevent.event
import pytest

from kcpg.net import addr, lookupshares, resolve
from kcpg.net.resolve import Resolver, Unresolved
from tests.net.sockets import until


class Names:
    """A name server in memory that counts what it is asked."""

    def __init__(self, **names):
        self.names = names
        self.asked = []
        self.gate = None

    def __call__(self, host, port, family, kind):
        self.asked.append(host)
        if self.gate is not None:
            self.gate.wait()
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, kind, 6, "", (ip, 0)) for ip in self.names[host]]


def ask(resolver, host, port=80, family=0):
    result = gevent.event.AsyncResult()
    resolver.resolve(host, port, result.set, family)
    return result.get(timeout=5)


def test_numeric_is_answered_at_once():
    got = []
    Resolver(Names()).resolve("127.0.0.1", 7, got.append)
    assert got == [[addr.pack("127.0.0.1", 7)]]


def test_answers_are_kept_and_forgotten():
    names = Names(here=["10.0.0.1", "10.0.0.2", "10.0.0.1"])
    resolver = Resolver(names)
    want = [addr.pack("10.0.0.1", 80), addr.pack("10.0.0.2", 80)]
    assert ask(resolver, "here") == want
    assert ask(resolver, "here", 81) == [addr.with_port(a, 81) for a in want]
    assert names.asked == ["here"]
    names.names["here"] = ["10.0.0.3"]
    resolver.forget("here")
    assert ask(resolver, "here") == [addr.pack("10.0.0.3", 80)]


def test_answers_expire(monkeypatch):
    clock = [1000]
    monkeypatch.setattr(resolve, "now_ms", lambda: clock[0])
    names = Names(here=["10.0.0.1"])
    resolver = Resolver(names)
    ask(resolver, "here")
    clock[0] += resolve.KEEP_MS
    ask(resolver, "here")
    assert len(names.asked) == 2


def test_failure_is_told_and_asked_again(monkeypatch):
    clock = [1000]
    monkeypatch.setattr(resolve, "now_ms", lambda: clock[0])
    names = Names()
    resolver = Resolver(names)
    got = ask(resolver, "nowhere.example")
    assert isinstance(got, Unresolved)
    assert "nowhere.example" in got.text and "not known" in got.text
    ask(resolver, "nowhere.example")
    assert len(names.asked) == 1
    clock[0] += resolve.KEEP_FAILED_MS
    names.names["nowhere.example"] = ["10.0.0.9"]
    assert ask(resolver, "nowhere.example") == [addr.pack("10.0.0.9", 80)]


def test_simultaneous_callers_share_one_lookup_and_one_bad_caller_costs_nobody():
    names = Names(here=["10.0.0.1"])
    names.gate = gevent.event.Event()
    resolver = Resolver(names)
    got = []

    def bad(_answer):
        raise ValueError("a caller's own error")

    hub = gevent.get_hub()
    before, hub.NOT_ERROR = hub.NOT_ERROR, (*hub.NOT_ERROR, ValueError)
    try:
        resolver.resolve("here", 1, bad)
        for _ in range(3):
            resolver.resolve("here", 80, got.append)
        gevent.sleep(0)
        names.gate.set()
        assert ask(resolver, "here") == [addr.pack("10.0.0.1", 80)]
        gevent.sleep(0)
    finally:
        hub.NOT_ERROR = before
    assert got == [[addr.pack("10.0.0.1", 80)]] * 3
    assert names.asked == ["here"]


def test_lookups_and_names_are_bounded(monkeypatch):
    monkeypatch.setattr(resolve, "MAX_NAMES", 20)
    names = Names(**{f"n{i}": ["10.0.0.1"] for i in range(40)})
    names.gate = gevent.event.Event()
    resolver = Resolver(names)
    got = []
    for i in range(21):
        resolver.resolve(f"n{i}", 1, got.append, asker=i % 2)
    gevent.sleep(0)
    assert len(names.asked) == resolve.MAX_LOOKUPS
    assert isinstance(got[0], Unresolved) and "more than 20" in got[0].text
    names.gate.set()
    while len(got) < 21:
        gevent.sleep(0)
    for i in range(21, 40):
        assert isinstance(ask(resolver, f"n{i}"), list)
    assert len(resolver._entries) <= 20


def test_family_restriction():
    got = ask(Resolver(Names()), "::1", family=addr.AF_INET)
    assert isinstance(got, Unresolved) and "only IPv4" in got.text


def test_a_hanging_name_server_is_given_up(monkeypatch):
    monkeypatch.setattr(resolve, "LOOKUP_TIMEOUT_S", 0.01)
    names = Names(slow=["10.0.0.1"])
    names.gate = gevent.event.Event()
    resolver = Resolver(names)
    for _ in range(3):
        got = ask(resolver, "slow")
        assert isinstance(got, Unresolved) and "no answer" in got.text
    assert names.asked == ["slow"], "one thread asks, however often nobody waited for it"
    names.gate.set()
    until(lambda: ask(resolver, "slow") == [addr.pack("10.0.0.1", 80)], "what came late serves the next")


def test_names_whose_server_is_silent_do_not_hold_up_others(monkeypatch):
    monkeypatch.setattr(resolve, "SLOW_S", 0.01)
    gate = gevent.event.Event()
    names = Names(living=["10.0.0.1"])

    def lookup(host, port, family, kind):
        if host.startswith("dead"):
            gate.wait()
        return names(host, port, family, kind)

    resolver, got = Resolver(lookup), []
    for number in range(resolve.MAX_LOOKUPS + 5):
        resolver.resolve(f"dead{number}", 80, got.append, asker=number % 7)
    assert ask(resolver, "living") == [addr.pack("10.0.0.1", 80)]
    assert got == []
    for number in range(resolve.MAX_SLOW + resolve.MAX_LOOKUPS):
        resolver.resolve(f"dead, too, {number}", 80, got.append, asker=number % 7)
    until(lambda: resolver._slow == resolve.MAX_SLOW, "as many threads wait as may")
    assert resolver._running == resolve.MAX_LOOKUPS
    gate.set()
    until(lambda: len(got) == 2 * resolve.MAX_LOOKUPS + resolve.MAX_SLOW + 5, "everybody has an answer")
    assert resolver._slow == resolver._running == 0


def test_a_known_name_outlives_its_name_server(monkeypatch):
    clock = [1000]
    monkeypatch.setattr(resolve, "now_ms", lambda: clock[0])
    monkeypatch.setattr(resolve, "STALE_S", 0.01)
    names = Names(here=["10.0.0.1"])
    resolver = Resolver(names)
    want = ask(resolver, "here")
    clock[0] += resolve.KEEP_MS
    names.gate = gevent.event.Event()
    assert ask(resolver, "here") == want, "the server is silent, so what was known has to do"
    assert names.asked == ["here"] * 2
    names.names = {}
    names.gate.set()
    until(lambda: isinstance(ask(resolver, "here"), Unresolved), "the server says that it is gone")


def test_a_server_in_trouble_is_spared_and_what_was_known_used(monkeypatch):
    clock = [1000]
    monkeypatch.setattr(resolve, "now_ms", lambda: clock[0])
    names = Names(here=["10.0.0.1"])
    works = [True]

    def lookup(host, port, family, kind):
        found = names(host, port, family, kind)
        if not works[0]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return found

    resolver = Resolver(lookup)
    want = ask(resolver, "here")
    works[0] = False
    clock[0] += resolve.KEEP_MS
    assert ask(resolver, "here") == ask(resolver, "here") == want
    assert len(names.asked) == 2
    clock[0] += resolve.STALE_RECHECK_MS
    assert ask(resolver, "here") == want
    assert len(names.asked) == 3
    clock[0] += resolve.STALE_MS
    assert "Temporary failure" in ask(resolver, "here").text


@pytest.mark.parametrize("name", ["a" * 300, "bad\udcff"])
def test_impossible_names(name):
    assert isinstance(ask(Resolver(), name), Unresolved)


def test_the_real_hosts_file():
    assert addr.is_loopback(ask(Resolver(), "localhost")[0])


def test_who_asks_for_silent_names_leaves_others_their_look_ups(monkeypatch):
    monkeypatch.setattr(resolve, "SLOW_S", 0.01)
    gate = gevent.event.Event()
    names = Names(**{f"living{n}": ["10.0.0.1"] for n in range(100)}, both=["10.0.0.2"])

    def lookup(host, port, family, kind):
        if host.startswith("dead"):
            gate.wait()
        return names(host, port, family, kind)

    resolver, got, mine = Resolver(lookup), [], []
    for number in range(lookupshares.MOST_WAITING + 500):
        resolver.resolve(f"dead{number}", 80, got.append, asker="greedy")
    refused = len(got)
    assert refused > 0 and {"too many names are looked up"} == {each.text.split(": ")[1] for each in got}
    until(lambda: resolver._slow == lookupshares.MOST_SLOW, "it has as many threads as it may")
    resolver.resolve("both", 80, got.append, asker="greedy")
    resolver.resolve("both", 80, mine.append, asker="other")
    for number in range(100):
        resolver.resolve(f"living{number}", 80, mine.append, asker="other")
    until(lambda: len(mine) == 101, "all names of the other one are found")
    assert all(isinstance(each, list) for each in mine) and resolver._slow == lookupshares.MOST_SLOW
    gate.set()
    until(lambda: resolver._slow == resolver._running == 0, "nothing stays behind")
    assert len(resolver._idle) == len(resolver._entries)


def test_the_rate_of_new_names_is_bounded():
    shares, now_ms = lookupshares.LookupShares(), 1000
    came = 0
    for _ in range(1000):
        for number in range(10):
            if shares.ask("greedy", (f"n{number}", 0), now_ms):
                came += 1
                shares.done(shares.take()[0], False)
        now_ms += 10
    assert came <= lookupshares.MOST_WAITING + 10 * lookupshares.LOOKUPS_PER_S + 1
    assert shares.ask("other", ("n", 0), now_ms)


def test_askers_are_forgotten():
    shares = lookupshares.LookupShares()
    for number in range(20_000):
        assert shares.ask(number, ("n", 0), number)
        shares.done(shares.take()[0], False)
    assert len(shares._askers) <= 20


def test_a_wait_that_is_over_ends_no_later_one(monkeypatch):
    """Whoever asks again gets all the time there is."""
    clock = [1000]
    monkeypatch.setattr(resolve, "now_ms", lambda: clock[0])
    monkeypatch.setattr(resolve, "LOOKUP_TIMEOUT_S", 0.05)
    names = Names(here=["10.0.0.1"])
    resolver = Resolver(names)
    ask(resolver, "here")
    assert all(entry.patience is None for entry in resolver._entries.values())
