"""The target speaks first, like mail and SSH servers; the user says nothing until then.

Task: count connections, seed.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from harness.workloads import base
from harness.workloads.base import Damaged, Task

GREETING = b"220 speak after me\r\n"


def serve(task: Task) -> None:
    """The target's half."""
    base.serve(task, _greet)


def _greet(sock: socket.socket, task: Task) -> None:
    sock.sendall(GREETING)
    sock.sendall(base.receive_all(sock))


def use(task: Task) -> dict[str, Any]:
    """The user's half: milliseconds from the dial to the greeting."""
    times_ms = []
    for number in range(task.count):
        began_s = time.monotonic()
        with base.connect(task) as sock:
            if base.receive_exactly(sock, len(GREETING)) != GREETING:
                raise Damaged("the greeting is wrong")
            times_ms.append((time.monotonic() - began_s) * 1e3)
            said = f"hello {number}\r\n".encode()
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
            if base.receive_all(sock) != said:
                raise Damaged("the answer is wrong")
    return {"errors": [], "times_ms": base.distribution(times_ms)}
