"""Repeated events become one line with a count."""

from __future__ import annotations

import logging

from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.app.dedup import MAX_KINDS, MAX_PEERS, OTHERS, LogDeduplicator

WARN = logging.WARNING


def test_first_passes_repeats_are_counted_and_told_once():
    quiet = LogDeduplicator()
    assert quiet.admit("refused", "a", "no", WARN, 0.0)
    assert not any(quiet.admit("refused", "a", "no", WARN, 1.0 + i) for i in range(37))
    assert quiet.due(59.9) == []
    (line,) = quiet.due(60.0)
    assert (line.kind, line.peer, line.count, line.level) == ("refused", "a", 37, WARN)
    assert line.text == "no (repeated 37 times in 60 s)"
    assert quiet.due(60.0) == []


def test_after_a_silent_minute_it_is_said_again():
    quiet = LogDeduplicator()
    assert quiet.admit("k", "a", "x", WARN, 0.0)
    assert quiet.due(61.0) == []
    assert quiet.admit("k", "a", "x", WARN, 61.0)


def test_while_it_goes_on_one_line_a_minute():
    quiet = LogDeduplicator()
    lines = 0
    for second in range(600):
        lines += quiet.admit("k", "a", "x", WARN, float(second))
        lines += len(quiet.due(float(second)))
    assert lines == 10


def test_other_peers_and_kinds_are_not_held_back():
    quiet = LogDeduplicator()
    assert quiet.admit("k", "a", "x", WARN, 0.0)
    assert quiet.admit("k", "b", "x", WARN, 0.0)
    assert quiet.admit("l", "a", "x", WARN, 0.0)


def test_invented_peers_share_one_line():
    quiet = LogDeduplicator()
    said = sum(quiet.admit("auth", f"192.0.2.{i}", "bad", WARN, 0.0) for i in range(1000))
    assert said == MAX_PEERS
    (line,) = quiet.due(60.0)
    assert line.peer == OTHERS and line.count == 1000 - MAX_PEERS
    assert "984 more from other peers" in line.text


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 30)), max_size=300))
def test_no_event_is_lost_or_told_twice(events):
    quiet = LogDeduplicator()
    now, given_in, told = 0.0, 0, 0
    for kind, peer, wait in events:
        now += wait
        given_in += 1
        told += quiet.admit(str(kind), str(peer), "x", WARN, now)
        told += sum(line.count for line in quiet.due(now))
    assert told + sum(line.count for line in quiet.drain()) == given_in


def test_memory_is_bounded():
    quiet = LogDeduplicator()
    for i in range(5000):
        quiet.admit(str(i), "a", "x", WARN, 0.0)
    assert len(quiet._kinds) <= MAX_KINDS
