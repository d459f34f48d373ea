"""When a listener begins a handshake, and whom it tells to come later."""

from __future__ import annotations

import random

from kcpg.core.native.handshake.envelope import RetryFields, pack_retry, read_reply
from kcpg.core.native.handshake.handshake import InitRequest
from kcpg.core.native.handshake.outcomes import Accepted, Reply, Retry, RetryReason
from kcpg.core.native.handshake.pace import (
    LATE_MS,
    MAX_PROMISES,
    MEASURED_PART,
    MOST_COST_MS,
    MOST_WAIT_MS,
    SAMPLES,
    SHARE,
    SLACK_MS,
    START_MS,
    Pace,
)
from tests.handshakes import HandshakePair


def crowd(pace: Pace, count: int, now_ms: int) -> dict[bytes, int]:
    """So many who come at once, and when each may begin."""
    names = [b"%d" % number for number in range(count)]
    return {who: 0 if pace.admit(who, now_ms) else pace.promise(who, now_ms) for who in names}


def test_a_few_begin_at_once_and_the_others_one_after_another() -> None:
    pace = Pace()
    waits = list(crowd(pace, 1000, 0).values())
    at_once = waits.count(0)
    assert at_once * pace.cost_ms <= START_MS + 2 * pace.cost_ms
    assert waits == sorted(waits)
    assert abs(waits[-1] - 1000 * pace.cost_ms) <= 2 * pace.cost_ms
    late = [b - a for a, b in zip(waits[at_once:], waits[at_once + 1 :], strict=False)]
    assert max(late) - min(late) <= 1, "nobody comes together with another"


def test_who_comes_when_told_is_served_before_newcomers() -> None:
    pace = Pace()
    waits = crowd(pace, 1000, 0)
    for who, wait_ms in waits.items():
        if wait_ms:
            assert not pace.admit(b"newcomer", wait_ms) or wait_ms + START_MS > max(waits.values())
            assert pace.admit(who, wait_ms), (who, wait_ms)


def test_a_repeated_question_gets_the_same_time_and_takes_no_other() -> None:
    pace = Pace()
    waits = crowd(pace, 500, 0)
    last, wait_ms = list(waits.items())[-1]
    for passed_ms in (10, 100):
        assert pace.promise(last, passed_ms) == wait_ms - passed_ms
        assert not pace.admit(last, passed_ms), "before its time"
    assert pace.promise(b"next", 100) - (wait_ms - 100) <= 2 * pace.cost_ms


def test_where_nobody_comes_a_newcomer_does_not_wait() -> None:
    pace = Pace()
    waits = crowd(pace, 5000, 0)
    gone_ms = max(waits.values()) // 2
    assert pace.admit(b"newcomer", gone_ms)


def test_the_time_is_what_was_measured() -> None:
    pace = Pace()
    for _ in range(10 * SAMPLES):
        pace.begun(3_000_000)
    assert abs(pace.cost_ms - 3 / (MEASURED_PART * SHARE)) < 0.01
    usual_ms = pace.cost_ms
    pace.begun(0)
    pace.begun(60_000 * 1_000_000)
    assert pace.cost_ms < 2 * usual_ms, "one that was interrupted says little"
    for _ in range(10 * SAMPLES):
        pace.begun(60_000 * 1_000_000)
    assert pace.cost_ms <= MOST_COST_MS / (MEASURED_PART * SHARE)


def test_promises_are_bounded_and_forgotten() -> None:
    pace = Pace()
    now_ms = 0
    for number in range(3 * MAX_PROMISES):
        pace.promise(b"%d" % number, now_ms)
        if number % 500 == 0:
            now_ms += 1000
        assert len(pace._promises) <= MAX_PROMISES
    pace.promise(b"later", now_ms + MOST_WAIT_MS + LATE_MS + 1)
    assert len(pace._promises) == 1
    assert all(pace.promise(b"n%d" % number, now_ms) <= MOST_WAIT_MS for number in range(40_000))


def test_more_work_than_was_planned_makes_even_the_told_wait() -> None:
    """As after a few handshakes that took much longer than the others."""
    pace = Pace()
    waits = crowd(pace, 400, 0)
    for _ in range(100):
        pace.begun(90_000_000)
    told = [(who, wait_ms) for who, wait_ms in waits.items() if wait_ms]
    begun = [who for who, wait_ms in told if pace.admit(who, wait_ms)]
    span_ms = told[-1][1] - told[0][1]
    assert len(begun) <= (span_ms + SLACK_MS) / pace.cost_ms + 2


def test_a_listener_without_time_says_when_to_come_and_then_answers() -> None:
    pair = HandshakePair()
    pace = pair.listener.pace = Pace()
    crowd(pace, 400, pair.now_ms)
    reply = pair.to_listener(pair.init())
    assert isinstance(reply, Reply) and reply.kind == "retry"
    retry = pair.to_dialer(reply.datagram)
    assert isinstance(retry, Retry) and retry.reason == RetryReason.COOKIE and retry.wait_ms > 300
    again = pair.to_listener(pair.init())
    assert isinstance(again, Reply) and again.kind == "retry"
    assert pair.to_dialer(again.datagram) is None, "one time is enough, and its cookie is kept"
    pair.now_ms += retry.wait_ms
    pair.dialer.is_told = False
    request = pair.to_listener(pair.init())
    assert isinstance(request, InitRequest)
    datagram, _ = pair.accept(request)
    assert isinstance(pair.to_dialer(datagram), Accepted)


def test_repeats_are_answered_though_there_is_no_time_and_no_ration() -> None:
    pair = HandshakePair()
    request = pair.to_listener(pair.init())
    assert isinstance(request, InitRequest)
    pair.accept(request)
    honest = pair.dialer
    for _ in range(300):
        pair.dialer = pair.another()
        pair.to_listener(pair.init())
    pair.listener.pace = Pace()
    crowd(pair.listener.pace, 400, pair.now_ms)
    pair.dialer, pair.load = honest, True
    answer = pair.to_listener(pair.init())
    assert isinstance(answer, Reply) and answer.kind == "repeat"
    assert isinstance(pair.to_dialer(answer.datagram), Accepted)


def test_an_older_listener_tells_no_time() -> None:
    """Its RETRY ends before that."""
    rng = random.Random(3)
    fields = RetryFields(2, rng.randbytes(16), 1_700_000_000, rng.randbytes(16), 2500)
    assert read_reply(pack_retry(fields)) == fields
    older = read_reply(pack_retry(fields)[:-4])
    assert isinstance(older, RetryFields) and older.wait_ms == 0 and older.echo == fields.echo
