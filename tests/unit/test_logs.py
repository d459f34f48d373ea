"""Log lines: form, rotation, rate limit, journal."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
from pathlib import Path

import pytest

from kcpg.app import logs


@pytest.fixture(autouse=True)
def _restore():
    logger = logs.process_log()
    handlers, level, propagate, raising = (
        logger.handlers[:],
        logger.level,
        logger.propagate,
        logging.raiseExceptions,
    )
    yield
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate, logging.raiseExceptions = propagate, raising


def test_text_line_has_time_level_node_message():
    out = io.StringIO()
    logs.set_up(logs.LogOptions(), out)
    logs.NodeLog("office").say(logging.WARNING, "it rains 100%")
    stamp, rest = out.getvalue().split(" ", 1)
    assert rest == "warning office: it rains 100%\n"
    assert len(stamp) == len("2026-11-22T12:48:42.123+00:00")


def test_json_line_has_the_fields():
    out = io.StringIO()
    logs.set_up(logs.LogOptions(form="json"), out)
    log = logs.NodeLog("office")
    log.say(logging.INFO, "link up", "link_up", "192.0.2.1:3000", 1.0, {"rtt_ms": 12})
    entry = json.loads(out.getvalue())
    assert entry.pop("time")
    assert entry == {
        "level": "info",
        "node": "office",
        "kind": "link_up",
        "peer": "192.0.2.1:3000",
        "message": "link up",
        "rtt_ms": 12,
    }


def test_repeats_are_collapsed_and_told_at_close():
    out = io.StringIO()
    logs.set_up(logs.LogOptions(), out)
    log = logs.NodeLog("office")
    for second in range(38):
        log.say(logging.WARNING, "no answer", "no_answer", "p", float(second))
    assert out.getvalue().count("\n") == 1
    log.tick(61.0)
    assert out.getvalue().splitlines()[1].endswith("no answer (repeated 37 times in 61 s)")
    log.say(logging.WARNING, "no answer", "no_answer", "p", 62.0)
    log.close()
    assert out.getvalue().splitlines()[2].endswith("(repeated 1 times in 60 s)")


def test_level_of_a_node():
    out = io.StringIO()
    logs.set_up(logs.LogOptions(), out)
    logs.NodeLog("quiet", "error").say(logging.WARNING, "no")
    logs.NodeLog("talkative", "debug").say(logging.DEBUG, "yes")
    assert out.getvalue().count("\n") == 1 and "yes" in out.getvalue()


def test_file_rotates_by_size_and_keeps_so_many(tmp_path):
    file = tmp_path / "kcpg.log"
    logs.set_up(logs.LogOptions(file=file, rotate_bytes=1000, rotate_keep=2))
    for number in range(200):
        logs.process_log().info("line %d", number)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kcpg.log", "kcpg.log.1", "kcpg.log.2"]
    assert all(p.stat().st_size <= 1000 for p in tmp_path.iterdir())
    assert "line 199" in file.read_text()


def test_node_file_gets_the_same_lines(tmp_path):
    out = io.StringIO()
    logs.set_up(logs.LogOptions(), out)
    log = logs.NodeLog("office", file=tmp_path / "client_output.log")
    log.say(logging.WARNING, "hello")
    log.close()
    log.say(logging.WARNING, "after")
    assert (tmp_path / "client_output.log").read_text().endswith("warning office: hello\n")
    assert out.getvalue().count("\n") == 2


def test_a_full_disk_is_silent():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    logs.set_up(logs.LogOptions(), Full())
    logs.process_log().warning("lost")


def test_a_node_whose_disk_is_full_says_so_once_goes_on_and_ends():
    out = io.StringIO()
    logs.set_up(logs.LogOptions(), out)
    log = logs.NodeLog("office", file=Path("/dev/full"))
    for number in range(3):
        log.say(logging.WARNING, f"line {number}")
    log.close()
    assert out.getvalue().count("cannot write its log in log_path: No space left on device; make room") == 1
    assert out.getvalue().count("\n") == 4


def test_a_file_that_takes_lines_again_says_how_many_are_missing(tmp_path, monkeypatch):
    def full(fd, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "kcpg.log"
    handler = logs.rotating_file(logs.LogOptions(file=file))
    record = logging.LogRecord("kcpg", logging.INFO, "", 0, "hello", None, None)
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        handler.emit(record)
        handler.emit(record)
    handler.emit(record)
    handler.close()
    lines = file.read_text().splitlines()
    assert len(lines) == 2 and lines[1].endswith("info hello")
    assert lines[0].endswith("warning 2 lines of this log could not be written: No space left on device")


def test_no_stamps_when_the_journal_reads(tmp_path):
    with open(tmp_path / "journal", "w") as stream:
        facts = os.fstat(stream.fileno())
        mine = {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}
        assert logs.reads_journal(stream, mine)
        assert not logs.reads_journal(stream, {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino + 1}"})
        assert not logs.reads_journal(stream, {"JOURNAL_STREAM": "nonsense"})
        assert not logs.reads_journal(stream, {})
    assert not logs.reads_journal(io.StringIO(), mine)
    record = logging.LogRecord("kcpg", logging.INFO, "", 0, "up", None, None)
    assert logs.formatter("text", stamp=False).format(record) == "info up"
