"""Questions over UDP as a resolver asks them: each from a port of its own, one packet there and one back.

Task: count, rate, size_bytes of the answer, seed. There are no retries: a lost packet counts as lost.
"""

from __future__ import annotations

import random
import select
import socket
import time
from contextlib import ExitStack
from typing import Any

from harness.workloads import base
from harness.workloads.base import Task

ANSWER_S = 4.0  # Beyond the last question; a resolver gives up after 5 s (resolv.conf(5))

QUESTION_BYTES = 40


def serve(task: Task) -> None:
    """The target's half."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", task.port))
        print("listening", flush=True)
        while True:
            question, source = sock.recvfrom(65535)
            sock.sendto(_answer(question, task), source)


def use(task: Task) -> dict[str, Any]:
    """The user's half; times in milliseconds."""
    family = socket.AF_INET6 if ":" in task.host else socket.AF_INET
    rng = random.Random(task.seed)
    asked: dict[int, tuple[socket.socket, bytes, float]] = {}
    times_ms: list[float] = []
    wrong = 0
    with ExitStack() as stack:
        began_s = time.monotonic()
        for number in range(task.count + 1):
            due_s = began_s + number / task.rate if number < task.count else time.monotonic() + ANSWER_S
            while asked or number < task.count:
                left_s = due_s - time.monotonic()
                if left_s <= 0:
                    break
                for descriptor in select.select(list(asked), [], [], left_s)[0]:
                    sock, question, sent_s = asked.pop(descriptor)
                    wrong += sock.recv(65535) != _answer(question, task)
                    times_ms.append((time.monotonic() - sent_s) * 1e3)
            if number < task.count:
                sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                sock.connect((task.host, task.port))
                question = rng.randbytes(QUESTION_BYTES)
                asked[sock.fileno()] = (sock, question, time.monotonic())
                sock.send(question)
    return {
        "errors": [f"{wrong} answers belong to other questions"] if wrong else [],
        "asked": task.count,
        "answered": len(times_ms),
        "times_ms": base.distribution(times_ms),
    }


def _answer(question: bytes, task: Task) -> bytes:
    return question + random.Random(question).randbytes(task.size_bytes - len(question))
