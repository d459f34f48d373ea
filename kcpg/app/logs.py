"""Log lines: text for people, JSON for machines, and never the same line again and again.

Lines of a daemon go to a file that rotates by size; in the foreground they go to stderr, without time stamps
when the journal of systemd reads it and adds its own. Nothing here is ever given a secret.
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

LOGGER = "kcpg"  # Name of the logger above all loggers of this program

FORMATS = ("text", "json")

# A log file this long is put aside: about 40,000 lines, a week of a busy node, still opened by any editor.
ROTATE_BYTES = 4 << 20

# Older files kept beside the current one: with ROTATE_BYTES a daemon never fills more than 20 MiB.
ROTATE_KEEP = 4

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(frozen=True)
class LogOptions:
    """How the lines of one process look and where they go."""

    form: str = "text"  # `text` or `json`
    file: Path | None = None  # Rotating file instead of stderr
    rotate_bytes: int = ROTATE_BYTES
    rotate_keep: int = ROTATE_KEEP


class TextFormatter(logging.Formatter):
    """`2026-11-22T12:48:42+0000 warning office: message`; `stamp` False leaves out the time."""

    def __init__(self, stamp: bool) -> None:
        super().__init__()
        self._stamp = stamp

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback of an unexpected error follows on lines of its own."""
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
    """The voice of one node in the log; repeated events of one peer become one line with a count.

    Files named after the node's role in its `log_path` (as kcptube has them) get the same lines as the main
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
        """Whether a line of this level would be written; for those who would have to make it first."""
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
        """Write one line now, or count it if `kind` about `peer` was said within the last minute.

        Without `now_s` or `kind` the line is always written.
        """
        if not self.hears(level):
            return
        if kind and now_s is not None and not self._repeats.admit(kind, peer, message, level, now_s):
            return
        self._emit(level, message, kind, peer, fields or {})

    def tick(self, now_s: float) -> None:
        """Write the counts of repeated lines whose minute is over; call it every few seconds."""
        self._write_counts(self._repeats.due(now_s))

    def close(self) -> None:
        """Write what was only counted so far and close this node's own file."""
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
    """The logger for what concerns the whole process, not one node."""
    return logging.getLogger(LOGGER)


def set_up(options: LogOptions, stream: TextIO | None = None) -> None:
    """Send every line of the program to the file of `options`, else to `stream` (stderr if None)."""
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
    # A full disk must not print a traceback per line, nor end the process.
    logging.raiseExceptions = False


def rotating_file(options: LogOptions) -> logging.Handler:
    """A handler that appends to `options.file` and puts it aside as `.1`, `.2`… at `rotate_bytes`.

    Raises StartError if the file cannot be written.
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
    """Whether systemd's journal reads `stream`: JOURNAL_STREAM holds its device and inode
    (systemd.exec(5))."""
    try:
        device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
        facts = os.fstat(stream.fileno())
        return (facts.st_dev, facts.st_ino) == (int(device), int(inode))
    except (ValueError, OSError):
        return False


def _stamp(record: logging.LogRecord) -> str:
    # Local time with its offset, as kcptube's logs have it, in the ISO 8601 form that sorts.
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
