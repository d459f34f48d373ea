"""Many short connections, as a browser makes them: a request, an answer, gone.

Task: count connections, flows at a time, size_bytes of the answer, seed.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from typing import Any

from harness.workloads import base
from harness.workloads.base import Damaged, Task

REQUEST_BYTES = 16


def serve(task: Task) -> None:
    """The target's half."""
    base.serve(task, _answer)


def _answer(sock: socket.socket, task: Task) -> None:
    request = base.receive_exactly(sock, REQUEST_BYTES)
    sock.sendall(_data(request, task))
    if int(request) % 2:  # the target closes half of the connections, the user the other half
        sock.recv(1)


def use(task: Task) -> dict[str, Any]:
    """The user's half: milliseconds from the dial to the last byte of the answer."""
    times_ms: list[float] = []
    failed: list[str] = []
    numbers = iter(range(task.count))
    lock = threading.Lock()
    began_s = time.monotonic()

    def work(_: int) -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                took_ms = _one(task, number)
            except (OSError, Damaged) as error:
                failed.append(f"{number}: {error!r}")
            else:
                times_ms.append(took_ms)

    errors = base.in_parallel(task.flows, work)
    seconds = time.monotonic() - began_s
    return {
        "errors": errors + failed[:5],
        "failed": len(failed),
        "done": len(times_ms),
        "per_second": len(times_ms) / seconds,
        "times_ms": base.distribution(times_ms),
    }


def _one(task: Task, number: int) -> float:
    request = f"{number:0{REQUEST_BYTES}}".encode()
    began_s = time.monotonic()
    with base.connect(task) as sock:
        sock.sendall(request)
        answer = base.receive_exactly(sock, task.size_bytes)
        took_ms = (time.monotonic() - began_s) * 1e3
        if answer != _data(request, task):
            raise Damaged("the answer belongs to another request")
        if not number % 2 and sock.recv(1):
            raise Damaged("more arrived than requested")
    return took_ms


def _data(request: bytes, task: Task) -> bytes:
    return random.Random(request + bytes([task.seed % 256])).randbytes(task.size_bytes)
