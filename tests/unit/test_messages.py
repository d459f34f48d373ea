"""Events become log lines of the right loudness, and repeats do not fill the log."""

from __future__ import annotations

import logging

import pytest

from kcpg.app.linksummary import LINK_SUMMARY
from kcpg.app.logs import LOGGER, NodeLog
from kcpg.app.messages import Reporter
from kcpg.core.env import Event, EventKind
from kcpg.core.flow import Kind, Open, Reset, ResetCode, Target
from kcpg.core.node import FlowOpened, FlowOver
from kcpg.net import Notice
from kcpg.net.addr import pack


@pytest.fixture
def said(caplog):
    """A reporter at level debug, and what it wrote as (level, text)."""
    caplog.set_level(logging.DEBUG, LOGGER)
    logging.getLogger(LOGGER).propagate = True
    clock = [0.0]
    reporter = Reporter(NodeLog("office", "debug"), lambda: clock[0])
    return reporter, clock, lambda: [(r.levelno, r.getMessage()) for r in caplog.records]


def test_link_events_name_leg_and_peer(said):
    reporter, _, lines = said
    reporter.event(Event(EventKind.LINK_UP, "egress", pack("192.0.2.1", 3000), "link up"))
    reporter.event(Event(EventKind.REFUSED, "egress", pack("2001:db8::1", 3000), "fec differs"))
    reporter.event(Event("a_new_kind", "", b"", "something"))
    assert lines() == [
        (logging.INFO, "egress 192.0.2.1:3000: link up"),
        (logging.WARNING, "egress [2001:db8::1]:3000: fec differs"),
        (logging.WARNING, "something"),
    ]


def test_every_kind_of_event_has_a_level():
    from kcpg.app import messages

    kinds = {value for name, value in vars(EventKind).items() if not name.startswith("_")}
    assert kinds | {LINK_SUMMARY} == set(messages._LEVELS)


def test_repeated_events_of_one_peer_are_one_line(said):
    reporter, clock, lines = said
    for second in range(100):
        clock[0] = second / 10
        reporter.event(Event(EventKind.NO_ANSWER, "egress", pack("192.0.2.1", 3000), "no answer"))
    reporter.event(Event(EventKind.NO_ANSWER, "egress", pack("192.0.2.2", 3000), "no answer"))
    assert len(lines()) == 2


def test_flows_are_told_only_when_they_fail(said):
    reporter, _, lines = said
    open = Open(Kind.TCP, Target("::1", 80), "127.0.0.1:5")
    reporter.flow(FlowOpened(open))
    reporter.flow(FlowOver(open, None, 1, 2, 0))
    reporter.flow(FlowOver(open, Reset(ResetCode.RESET_BY_APPLICATION), 1, 2, 0))
    reporter.flow(FlowOver(open, Reset(ResetCode.REFUSED, "nobody listens"), 0, 0, 0))
    levels = [level for level, _ in lines()]
    assert levels == [logging.DEBUG] * 3 + [logging.WARNING]
    last = lines()[-1][1]
    assert last == "TCP flow of 127.0.0.1:5 for [::1]:80: refused: nobody listens (0 bytes up, 0 down)"
    assert lines()[1][1].endswith("finished, 1 bytes up, 2 down")


def test_a_thousand_failed_flows_are_one_line(said):
    reporter, _, lines = said
    for port in range(1000):
        over = FlowOver(
            Open(Kind.UDP, None, f"127.0.0.1:{port}"), Reset(ResetCode.TIMEOUT, "no link"), 0, 0, 3
        )
        reporter.flow(over)
    assert len(lines()) == 1
    assert "3 dropped" in lines()[0][1]


def test_notices(said):
    reporter, _, lines = said
    reporter.notice(Notice("flows_full", "too many"))
    reporter.notice(Notice("flows_full", "too many"))
    assert lines() == [(logging.WARNING, "too many")]
