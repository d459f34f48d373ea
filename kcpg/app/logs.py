"""Log lines: text for people, JSON for machines, and repeated lines only once.

A daemon logs to a file that rotates by size, a foreground process to stderr; where that leads to systemd's
journal, to the journal itself, with fields. No secret is ever passed to this module.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TextIO

from kcpg.app.dedup import LogDeduplicator, Repeated
from kcpg.app.journal import JournalHandler
from kcpg.app.logoptions import LogOptions
from kcpg.app.output import FULL_ERRNOS, RotatingFile, Stream
from kcpg.app.wording import counted
from kcpg.errors import StartError

LOGGER = "kcpg"  # Root of this program's loggers

TRACE = 5  # Below logging.DEBUG: lines for programs that plot, many a second
logging.addLevelName(TRACE, "TRACE")

LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class TextFormatter(logging.Formatter):
    """`2026-11-22T12:48:42+0000 warning office: message`; without the time if `stamp` is False."""

    def __init__(self, stamp: bool) -> None:
        super().__init__()
        self._stamp = stamp

    def format(self, record: logging.LogRecord) -> str:
        """One line, followed by the lines of a traceback after an unexpected error."""
        node = getattr(record, "node", "")
        where = f"{node}: " if node else ""
        line = f"{record.levelname.lower()} {where}{record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return f"{_stamp(record)} {line}" if self._stamp else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, node, kind, peer, message and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The object as one line."""
        entry: dict[str, object] = {"time": _stamp(record), "level": record.levelname.lower()}
        for name in ("node", "kind", "peer"):
            if value := getattr(record, name, ""):
                entry[name] = value
        entry["message"] = record.getMessage()
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class LineHandler(logging.Handler):
    """Writes each record as a line, and says how many were lost once lines are taken again.

    Python's own handlers keep what a full disk refuses, raise it at their end, and wait for a pipe's reader.
    """

    def __init__(self, out: Stream | RotatingFile, tell: Callable[[str], None] | None = None) -> None:
        """`tell`: takes the reason, in words, when lines begin to be lost."""
        super().__init__()
        self._out = out
        self._tell = tell
        self._lost = 0
        self._why = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        try:
            if self._lost:
                text = f"{counted(self._lost, 'line')} of this log could not be written: {self._why}"
                gap = logging.LogRecord(record.name, logging.WARNING, "", 0, text, None, None)
                self._out.put(self.format(gap))
                self._lost = 0
            self._out.put(self.format(record))
        except OSError as error:
            self._lost, self._why = self._lost + 1, error.strerror or str(error)
            if self._lost == 1 and self._tell is not None:
                self._tell(self._why)
        except Exception:
            self.handleError(record)

    @property
    def file(self) -> RotatingFile | None:
        """The file that it writes to; None for a stream."""
        return self._out if isinstance(self._out, RotatingFile) else None

    def close(self) -> None:
        """Close the file."""
        self._out.close()
        super().close()


