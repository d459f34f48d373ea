"""Half-closes, in both orders.

A user who has half-closed still gets the whole answer; a target that has half-closed still gets everything
that the user sends later. Task: size_bytes, seed.
"""

from __future__ import annotations

import hashlib
import random
import socket
from typing import Any

from harness.workloads import base
from harness.workloads.base import Damaged, Task


def serve(task: Task) -> None:
    """The target's half."""
    told: dict[str, str] = {}

    def answer(sock: socket.socket, task: Task) -> None:
        asked = base.receive_json(sock)
        if asked == "told":
            base.send_json(sock, told.pop("last", ""))
        elif asked == "user ends first":
            received = base.receive_all(sock)  # returns only once the user's end has come
            sock.sendall(hashlib.sha256(received).digest() + _data(task, "answer"))
        else:
            sock.sendall(_data(task, "answer"))
            sock.shutdown(socket.SHUT_WR)
            told["last"] = hashlib.sha256(base.receive_all(sock)).hexdigest()

    base.serve(task, answer)


def use(task: Task) -> dict[str, Any]:
    """The user's half."""
    question = _data(task, "question")
    with base.connect(task) as sock:
        base.send_json(sock, "user ends first")
        sock.sendall(question)
        sock.shutdown(socket.SHUT_WR)
        answer = base.receive_all(sock)
    if answer != hashlib.sha256(question).digest() + _data(task, "answer"):
        raise Damaged(f"user ends first: the answer is wrong, {len(answer)} bytes")
    with base.connect(task) as sock:
        base.send_json(sock, "target ends first")
        answer = base.receive_all(sock)  # returns once the target's end has come
        if answer != _data(task, "answer"):
            raise Damaged(f"target ends first: the answer is wrong, {len(answer)} bytes")
        sock.sendall(question)
        sock.shutdown(socket.SHUT_WR)
        if sock.recv(1):
            raise Damaged("data came after the end")
    for _ in range(50):  # the last bytes may still be in flight
        with base.connect(task) as sock:
            base.send_json(sock, "told")
            told = base.receive_json(sock)
        if told:
            break
    if told != hashlib.sha256(question).hexdigest():
        raise Damaged("target ends first: the user's data did not arrive completely")
    return {"errors": [], "bytes": 2 * (len(question) + len(answer))}


def _data(task: Task, what: str) -> bytes:
    return random.Random(f"{task.seed}:{what}").randbytes(task.size_bytes)
