"""Shared by all workloads: the task, sockets, figures for a report, and streams that check themselves."""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

CHUNK_BYTES = 1 << 16

PATIENCE_S = 60.0  # Default patience with a silent flow; scenarios end far sooner

BACKLOG = 1024  # Connections that may wait to be accepted: short ones come in bursts

BIN_S = 0.1  # Of a picture of goodput over time

SHARES = 200  # Points of a picture of a distribution

# Buffer of a sender that talks to a node on its own machine: enough for full speed, and soon empty at the
# end.
TUNNEL_BUFFER_BYTES = 1 << 16


class Damaged(Exception):
    """The data that arrived differs from what was sent."""


@dataclass(frozen=True)
class Task:
    """One piece of work; both halves get the same. Each workload defines what the fields mean."""

    host: str = "127.0.0.1"
    port: int = 8000
    seed: int = 1
    seconds: float = 3.0
    count: int = 100
    size_bytes: int = 64
    flows: int = 1
    way: str = "up"
    rate: float = 50.0  # Per second
    congestion: str = ""  # TCP's congestion control of both halves; "" for the namespace's
    pause_s: float = 0.0
    direct: bool = False  # No tunnel in between
    patience_s: float = PATIENCE_S  # How long a half waits for a byte before it considers the flow dead
    directory: str = ""  # For files of both halves


@dataclass
class Timeline:
    """Bytes that arrived, over the time since the user's half began."""

    start_s: float
    bins: list[int] = field(default_factory=list)

    def add(self, count: int) -> None:
        at = max(int((time.monotonic() - self.start_s) / BIN_S), 0)
        if at >= len(self.bins):
            self.bins.extend([0] * (at + 1 - len(self.bins)))
        self.bins[at] += count

    def within(self, first_s: float, last_s: float) -> int:
        """Bytes between two times, in whole bins."""
        return sum(self.bins[round(first_s / BIN_S) : round(last_s / BIN_S)])


def connect(task: Task) -> socket.socket:
    """A TCP connection with the task's settings. Raises OSError."""
    family = socket.AF_INET6 if ":" in task.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        prepare(sock, task)
        sock.settimeout(task.patience_s)
        sock.connect((task.host, task.port))
    except OSError:
        sock.close()
        raise
    return sock


def prepare(sock: socket.socket, task: Task) -> None:
    """Set congestion control and buffers; an accepted connection inherits them from its listener."""
    if task.congestion:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, task.congestion.encode())
    if not task.direct:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, TUNNEL_BUFFER_BYTES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def serve(task: Task, handle: Callable[[socket.socket, Task], None]) -> None:
    """Accept connections for ever, each in a thread of its own. Prints `listening` first."""
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        prepare(listener, task)
        listener.bind(("::", task.port))
        listener.listen(BACKLOG)
        print("listening", flush=True)
        while True:
            accepted, _ = listener.accept()
            threading.Thread(target=_handle, args=(handle, accepted, task), daemon=True).start()


def _handle(handle: Callable[[socket.socket, Task], None], accepted: socket.socket, task: Task) -> None:
    with accepted:
        accepted.settimeout(task.patience_s)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            handle(accepted, task)
        except (OSError, Damaged, ValueError) as error:
            print(f"a connection failed: {error!r}", file=sys.stderr, flush=True)


def send_json(sock: socket.socket, what: Any) -> None:
    """One line."""
    sock.sendall(json.dumps(what).encode() + b"\n")


def receive_json(sock: socket.socket) -> Any:
    """One line, read byte by byte, so that the data behind it stays unread."""
    line = bytearray()
    while not line.endswith(b"\n"):
        peeked = sock.recv(CHUNK_BYTES, socket.MSG_PEEK)
        if not peeked:
            raise Damaged(f"the flow ended in the middle of a line: {bytes(line[:60])!r}")
        take = peeked.index(b"\n") + 1 if b"\n" in peeked else len(peeked)
        line += sock.recv(take)
    return json.loads(line)


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """`count` bytes. Raises Damaged if the flow ends before."""
    data = bytearray()
    while len(data) < count:
        more = sock.recv(min(count - len(data), CHUNK_BYTES))
        if not more:
            raise Damaged(f"the flow ended after {len(data)} of {count} bytes")
        data += more
    return bytes(data)


def receive_all(sock: socket.socket) -> bytes:
    """All bytes up to the end."""
    data = bytearray()
    while more := sock.recv(CHUNK_BYTES):
        data += more
    return bytes(data)


class Pattern:
    """An endless stream of different chunks; both sides know every byte."""

    END = b"\xff" * 8

    def __init__(self, seed: int) -> None:
        self._block = bytearray(random.Random(seed).randbytes(CHUNK_BYTES))

    def chunk(self, number: int) -> bytearray:
        """The next chunk: the same object each time, with other contents."""
        self._block[:8] = number.to_bytes(8, "big")
        return self._block

    def send(self, sock: socket.socket, seconds: float, most_chunks: int | None = None) -> int:
        """Send for some time, or this many chunks, then an end with their number. Returns the bytes sent."""
        number, until_s = 0, time.monotonic() + seconds
        while time.monotonic() < until_s if most_chunks is None else number < most_chunks:
            sock.sendall(self.chunk(number))
            number += 1
        sock.sendall(self.END + number.to_bytes(8, "big"))
        sock.shutdown(socket.SHUT_WR)
        return number * CHUNK_BYTES

    def receive(self, sock: socket.socket, timeline: Timeline) -> int:
        """Receive to the end and compare every byte. Returns how many; raises Damaged."""
        buffer = bytearray(CHUNK_BYTES)
        view = memoryview(buffer)
        number = filled = 0
        while got := sock.recv_into(view[filled:]):
            timeline.add(got)
            filled += got
            if filled == CHUNK_BYTES:
                if buffer != self.chunk(number):
                    raise Damaged(f"chunk {number} arrived damaged")
                number, filled = number + 1, 0
        if filled != 16 or buffer[:8] != self.END or int.from_bytes(buffer[8:16], "big") != number:
            raise Damaged(
                f"the stream ended after {number * CHUNK_BYTES + filled} bytes, before its end mark"
            )
        return number * CHUNK_BYTES


def distribution(values: Sequence[float]) -> dict[str, Any]:
    """Percentiles for a table, and points for a picture."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0}

    def at(share: float) -> float:
        return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 3)

    return {
        "count": len(ordered),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "max": at(1),
        "points": [at(step / SHARES) for step in range(SHARES + 1)],
    }


def in_parallel(count: int, work: Callable[[int], None]) -> list[str]:
    """Run `work(number)` in this many threads; returns the errors."""
    errors: list[str] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except (OSError, Damaged, ValueError) as error:
            errors.append(f"{number}: {error!r}")

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def close_quietly(sock: socket.socket) -> None:
    """Close a socket in any state."""
    with suppress(OSError):
        sock.close()
