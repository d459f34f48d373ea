"""As many bytes as fit in some time, one way, over one flow or many; every byte is compared.

Task: way (up, down), seconds, flows, seed, congestion.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from harness.workloads import base
from harness.workloads.base import Pattern, Task, Timeline


def serve(task: Task) -> None:
    """The target's half."""
    base.serve(task, _answer)


def _answer(sock: socket.socket, task: Task) -> None:
    asked = base.receive_json(sock)
    pattern = Pattern(asked["seed"])
    if asked["way"] == "down":
        sent = pattern.send(sock, asked["seconds"])
        base.receive_all(sock)  # the user closes once it has everything
        print(f"sent {sent}", flush=True)
        return
    timeline = Timeline(asked["start_s"])
    received = pattern.receive(sock, timeline)
    base.send_json(sock, {"received": received, "bins": timeline.bins})


def use(task: Task) -> dict[str, Any]:
    """The user's half: the receiver's goodput in Mbit/s, and bytes per tenth of a second."""
    start_s = time.monotonic()
    total, lock = Timeline(start_s), threading.Lock()
    received: list[int] = []

    def one(number: int) -> None:
        asked = {"way": task.way, "seconds": task.seconds, "seed": task.seed + number, "start_s": start_s}
        pattern = Pattern(task.seed + number)
        with base.connect(task) as sock:
            base.send_json(sock, asked)
            if task.way == "down":
                timeline = Timeline(start_s)
                count = pattern.receive(sock, timeline)
                bins = timeline.bins
            else:
                sent = pattern.send(sock, task.seconds)
                answer = base.receive_json(sock)
                count, bins = answer["received"], answer["bins"]
                if count != sent:
                    raise base.Damaged(f"{count} of {sent} bytes arrived")
        with lock:
            received.append(count)
            total.bins.extend([0] * (len(bins) - len(total.bins)))
            for at, more in enumerate(bins):
                total.bins[at] += more

    errors = base.in_parallel(task.flows, one)
    within = total.within(0, task.seconds)
    settled = total.within(task.seconds / 2, task.seconds)
    return {
        "errors": errors,
        "start_s": start_s,
        "seconds": task.seconds,
        "bytes": sum(received),
        "flows": len(received),
        "fairness": _fairness(received),
        "mbit_s": within * 8 / 1e6 / task.seconds,
        "settled_mbit_s": settled * 8 / 1e6 / (task.seconds / 2),
        "drained_s": len(total.bins) * base.BIN_S,
        "bins": total.bins,
    }


def _fairness(shares: list[int]) -> float:
    """Jain's index: 1 if all flows got the same, 1/n if one got everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0
