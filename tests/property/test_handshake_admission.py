"""Who gets an answer: replays, wrong clocks, floods, cookies, and the bounds of what is remembered."""

from __future__ import annotations

import random

import pytest

from kcpg.core.native.handshake.admission import (
    COOKIE_PERIOD_MS,
    FAILURES_BURST,
    MAX_SOURCES,
    SALT_MEMORY_MS,
    SOURCE_BURST,
    SOURCE_RATE_PER_S,
    Cookies,
    SaltSet,
    Sources,
)
from kcpg.core.native.handshake.handshake import MAX_RETRIES, InitRequest, Responder
from kcpg.core.native.handshake.outcomes import Reply, Retry, RetryReason
from tests.handshakes import KEYS, SOURCE, HandshakePair

YEAR_S = 365 * 86_400


def retried(pair: HandshakePair, datagram: bytes, **where: bytes) -> Reply:
    got = pair.to_listener(datagram, **where)
    assert isinstance(got, Reply) and got.kind == "retry"
    return got


def test_a_replayed_init_is_dropped() -> None:
    pair = HandshakePair()
    init = pair.init()
    assert isinstance(pair.to_listener(init), InitRequest)
    for _ in range(3):
        assert pair.to_listener(init) is None
        assert pair.to_listener(init, source=b"elsewhere") is None
    assert pair.listener.drops == {"handshake_replay": 6}


def test_a_late_copy_never_makes_a_link() -> None:
    """Second by second for five minutes: dropped as long as its time is good, then only asked to come
    again.
    """
    for skew in (-59, 0, 59):
        pair = HandshakePair(skew_s=skew)
        init = pair.init()
        assert isinstance(pair.to_listener(init), InitRequest)
        start_ms, start_s = pair.now_ms, pair.wall_s
        for second in range(1, 300):
            pair.now_ms, pair.wall_s = start_ms + 1000 * second, start_s + second
            got = pair.to_listener(init)
            assert got is None or (isinstance(got, Reply) and got.kind == "retry"), (skew, second)


@pytest.mark.parametrize("skew_s", [-10 * YEAR_S, -86_400, -60, 60, 3600, 10 * YEAR_S, -100 * YEAR_S])
def test_a_wrong_clock_connects_with_one_retry(skew_s: int) -> None:
    pair = HandshakePair(skew_s=skew_s)
    ours, theirs, tries = pair.meet()
    assert ours == theirs and tries == 2
    assert pair.dialer.clock_offset_s == -skew_s


@pytest.mark.parametrize("skew_s", [-59, 0, 59])
def test_a_clock_that_is_nearly_right_connects_at_once(skew_s: int) -> None:
    assert HandshakePair(skew_s=skew_s).meet()[2] == 1


def test_a_retry_is_followed_once_and_only_by_who_asked() -> None:
    pair = HandshakePair(skew_s=3600)
    reply = retried(pair, pair.init())
    assert pair.to_dialer(reply.datagram) == Retry(RetryReason.CLOCK, pair.wall_s)
    assert pair.to_dialer(reply.datagram) is None
    stranger = pair.another()
    stranger.client_cid = pair.dialer.client_cid  # even with the same CID it did not send that INIT
    pair.dialer = stranger
    assert pair.to_dialer(reply.datagram) is None
    assert stranger.drops == {"handshake_echo": 1}


def test_retries_end() -> None:
    """A listener whose cookies never hold cannot keep a dialer busy for ever."""
    pair = HandshakePair()
    pair.load = True
    for number in range(MAX_RETRIES + 3):
        got = pair.to_dialer(retried(pair, pair.init(), source=b"port %d" % number).datagram)
        assert (got is not None) == (number < MAX_RETRIES)


def test_under_load_a_cookie_comes_first() -> None:
    pair = HandshakePair()
    pair.load = True
    reply = retried(pair, pair.init())
    assert pair.to_dialer(reply.datagram) == Retry(RetryReason.COOKIE, pair.wall_s)
    assert len(pair.listener._answers) == 0
    assert retried(pair, pair.init(), source=b"another address"), "a cookie is bound to its source"
    assert isinstance(pair.to_listener(pair.init()), InitRequest)


def test_a_cookie_lasts_one_to_two_periods() -> None:
    cookies = Cookies(bytes(32))
    start = 7 * COOKIE_PERIOD_MS
    for made in (start, start + COOKIE_PERIOD_MS - 1):
        cookie = cookies.make(SOURCE, 5, made)
        assert len(cookie) == 16
        for now, valid in (
            (made, True),
            (start + 2 * COOKIE_PERIOD_MS - 1, True),
            (start + 2 * COOKIE_PERIOD_MS, False),
            (start - 1, False),
        ):
            assert cookies.valid(cookie, SOURCE, 5, now) is valid
    cookie = cookies.make(SOURCE, 5, start)
    assert not cookies.valid(cookie, b"another", 5, start)
    assert not cookies.valid(cookie, SOURCE, 6, start)
    assert not cookies.valid(bytes(16), SOURCE, 5, start)
    assert not Cookies(b"1" * 32).valid(cookie, SOURCE, 5, start)


