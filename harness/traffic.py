"""Application traffic: an echo service, and users that check every byte that comes back."""

from __future__ import annotations

import mmap
import random
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

CHUNK_BYTES = 1 << 18  # Bytes per read; large enough that the calls do not affect the result

ANSWER_S = 20.0  # A byte or packet that does not come within this time counts as lost

LARGEST_PACKET_BYTES = 65535


class Damaged(Exception):
    """The answer differs from what was sent."""


class EchoService:
    """Returns every TCP byte and every UDP packet to its sender, and a TCP half-close as well."""

    def __init__(self, host: str, port: int) -> None:
        """Listen on one port for both. Raises OSError if it is in use."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.address = (host, port)
        self._tcp = socket.create_server(self.address, family=family)
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._udp.bind(self.address)
        self._closing = False
        for serve in (self._accept, self._return_packets):
            threading.Thread(target=serve, daemon=True).start()

    def __enter__(self) -> EchoService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering."""
        self._closing = True
        for sock in (self._tcp, self._udp):
            with suppress(OSError):  # wakes the thread that waits in it
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                accepted, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=_return_bytes, args=(accepted,), daemon=True).start()

    def _return_packets(self) -> None:
        while True:
            try:
                packet, source = self._udp.recvfrom(LARGEST_PACKET_BYTES)
                if self._closing:  # shutdown() looks like an empty packet from nowhere
                    return
                self._udp.sendto(packet, source)
            except OSError:
                if self._closing:
                    return


def _return_bytes(accepted: socket.socket) -> None:
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with accepted, suppress(OSError):
        while got := accepted.recv_into(buffer):
            accepted.sendall(buffer[:got])
        accepted.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Transfer:
    """A file that came back; the time is from the first byte sent to the last byte received."""

    size_bytes: int
    seconds: float

    @property
    def megabytes_per_second(self) -> float:
        """10^6 bytes a second, in both directions at the same time."""
        return self.size_bytes / 1e6 / self.seconds


def send_file(entry: tuple[str, int], path: Path) -> Transfer:
    """Send a file through TCP to the echo service behind `entry` and compare the answer.

    Raises Damaged if a byte differs, is missing or is surplus; OSError if the transport fails.
    """
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as original,
        socket.create_connection(entry, timeout=ANSWER_S) as sock,
    ):
        started_s = time.perf_counter()
        failures: list[OSError] = []
        sender = threading.Thread(target=_send_all, args=(sock, path, failures), daemon=True)
        sender.start()
        received = _compare(sock, original)
        seconds = time.perf_counter() - started_s
        sender.join(ANSWER_S)
        if failures:
            raise failures[0]
        if received != len(original):
            raise Damaged(f"only {received:,} of {len(original):,} bytes came back")
        sock.shutdown(socket.SHUT_WR)
        if sock.recv(1):
            raise Damaged("more came back than was sent")
        return Transfer(received, seconds)


def _send_all(sock: socket.socket, path: Path, failures: list[OSError]) -> None:
    try:
        with path.open("rb") as file:
            sock.sendfile(file)
    except OSError as error:
        failures.append(error)


def _compare(sock: socket.socket, original: mmap.mmap) -> int:
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    received = 0
    while received < len(original) and (got := sock.recv_into(view)):
        expected = original[received : received + got]
        if view[:got] != expected:
            pairs = zip(buffer, expected, strict=False)
            wrong = next((i for i, (came, went) in enumerate(pairs) if came != went), len(expected))
            raise Damaged(f"byte {received + wrong:,} of the file came back different")
        received += got
    return received


def round_trips(entry: tuple[str, int], count: int, size_bytes: int) -> list[float]:
    """Round-trip times in seconds of `count` messages to the echo service, over one TCP connection."""
    message = random.Random(size_bytes).randbytes(size_bytes)
    times: list[float] = []
    with socket.create_connection(entry, timeout=ANSWER_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            started_s = time.perf_counter()
            sock.sendall(message)
            answer = b""
            while len(answer) < size_bytes:
                more = sock.recv(size_bytes - len(answer))
                if not more:
                    raise Damaged("the connection ended in the middle of a message")
                answer += more
            times.append(time.perf_counter() - started_s)
            if answer != message:
                raise Damaged("a message came back different")
    return times


def send_packets(entry: tuple[str, int], sizes: Sequence[int], seed: int) -> list[float]:
    """Send one UDP packet of each size, each after the answer to the last; round-trip times in seconds.

    Raises Damaged if a packet is lost, changed, cut or joined with another.
    """
    rng = random.Random(seed)
    times = []
    family = socket.AF_INET6 if ":" in entry[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(ANSWER_S)
        sock.connect(entry)
        for number, size in enumerate(sizes):
            packet = rng.randbytes(size)
            started_s = time.perf_counter()
            sock.send(packet)
            try:
                answer = sock.recv(LARGEST_PACKET_BYTES)
            except TimeoutError:
                raise Damaged(f"packet {number} of {size} bytes did not come back") from None
            times.append(time.perf_counter() - started_s)
            if answer != packet:
                raise Damaged(f"packet {number} of {size} bytes came back different ({len(answer)} bytes)")
    return times


def quantile(values: Sequence[float], part: float) -> float:
    """The quantile `part` (0 to 1) of `values`, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(part * len(ordered)) - 1))]
