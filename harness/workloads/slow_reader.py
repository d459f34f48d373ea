"""A user who requests much and then stops reading: the sender must stop, and nothing may be lost.

Task: size_bytes in all, pause_s without reading (longer while the sender goes on), seed.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from harness.workloads import base
from harness.workloads.base import CHUNK_BYTES, Pattern, Task, Timeline

LOOK_S = 0.2  # Pause between two looks at how far the sender has got
STILL = 10  # This many equal looks mean that the sender has stopped: 2 s

FILL_S = 15.0  # Beyond the pause: a busy machine takes seconds to fill the windows of a chain of four nodes


def serve(task: Task) -> None:
    """The target's half; over a second flow, it reports how far it has got."""
    sent = [0]

    def answer(sock: socket.socket, task: Task) -> None:
        if base.receive_json(sock) == "how far":
            base.send_json(sock, sent[0])
            return
        pattern = Pattern(task.seed)
        for number in range(task.size_bytes // CHUNK_BYTES):
            sock.sendall(pattern.chunk(number))
            sent[0] += CHUNK_BYTES
        sock.sendall(pattern.END + (task.size_bytes // CHUNK_BYTES).to_bytes(8, "big"))
        sock.shutdown(socket.SHUT_WR)
        base.receive_all(sock)

    base.serve(task, answer)


def use(task: Task) -> dict[str, Any]:
    """The user's half: how many bytes kernels and nodes held while nobody read."""
    with base.connect(task) as sock:
        base.send_json(sock, "send")
        marks: list[int] = []
        began_s = time.monotonic()
        while (paused_s := time.monotonic() - began_s) < task.pause_s or not _settled(marks):
            if paused_s > task.pause_s + FILL_S:
                break
            time.sleep(LOOK_S)
            marks.append(_how_far(task))
        received = Pattern(task.seed).receive(sock, Timeline(time.monotonic()))
    return {
        "errors": [] if received == task.size_bytes // CHUNK_BYTES * CHUNK_BYTES else [f"{received} bytes"],
        "bytes": received,
        "held_bytes": marks[-1],
        "settled": _settled(marks),
        "marks": marks,
    }


def _settled(marks: list[int]) -> bool:
    """Whether the sender has stopped for a while."""
    return len(marks) >= STILL and len(set(marks[-STILL:])) == 1


def _how_far(task: Task) -> int:
    with base.connect(task) as sock:
        base.send_json(sock, "how far")
        return int(base.receive_json(sock))
