"""What the journal is sent, and where lines go that it does not take."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from kcpg.app import journal, logs
from kcpg.app.logoptions import LogOptions


class Kept(logging.Handler):
    """Keeps messages."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def fields(data: bytes) -> dict[str, str]:
    """Reads a datagram as journald does."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            found[name.decode()] = value.decode()
            data = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            found[name.decode()] = rest[8 : 8 + size].decode()
            assert rest[8 + size : 9 + size] == b"\n"
            data = rest[9 + size :]
    return found


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """journald's socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(tmp_path / "journal"))
    sock.settimeout(10)
    monkeypatch.setattr(journal.JournalHandler.__init__, "__defaults__", (str(tmp_path / "journal"),))
    return sock


def test_a_line_of_a_node_has_its_fields(
    daemon: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(tmp_path / "err", "w") as stderr:
        facts = os.fstat(stderr.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{facts.st_dev}:{facts.st_ino}")
        logs.set_up(LogOptions(), stderr)
        node = logs.NodeLog("office")
        node.say(logging.WARNING, "no answer", "no_answer", "tunnel 192.0.2.1:3000", 0.0, {"repeated": 3})
        assert fields(daemon.recv(4096)) == {
            "MESSAGE": "office: no answer", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "kcpg",
            "KCPG_NODE": "office",
            "KCPG_KIND": "no_answer", "KCPG_PEER": "tunnel 192.0.2.1:3000", "KCPG_REPEATED": "3",
        }  # fmt: skip
        try:
            raise ValueError("why")
        except ValueError:
            logs.process_log().exception("a bug")
        found = fields(daemon.recv(65536))
        assert found["PRIORITY"] == "3" and found["MESSAGE"].startswith("a bug\nTraceback")
        logs.process_log().info("ready")
        assert fields(daemon.recv(4096))["PRIORITY"] == "6"
    daemon.close()
    assert (tmp_path / "err").read_text() == ""


def test_what_the_journal_does_not_take_goes_to_the_stream(tmp_path: Path) -> None:
    kept = Kept()
    handler = journal.JournalHandler(kept, str(tmp_path / "nobody"))
    handler.handle(logging.LogRecord("kcpg", logging.INFO, "", 0, "hello", None, None))
    assert kept.lines == ["hello"]
