"""A game over UDP: small numbered packets at a steady pace in both directions.

Both halves use one clock, so the one-way delay of every packet is known. The target reports over TCP
afterwards what it received. Task: seconds, rate, size_bytes, pause_s for packets that an outage held back,
seed.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from harness.workloads import base
from harness.workloads.base import Task

_HEAD = struct.Struct("<Qd")  # number, time of sending

SETTLE_S = 1.5  # How long to wait for late packets


@dataclass
class Seen:
    """The packets that one side received."""

    numbers: list[int] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)
    damaged: int = 0

    def add(self, packet: bytes, size_bytes: int, tail: bytes) -> None:
        now_s = time.monotonic()
        if len(packet) != size_bytes or packet[_HEAD.size :] != tail:
            self.damaged += 1
            return
        number, sent_s = _HEAD.unpack_from(packet)
        self.numbers.append(number)
        self.delays_ms.append((now_s - sent_s) * 1e3)
        self.arrived_s.append(now_s)

    def report(self, sent: int) -> dict[str, Any]:
        """The figures for a report."""
        highest, late = -1, 0
        for number in self.numbers:
            late += number < highest
            highest = max(highest, number)
        gaps_ms = [
            (b - a) * 1e3 for a, b in zip(sorted(self.arrived_s), sorted(self.arrived_s)[1:], strict=False)
        ]
        different = len(set(self.numbers))
        return {
            "sent": sent,
            "received": different,
            "lost": 1 - different / sent if sent else 0.0,
            "twice": len(self.numbers) - different,
            "overtaken": late,
            "damaged": self.damaged,
            "delay_ms": base.distribution(self.delays_ms),
            "longest_gap_ms": max(gaps_ms, default=0.0),
        }


def serve(task: Task) -> None:
    """The target's half: from the first packet on, it sends one back for each that it gets."""
    seen, sent = Seen(), [0]
    tail = _tail(task)

    def play() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", task.port))
            while True:
                packet, source = sock.recvfrom(65535)
                seen.add(packet, task.size_bytes, tail)
                sock.sendto(_HEAD.pack(sent[0], time.monotonic()) + tail, source)
                sent[0] += 1

    threading.Thread(target=play, daemon=True).start()
    base.serve(task, lambda sock, _: base.send_json(sock, [seen.report(base.receive_json(sock)), sent[0]]))


def use(task: Task) -> dict[str, Any]:
    """The user's half: reports what both directions received."""
    seen, tail = Seen(), _tail(task)
    family = socket.AF_INET6 if ":" in task.host else socket.AF_INET
    count = round(task.seconds * task.rate)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((task.host, task.port))
        began_s = time.monotonic()
        for number in range(count):
            _collect(sock, seen, task, tail, began_s + number / task.rate)
            sock.send(_HEAD.pack(number, time.monotonic()) + tail)
        _collect(sock, seen, task, tail, time.monotonic() + SETTLE_S + task.pause_s)
    with base.connect(task) as control:
        base.send_json(control, count)
        up, answered = base.receive_json(control)
    return {"errors": [], "up": up, "down": seen.report(answered)}


def _collect(sock: socket.socket, seen: Seen, task: Task, tail: bytes, until_s: float) -> None:
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select([sock], [], [], left_s)[0]:
            seen.add(sock.recv(65535), task.size_bytes, tail)


def _tail(task: Task) -> bytes:
    return bytes(base.Pattern(task.seed).chunk(0)[_HEAD.size : task.size_bytes])
