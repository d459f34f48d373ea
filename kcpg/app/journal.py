"""Log lines for systemd's journal, with fields: `journalctl KCPG_NODE=office KCPG_KIND=no_answer`.

Its native protocol is one datagram per line, with a field on each of its lines (systemd.journal-fields(7)).
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import re

SOCKET = "/run/systemd/journal/socket"

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # syslog(3); below: 7

_NAME = re.compile(r"[^A-Z0-9_]")


class JournalHandler(logging.Handler):
    """Sends each record to the journal, and to `fallback` what the journal does not take at once."""

    def __init__(self, fallback: logging.Handler, path: str = SOCKET) -> None:
        super().__init__()
        self._fallback = fallback
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits, never raises."""
        try:
            data = b"".join(_field(name, value) for name, value in self._fields(record))
            with contextlib.closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)) as sock:
                sock.setblocking(False)
                sock.connect(self._path)
                sock.send(data)
        except OSError:
            self._fallback.handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the other handler."""
        self._fallback.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> list[tuple[str, str]]:
        node = getattr(record, "node", "")
        text = f"{node}: {record.getMessage()}" if node else record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        found = [("MESSAGE", text), ("PRIORITY", str(priority)), ("SYSLOG_IDENTIFIER", "kcpg")]
        own = {name: getattr(record, name, "") for name in ("node", "kind", "peer")}
        own |= getattr(record, "fields", {})
        return found + [
            (f"KCPG_{_NAME.sub('_', name.upper())}", str(value)) for name, value in own.items() if value != ""
        ]


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