class NodeLog:
    """One node's part of the log; repeated events of one peer become one line with a count.

    A file in the node's `log_path`, named after its role as kcptube does, gets the same lines as the main
    log.
    """

    def __init__(self, name: str, level: str = "info", file: Path | None = None, form: str = "text") -> None:
        self.name = name
        self._logger = logging.getLogger(f"{LOGGER}.node.{name}")
        self._logger.setLevel(LEVELS[level])
        self._repeats = LogDeduplicator()
        self._file: logging.Handler | None = None
        if file is not None:
            self._file = rotating_file(LogOptions(form=form, file=file), self._file_fails)
            self._logger.addHandler(self._file)

    def hears(self, level: int) -> bool:
        """Whether a line of this level would be written; ask before you build an expensive one."""
        return self._logger.isEnabledFor(level)

    def say(
        self,
        level: int,
        message: str,
        kind: str = "",
        peer: str = "",
        now_s: float | None = None,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        """Write a line now, or only count it if `peer` had a line of this `kind` within the last minute.

        Without `now_s` or `kind`, always write the line.
        """
        if not self.hears(level):
            return
        if kind and now_s is not None and not self._repeats.admit(kind, peer, message, level, now_s):
            return
        self._emit(level, message, kind, peer, fields or {})

    def tick(self, now_s: float) -> None:
        """Write the counts of repeated lines whose minute is over. To be called every few seconds."""
        self._write_counts(self._repeats.due(now_s))

    def close(self) -> None:
        """Write the remaining counts and close this node's own file."""
        self._write_counts(self._repeats.drain())
        if self._file is not None:
            self._logger.removeHandler(self._file)
            self._file.close()
            self._file = None

    def _file_fails(self, why: str) -> None:
        text = "%s: cannot write its log in log_path: %s; make room there, its lines are only here until then"
        process_log().warning(text, self.name, why)

    def _write_counts(self, repeated: list[Repeated]) -> None:
        for one in repeated:
            self._emit(one.level, one.text, one.kind, one.peer, {"repeated": one.count})

    def _emit(self, level: int, message: str, kind: str, peer: str, fields: Mapping[str, object]) -> None:
        extra = {"node": self.name, "kind": kind, "peer": peer, "fields": dict(fields)}
        self._logger.log(level, "%s", message, extra=extra)


def process_log() -> logging.Logger:
    """The logger for events of the whole process."""
    return logging.getLogger(LOGGER)


def files() -> list[RotatingFile]:
    """The open log files of the process and of its nodes."""
    names = [name for name in logging.Logger.manager.loggerDict if f"{name}.".startswith(f"{LOGGER}.")]
    handlers = [handler for name in {LOGGER, *names} for handler in logging.getLogger(name).handlers]
    found = [handler.file for handler in handlers if isinstance(handler, LineHandler)]
    return [file for file in found if file is not None]


def set_up(options: LogOptions, stream: TextIO | None = None) -> None:
    """Send every line of the program to the file in `options`, else to `stream` (stderr if None)."""
    logger = process_log()
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    handler: logging.Handler
    if options.file is not None:
        handler = rotating_file(options)
    else:
        out = stream if stream is not None else sys.stderr
        handler = LineHandler(Stream(out))
        to_journal = reads_journal(out, os.environ)
        handler.setFormatter(formatter(options.form, stamp=not to_journal))
        if to_journal and options.form == "text":
            handler = JournalHandler(handler)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # A line that cannot even be put into words must neither print a traceback nor end the process.
    logging.raiseExceptions = False


def rotating_file(options: LogOptions, tell: Callable[[str], None] | None = None) -> logging.Handler:
    """A handler that appends to `options.file` and renames it to `.1`, `.2`… at `rotate_bytes`.

    `tell`: see LineHandler. Raises StartError if it cannot write the file; a full disk is no reason for that.
    """
    assert options.file is not None
    out = RotatingFile(options.file, options.rotate_bytes, options.rotate_keep)
    try:
        out.open()
    except OSError as error:
        if error.errno not in FULL_ERRNOS:
            raise StartError(f"cannot write the log file {options.file}: {error.strerror}") from error
    handler = LineHandler(out, tell)
    handler.setFormatter(formatter(options.form, stamp=True))
    return handler


def formatter(form: str, stamp: bool) -> logging.Formatter:
    """The formatter for `text` or `json`."""
    return JsonFormatter() if form == "json" else TextFormatter(stamp)


def reads_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether systemd's journal reads `stream`: JOURNAL_STREAM has its device and inode (systemd.exec(5))."""
    try:
        device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
        facts = os.fstat(stream.fileno())
        return (facts.st_dev, facts.st_ino) == (int(device), int(inode))
    except (ValueError, OSError):
        return False


def _stamp(record: logging.LogRecord) -> str:
    # Local time with its offset, as in kcptube's logs, in the ISO 8601 form that sorts.
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
