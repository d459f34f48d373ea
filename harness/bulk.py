"""The two ends of a speed measurement, as programs of their own that cost as little as the system allows.

`python -m harness.bulk target HOST PORT COUNTER` accepts connections. The first byte of each says what it is:
S for a stream, whose bytes are counted and thrown away inside the kernel, E for an echo. The count is kept in
the file COUNTER (eight bytes, native order), where the measuring process reads it at the moment it wants.

`python -m harness.bulk source HOST PORT` sends a stream until it is ended, from memory and without copying.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

STREAM, ECHO = b"S", b"E"

READ_BYTES = 1 << 20
SEND_BYTES = 1 << 22
COUNTER_BYTES = 8


def target(host: str, port: int, counter: Path) -> None:
    """Serve for ever."""
    with counter.open("r+b") as file:
        shared = memoryview(mmap.mmap(file.fileno(), COUNTER_BYTES)).cast("Q")
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    print("listening", flush=True)
    while True:
        accepted, _ = listener.accept()
        threading.Thread(target=_serve, args=(accepted, shared), daemon=True).start()


def _serve(accepted: socket.socket, shared: memoryview[int]) -> None:
    with accepted, suppress(OSError):
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kind = accepted.recv(1)
        if kind == STREAM:
            _count(accepted, shared)
        elif kind == ECHO:
            while data := accepted.recv(READ_BYTES):
                accepted.sendall(data)


def _count(accepted: socket.socket, shared: memoryview[int]) -> None:
    # tcp(7): with MSG_TRUNC the bytes are discarded and never copied to this process.
    buffer = bytearray(READ_BYTES)
    while got := accepted.recv_into(buffer, READ_BYTES, socket.MSG_TRUNC):
        shared[0] += got


def source(host: str, port: int) -> None:
    """Send until the connection or the process is ended."""
    memory = os.memfd_create("source")
    os.write(memory, os.urandom(SEND_BYTES))
    with socket.create_connection((host, port)) as sock, suppress(OSError):
        sock.sendall(STREAM)
        sock.setblocking(True)
        while True:
            os.sendfile(sock.fileno(), memory, 0, SEND_BYTES)


def read_counter(path: Path) -> int:
    """Bytes the target has counted so far."""
    return int.from_bytes(path.read_bytes(), sys.byteorder)


def new_counter(path: Path) -> Path:
    """Make the file that the target counts in."""
    path.write_bytes(bytes(COUNTER_BYTES))
    return path


def main(words: Sequence[str]) -> None:
    """Be one of the two programs."""
    if words[0] == "target":
        target(words[1], int(words[2]), Path(words[3]))
    else:
        source(words[1], int(words[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