def test_the_salts_are_bounded_and_then_cookies_are_asked_for() -> None:
    pair = HandshakePair(max_salts=10)
    for number in range(10):
        pair.dialer = pair.another()
        assert isinstance(pair.to_listener(pair.init()), InitRequest), number
    for _ in range(20):
        pair.dialer = pair.another()
        reply = retried(pair, pair.init())
        assert pair.to_dialer(reply.datagram) is not None
    assert len(pair.listener._salts) == 10
    assert isinstance(pair.to_listener(pair.init()), InitRequest), "with its cookie it is let in"
    pair.now_ms += SALT_MEMORY_MS
    pair.dialer = pair.another()
    assert isinstance(pair.to_listener(pair.init()), InitRequest), "and later without"


def test_salts_are_remembered_exactly_as_long_as_needed() -> None:
    salts = SaltSet(3)
    assert all(salts.add(salt, 1000 * index) for index, salt in enumerate((b"a", b"b", b"c")))
    assert salts.full(SALT_MEMORY_MS - 1) and not salts.add(b"d", SALT_MEMORY_MS - 1)
    assert salts.add(b"d", SALT_MEMORY_MS)
    assert b"a" not in salts and b"b" in salts and len(salts) == 3


def test_a_flood_of_one_source_is_limited_and_others_are_served() -> None:
    """The flooder knows the password. Beyond the rate it is asked for a cookie, and with one it is rationed
    too: its handshakes cost no key agreement.
    """
    pair = HandshakePair()
    served = asked = 0
    for _ in range(SOURCE_BURST + 100):
        pair.dialer = pair.another()
        got = pair.to_listener(pair.init())
        served += isinstance(got, InitRequest)
        asked += isinstance(got, Reply) and got.kind == "retry"
    assert (served, asked, pair.listener.drops) == (SOURCE_BURST, 100, {})
    pair.dialer = pair.another()
    assert isinstance(pair.to_listener(pair.init(), source=b"other:1", key=b"other"), InitRequest)

    proven = [proven_init(pair) for _ in range(SOURCE_BURST + 100)]
    served = sum(isinstance(pair.to_listener(init), InitRequest) for init in proven)
    assert served == SOURCE_BURST and pair.listener.drops == {"handshake_rate": 100}
    pair.now_ms += 1000
    served = 0
    for _ in range(2 * SOURCE_RATE_PER_S):
        pair.dialer = pair.another()
        served += isinstance(pair.to_listener(pair.init()), InitRequest)
    assert served == SOURCE_RATE_PER_S


def proven_init(pair: HandshakePair) -> bytes:
    """An INIT with a cookie, of a new dialer."""
    pair.dialer, pair.load = pair.another(), True
    retry = pair.to_listener(pair.init())
    assert isinstance(retry, Reply) and isinstance(pair.to_dialer(retry.datagram), Retry)
    pair.load = False
    return pair.init()


def test_forged_sources_take_nothing_from_who_receives_at_his_address() -> None:
    """Somebody with the key sends INITs from a client's address, as many as he can."""
    pair = HandshakePair()
    honest = pair.dialer
    for _ in range(3 * SOURCE_BURST):
        pair.dialer = pair.another()
        pair.to_listener(pair.init())
    pair.dialer = honest
    retry = pair.to_listener(pair.init())
    assert isinstance(retry, Reply) and isinstance(pair.to_dialer(retry.datagram), Retry)
    assert isinstance(pair.to_listener(pair.init()), InitRequest)


def test_a_copy_is_dropped_before_it_is_opened_and_who_changes_copies_is_not_opened_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = HandshakePair()
    datagram = pair.init()
    assert isinstance(pair.to_listener(datagram), InitRequest)
    opened: list[bytes] = []
    envelope = pair.listener._in
    really = envelope.open
    monkeypatch.setattr(envelope, "open", lambda header, body: (opened.append(body), really(header, body))[1])
    for _ in range(10):
        assert pair.to_listener(datagram) is None
    assert not opened and pair.listener.drops == {"handshake_replay": 10}
    for n in range(1000):
        changed = datagram[:8] + n.to_bytes(2, "big") + datagram[10:]
        assert pair.to_listener(changed, key=b"wicked") is None
    assert len(opened) == FAILURES_BURST
    pair.dialer = pair.another()
    assert isinstance(pair.to_listener(pair.init()), InitRequest), "others are opened"
    pair.now_ms += 1000
    pair.dialer = pair.another()
    assert isinstance(pair.to_listener(pair.init(), key=b"wicked"), InitRequest), "and he later"


def test_a_copy_of_an_old_handshake_is_not_answered_where_clocks_are_right() -> None:
    pair = HandshakePair()
    pair.listener = Responder(KEYS, pair.random.randbytes, answer_wrong_clock=False)
    old = pair.init()
    pair.wall_s += 3600
    pair.now_ms += 3_600_000
    assert pair.to_listener(old) is None and pair.listener.drops == {"handshake_clock": 1}
    assert isinstance(pair.to_listener(pair.init()), InitRequest)


def test_the_sources_are_bounded() -> None:
    sources = Sources()
    rng = random.Random(5)
    for _ in range(2 * MAX_SOURCES):
        assert sources.take(rng.randbytes(8), 0)
    assert len(sources) == MAX_SOURCES


def test_the_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kcpg.core.native.handshake.handshake.MAX_ANSWERS", 20)
    pair = HandshakePair()
    for _ in range(60):
        pair.dialer = pair.another()
        got = pair.to_listener(pair.init())
        assert isinstance(got, InitRequest)
        pair.accept(got)
    assert len(pair.listener._answers) == 20
