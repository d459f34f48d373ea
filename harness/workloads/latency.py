"""Requests at a steady pace over one flow, each answered and timed.

A request does not wait for the answer to the last one, so a stall delays everything behind it, as for a
person who types. Task: count, rate, size_bytes, seed, congestion.
"""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from typing import Any

from harness.workloads import base
from harness.workloads.base import Damaged, Task

_HEAD = struct.Struct("<Qd")  # number, time of sending


def serve(task: Task) -> None:
    """The target's half: sends every byte back."""
    base.serve(task, _echo)


def _echo(sock: socket.socket, task: Task) -> None:
    while data := sock.recv(base.CHUNK_BYTES):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def use(task: Task) -> dict[str, Any]:
    """The user's half; times in milliseconds. SIGTERM ends it early, with a report so far."""
    tail = base.Pattern(task.seed).chunk(0)[: task.size_bytes - _HEAD.size]
    times_ms: list[float] = []
    errors: list[str] = []
    asked, stop = [0], threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    began_s = time.monotonic()
    with base.connect(task) as sock:
        connected_s = time.monotonic()

        def send() -> None:
            for number in range(task.count):
                due_s = connected_s + number / task.rate
                if stop.wait(max(due_s - time.monotonic(), 0)):
                    break
                sock.sendall(_HEAD.pack(number, time.monotonic()) + tail)
                asked[0] += 1
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        try:
            while head := sock.recv(1):
                answer = head + base.receive_exactly(sock, task.size_bytes - 1)
                number, sent_s = _HEAD.unpack_from(answer)
                times_ms.append((time.monotonic() - sent_s) * 1e3)
                if number != len(times_ms) - 1 or answer[_HEAD.size :] != tail:
                    raise Damaged(f"answer {len(times_ms) - 1} differs from its request")
            if len(times_ms) != asked[0]:
                raise Damaged(f"{len(times_ms)} of {asked[0]} answers arrived")
        except (OSError, Damaged) as error:
            errors.append(f"{error!r} after {len(times_ms)} answers")
        sender.join(1)
    return {
        "errors": errors,
        "asked": asked[0],
        "connect_ms": (connected_s - began_s) * 1e3,
        "times_ms": base.distribution(times_ms),
    }
