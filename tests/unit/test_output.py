"""Lines to pipes that nobody reads, terminals that were stopped, full disks and files that rotate."""

from __future__ import annotations

import os
import pty
import termios
from pathlib import Path

import pytest

from kcpg.app.output import RotatingFile, Stream, replace_file

SOME = "x" * 1000
MORE_THAN_A_PIPE_HOLDS = 10_000


def _read(fd: int) -> str:
    os.set_blocking(fd, False)
    parts = []
    try:
        while part := os.read(fd, 1 << 20):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts).decode()


def _fill(stream: Stream, line: str) -> int:
    """Put lines until one is not taken; how many were."""
    for number in range(MORE_THAN_A_PIPE_HOLDS):
        try:
            stream.put(line)
        except BlockingIOError:
            return number
    raise AssertionError("everything was taken")


@pytest.mark.parametrize("size", [10, 1000, 5000, 100_000], ids=lambda size: f"{size} bytes")
def test_a_pipe_that_nobody_reads_stops_nobody_and_loses_whole_lines(size: int) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb"), open(write, "w") as pipe:
        stream = Stream(pipe)
        taken = _fill(stream, "x" * size)
        lines = _read(read).split("\n")
        assert lines[:taken] == ["x" * size] * taken
        assert os.get_blocking(write), "others that write there must not notice"
        stream.put("and on")
        assert _read(read).endswith("\nand on\n") or not lines[-1], "a torn line is ended first"


def test_a_stopped_terminal_stops_nobody() -> None:
    there, here = pty.openpty()
    with os.fdopen(there, "rb"), open(here, "w") as terminal:
        stream = Stream(terminal)
        stream.put("before")
        termios.tcflow(here, termios.TCOOFF)  # as Ctrl-S
        with pytest.raises(BlockingIOError):
            stream.put("stopped")
        termios.tcflow(here, termios.TCOON)
        stream.put("after")
        assert _read(there).split() == ["before", "after"]


def test_a_reader_that_has_gone_is_an_error_that_the_caller_gets() -> None:
    read, write = os.pipe()
    with open(write, "w") as pipe:
        os.close(read)
        with pytest.raises(BrokenPipeError):
            Stream(pipe).put("hello")


def test_what_the_encoding_lacks_is_escaped() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb"), open(write, "w", encoding="latin-1") as pipe:
        Stream(pipe).put("…")
        assert _read(read) == "\\u2026\n"


def test_a_file_goes_on_after_a_line_that_was_taken_in_part(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log", 1 << 20, 1)
    writer = file.open()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    file.close()
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        end = RotatingFile(fifo, 1 << 20, 1)
        writer = end.open()
        with pytest.raises(BlockingIOError):
            writer.put(b"x" * 200_000)
        assert set(_read(reader.fileno())) == {"x"}
        end.put("next")
        assert _read(reader.fileno()) == "\nnext\n"
        end.close()


def test_rotation_that_cannot_rename_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.1" / "occupied").mkdir(parents=True)
    file = RotatingFile(path, 1500, 1)
    for _ in range(3):
        file.put(SOME)
    file.close()
    assert path.read_text() == f"{SOME}\n" * 3


def test_a_log_file_is_for_its_owner_and_group_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        file = RotatingFile(tmp_path / "log", 1500, 1)
        file.put(SOME)
        file.put(SOME)
        replace_file(tmp_path / "address", "192.0.2.1")
    finally:
        os.umask(old)
        file.close()
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("log", "log.1", "address")} == {0o640}


def test_a_link_that_somebody_placed_is_not_written_through(tmp_path: Path) -> None:
    """In a directory that others may write to, it could lead to any file of root."""
    precious, address = tmp_path / "precious", tmp_path / "address"
    precious.write_text("precious")
    for name in ("log", "address.new"):
        (tmp_path / name).symlink_to(precious)
    file = RotatingFile(tmp_path / "log", 1500, 1)
    with pytest.raises(OSError, match="is a symbolic link, which is not followed"):
        file.put(SOME)
    replace_file(address, "192.0.2.1")
    assert (precious.read_text(), address.read_text()) == ("precious", "192.0.2.1")
    assert not address.is_symlink() and not (tmp_path / "address.new").exists()


def test_a_named_pipe_that_nobody_reads_is_an_error_and_stops_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OSError, match="No such device"):
        RotatingFile(tmp_path / "log", 1500, 1).put(SOME)


def test_a_link_in_place_of_a_rotated_file_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    file = RotatingFile(tmp_path / "log", 1500, 1)
    file.put(SOME)
    (tmp_path / "log.1").symlink_to(precious)
    file.put(SOME)
    file.close()
    assert precious.read_text() == "precious" and (tmp_path / "log.1").read_text() == SOME + "\n"


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    replace_file(tmp_path / "address", "one")
    with open(tmp_path / "address", encoding="utf-8") as reader:
        replace_file(tmp_path / "address", "two")
        assert reader.read() == "one"
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "missing" / "address", "three")
    assert [path.name for path in tmp_path.iterdir()] == ["address"]


@pytest.mark.parametrize("how", ["renamed", "removed"])
def test_a_log_that_logrotate_moved_begins_anew(tmp_path, how):
    file = tmp_path / "a.log"
    out = RotatingFile(file, 1000, 2)
    out.put("before")
    if how == "renamed":
        file.rename(tmp_path / "a.log.old")
    else:
        file.unlink()
    out.put("after")
    out.close()
    assert file.read_text() == "after\n"
    if how == "renamed":
        assert (tmp_path / "a.log.old").read_text() == "before\n"
