"""Numbered and timed packets, sent over a cable to see what it does to them.

Sender and receiver are sockets of one process in two namespaces, so both times come from one clock. A
receiver takes the kernel's time of arrival, which a busy machine does not delay.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from harness.link import End, Link

HEADER = struct.Struct("<IQ")  # number, time of sending

# Ethernet, IP and UDP headers of a frame.
OVERHEAD_BYTES = {socket.AF_INET: 14 + 20 + 8, socket.AF_INET6: 14 + 40 + 8}

BUFFER_BYTES = 16 << 20

_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; also the type of the control message
_TIMESPEC = struct.Struct("@qq")


@dataclass(slots=True)
class Flight:
    """Probes of one direction, each with its time of sending and its times of arrival (none: lost)."""

    sent_ns: list[int] = field(default_factory=list)
    frame_bytes: list[int] = field(default_factory=list)
    arrived_ns: list[list[int]] = field(default_factory=list)

    def delays_ms(self) -> list[float]:
        """The delays of the first copy of each probe that arrived, smallest first."""
        pairs = zip(self.sent_ns, self.arrived_ns, strict=True)
        return sorted((min(arrivals) - sent) / 1e6 for sent, arrivals in pairs if arrivals)

    @property
    def lost(self) -> float:
        """The share that was lost."""
        return sum(not arrivals for arrivals in self.arrived_ns) / max(len(self.arrived_ns), 1)

    @property
    def duplicated(self) -> float:
        """The share that arrived more than once."""
        return sum(len(arrivals) > 1 for arrivals in self.arrived_ns) / max(len(self.arrived_ns), 1)


class Gun:
    """Sends the probes of one direction and collects what arrives."""

    def __init__(self, own: End, other: End, stack: ExitStack, families: int) -> None:
        self.flight = Flight()
        self.receivers: list[socket.socket] = []
        self._senders: list[tuple[socket.socket, int]] = []
        for family, mine, theirs in (
            (socket.AF_INET, own.v4, other.v4),
            (socket.AF_INET6, own.v6, other.v6),
        ):
            if not mine or len(self.receivers) == families:
                continue
            receiver = stack.enter_context(other.namespace.socket(family, socket.SOCK_DGRAM))
            receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
            receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            receiver.setblocking(False)
            receiver.bind((theirs, 0))
            self.receivers.append(receiver)
            sender = stack.enter_context(own.namespace.socket(family, socket.SOCK_DGRAM))
            sender.bind((mine, 0))
            sender.connect(receiver.getsockname())
            self._senders.append((sender, OVERHEAD_BYTES[family]))

    def overhead_bytes(self) -> int:
        """All headers of the largest frames."""
        return max(overhead for _, overhead in self._senders)

    def fire(self, payload_bytes: int) -> None:
        """Send the next probe; families take turns."""
        flight = self.flight
        number = len(flight.sent_ns)
        sender, overhead = self._senders[number % len(self._senders)]
        now_ns = time.time_ns()  # the clock of the kernel's times of arrival
        flight.sent_ns.append(now_ns)
        flight.frame_bytes.append(overhead + payload_bytes)
        flight.arrived_ns.append([])
        sender.send(HEADER.pack(number, now_ns).ljust(payload_bytes, b"\0"))

    def collect(self) -> None:
        """Collect the probes that have arrived. One with a corrupted number counts as lost."""
        flight = self.flight
        for receiver in self.receivers:
            while True:
                try:
                    data, control, _, _ = receiver.recvmsg(2048, 64)
                except BlockingIOError:
                    break
                number, sent_ns = HEADER.unpack_from(data)
                if number < len(flight.sent_ns) and flight.sent_ns[number] == sent_ns:
                    seconds, rest = _TIMESPEC.unpack(control[0][2])
                    flight.arrived_ns[number].append(seconds * 10**9 + rest)


@contextmanager
def guns(link: Link, families: int = 2) -> Iterator[tuple[Gun, Gun]]:
    """The guns that shoot up and down a cable, over at most this many address families."""
    with ExitStack() as stack:
        yield Gun(link.near, link.far, stack, families), Gun(link.far, link.near, stack, families)


def spaced(shooting: Sequence[Gun], count: int, gap_ns: int, payload_bytes: int, wait_ns: int) -> None:
    """Send `count` probes from each, one every `gap_ns`; then wait for those in flight."""
    start_ns = time.monotonic_ns()
    for number in range(count):
        _collect_until(shooting, start_ns + number * gap_ns)
        for gun in shooting:
            gun.fire(payload_bytes)
    _collect_until(shooting, time.monotonic_ns() + wait_ns)


def train(gun: Gun, count: int, payload_bytes: int, wait_ns: int) -> None:
    """Send `count` probes back to back; then wait for them."""
    for _ in range(count):
        gun.fire(payload_bytes)
    _collect_until([gun], time.monotonic_ns() + wait_ns)


def dispersion_bps(flight: Flight, first: int = 0) -> float:
    """The rate at which a train arrives, from probe `first` on; 0.0 if fewer than two arrived.

    It is the bits that arrived after the earliest probe, over the time from the earliest to the latest: the
    queue before the bottleneck sets the gaps, however fast the probes were sent.
    """
    arrivals = sorted(
        (arrival_ns, size)
        for size, times in list(zip(flight.frame_bytes, flight.arrived_ns, strict=True))[first:]
        for arrival_ns in times
    )
    if len(arrivals) < 2 or arrivals[-1][0] == arrivals[0][0]:
        return 0.0
    return sum(size for _, size in arrivals[1:]) * 8 * 1e9 / (arrivals[-1][0] - arrivals[0][0])


def _collect_until(shooting: Sequence[Gun], until_ns: int) -> None:
    while True:
        for gun in shooting:
            gun.collect()
        left_s = (until_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            return
        select.select([receiver for gun in shooting for receiver in gun.receivers], [], [], left_s)
