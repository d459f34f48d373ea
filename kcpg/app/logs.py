"""Log lines: text for people, JSON for machines, and repeated lines only once.

A daemon logs to a file that rotates by size, a foreground process to stderr, without time stamps if systemd's
journal reads it and adds its own. No secret is ever passed to this module.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

from kcpg.app.dedup import LogDeduplicator, Repeated
from kcpg.errors import StartError

LOGGER = "kcpg"  # Root of this program's loggers

FORMATS = ("text", "json")

# A log file rotates at this size: about 40,000 lines, a week of a busy node, which any editor still opens.
ROTATE_BYTES = 4 << 20

# Old files kept beside the current one: with ROTATE_BYTES, a daemon never uses more than 20 MiB.
ROTATE_KEEP = 4

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(frozen=True)
class LogOptions:
    """The format and the destination of a process's lines."""

    form: str = "text"  # `text` or `json`
    file: Path | None = None  # A rotating file instead of stderr
    rotate_bytes: int = ROTATE_BYTES
    rotate_keep: int = ROTATE_KEEP


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
            self._file = rotating_file(LogOptions(form=form, file=file))
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

    def _write_counts(self, repeated: list[Repeated]) -> None:
        for one in repeated:
            self._emit(one.level, one.text, one.kind, one.peer, {"repeated": one.count})

    def _emit(self, level: int, message: str, kind: str, peer: str, fields: Mapping[str, object]) -> None:
        extra = {"node": self.name, "kind": kind, "peer": peer, "fields": dict(fields)}
        self._logger.log(level, "%s", message, extra=extra)


def process_log() -> logging.Logger:
    """The logger for events of the whole process."""
    return logging.getLogger(LOGGER)


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
        handler = logging.StreamHandler(out)
        handler.setFormatter(formatter(options.form, stamp=not reads_journal(out, os.environ)))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # A full disk must neither print a traceback per line nor end the process.
    logging.raiseExceptions = False


def rotating_file(options: LogOptions) -> logging.Handler:
    """A handler that appends to `options.file` and renames it to `.1`, `.2`… at `rotate_bytes`.

    Raises StartError if it cannot write the file.
    """
    assert options.file is not None
    try:
        handler = logging.handlers.RotatingFileHandler(
            options.file, maxBytes=options.rotate_bytes, backupCount=options.rotate_keep, encoding="utf-8"
        )
    except OSError as error:
        raise StartError(f"cannot write the log file {options.file}: {error.strerror}") from error
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
