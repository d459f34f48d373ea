"""Applications of the simulated world. All of them check what they receive, byte by byte."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from kcpg.core.flow import Reset
from tests.sim.memory import App, AppSocket

if TYPE_CHECKING:
    from tests.sim.world import World

CHUNK_BYTES = 16384
# A prime, so that no segment or buffer size divides it: a repeated, lost or swapped piece always shows.
PATTERN_BYTES = 65521


class Pattern:
    """Reproducible bytes by position: `take(offset, n)`."""

    def __init__(self, seed: str) -> None:
        block = random.Random(seed).randbytes(PATTERN_BYTES)
        self._twice = block + block

    def take(self, offset: int, n: int) -> bytes:
        assert n <= PATTERN_BYTES
        start = offset % PATTERN_BYTES
        return self._twice[start : start + n]


class Talker(App):
    """One end of a TCP conversation between applications: sends `send`, expects `expect`, each of its own
    pattern.

    `wait_for`: sends only after so many bytes were received (the other one speaks first). `end`: half-closes
    after the last byte. `reads`: (bytes, every ms), None: as fast as it comes. `reads_from_ms`: does not read
    before (from its start on). `reset_after`: aborts after so many received bytes.
    """

    def __init__(
        self,
        world: World,
        name: str,
        send: tuple[str, int] = ("", 0),
        expect: tuple[str, int] = ("", 0),
        *,
        wait_for: int = 0,
        end: bool = True,
        reads: tuple[int, int] | None = None,
        reads_from_ms: int = 0,
        reset_after: int | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.send_bytes = send[1]
        self.expect_bytes = expect[1]
        self._out = Pattern(send[0])
        self._in = Pattern(expect[0])
        self.wait_for = wait_for
        self.end = end
        self.reads = reads
        self.reads_from_ms = reads_from_ms
        self.reset_after = reset_after
        self.sent = self.received = 0
        self.got_end = False
        self.did_reset = False
        self.reset_reason: Reset | None = None
        self.done_ms: int | None = None
        self._reading = False
        world.talkers.append(self)

    def __str__(self) -> str:
        counts = f"sent {self.sent}/{self.send_bytes} received {self.received}/{self.expect_bytes}"
        return f"{self.name}: {counts} end={self.got_end} reset={self.reset_reason}"

    @property
    def clean(self) -> bool:
        """Sent and received everything, and the other's end."""
        return self.sent == self.send_bytes and self.received == self.expect_bytes and self.got_end

    @property
    def over(self) -> bool:
        """Nothing will happen to it any more."""
        return (self.clean and (self.end or self.got_end)) or self.did_reset or self.reset_reason is not None

    def start(self, sock: AppSocket) -> None:
        self.writable(sock)
        self.world.after(self.reads_from_ms, lambda: self._begin(sock))

    def _begin(self, sock: AppSocket) -> None:
        self._reading = True
        if self.reads is None:
            self.readable(sock)
        else:
            self._read_slowly(sock)

    def writable(self, sock: AppSocket) -> None:
        if self.did_reset or self.received < self.wait_for or sock.sent_end:
            return
        while self.sent < self.send_bytes:
            piece = self._out.take(self.sent, min(CHUNK_BYTES, self.send_bytes - self.sent))
            taken = sock.send(piece)
            self.sent += taken
            if taken < len(piece):
                return
        if self.end:
            sock.end()
        self._note()

    def readable(self, sock: AppSocket) -> None:
        if self._reading and self.reads is None:
            while self._read(sock, CHUNK_BYTES):
                pass

    def _read_slowly(self, sock: AppSocket) -> None:
        assert self.reads is not None
        if self.over:
            return
        self._read(sock, self.reads[0])
        if not self.got_end:
            self.world.after(self.reads[1], lambda: self._read_slowly(sock))

    def _read(self, sock: AppSocket, limit: int) -> bool:
        if self.did_reset or self.got_end:
            return False
        data = sock.recv(limit)
        if data is None:
            return False
        if not data:
            self.got_end = True
            assert self.received == self.expect_bytes, (
                f"{self.name}: the end came after {self.received} of {self.expect_bytes} bytes; {self.world}"
            )
            self._note()
            if not sock.sent_end and not self.end:
                sock.end()
            return False
        assert data == self._in.take(self.received, len(data)), (
            f"{self.name}: wrong bytes in {self.received}..{self.received + len(data)}; {self.world}"
        )
        self.received += len(data)
        assert self.received <= self.expect_bytes, f"{self.name}: too many bytes; {self.world}"
        if self.reset_after is not None and self.received >= self.reset_after:
            self.did_reset = True
            sock.reset()
            return False
        if self.wait_for:
            self.writable(sock)
        self._note()
        return True

    def _note(self) -> None:
        if self.clean and self.done_ms is None:
            self.done_ms = self.world.now_ms

    def was_reset(self, sock: AppSocket, reason: Reset) -> None:
        self.reset_reason = reason


class Echo(App):
    """Sends back what comes, stream or packets; ends when the other ends."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._pending = b""
        self._saw_end = False
        self.reset_reason: Reset | None = None
        self.packets = 0

    def readable(self, sock: AppSocket) -> None:
        while (packet := sock.recv_packet()) is not None:
            self.packets += 1
            sock.send_packet(packet)
        self.writable(sock)

    def writable(self, sock: AppSocket) -> None:
        while not sock.sent_end:
            if not self._pending:
                data = None if self._saw_end else sock.recv(CHUNK_BYTES)
                if data == b"":
                    self._saw_end = True
                if not data:
                    break
                self._pending = data
            taken = sock.send(self._pending)
            self._pending = self._pending[taken:]
            if not taken:
                return
        if self._saw_end and not self._pending and not sock.sent_end:
            sock.end()

    def was_reset(self, sock: AppSocket, reason: Reset) -> None:
        self.reset_reason = reason


class PacketStream(App):
    """Sends `count` numbered packets, one every `every_ms`, of `size(number)` bytes; checks what is echoed.

    Counts what came back (`seen`), more than once (`twice`), and the order. `worst_ms`: the longest that an
    echo took.
    """

    def __init__(
        self,
        world: World,
        name: str,
        count: int,
        every_ms: int,
        size: Callable[[int], int] = lambda number: 200,
    ) -> None:
        self.world = world
        self.name = name
        self.count = count
        self.every_ms = every_ms
        self.size = size
        self.sent = 0
        self.seen: set[int] = set()
        self.twice = 0
        self.late = 0  # came after a higher number
        self.worst_ms = 0
        self._highest = -1
        self._sent_ms: list[int] = []
        self._pattern = Pattern(name)
        self.reset_reason: Reset | None = None

    def complete(self) -> bool:
        """Every packet came back."""
        return len(self.seen) == self.count

    def packet(self, number: int) -> bytes:
        return number.to_bytes(4, "big") + self._pattern.take(number, max(self.size(number) - 4, 0))

    def start(self, sock: AppSocket) -> None:
        if self.sent < self.count and self.reset_reason is None:
            self._sent_ms.append(self.world.now_ms)
            sock.send_packet(self.packet(self.sent))
            self.sent += 1
            self.world.after(self.every_ms, lambda: self.start(sock))

    def readable(self, sock: AppSocket) -> None:
        while (packet := sock.recv_packet()) is not None:
            number = int.from_bytes(packet[:4], "big")
            assert packet == self.packet(number), f"{self.name}: packet {number} was changed; {self.world}"
            self.twice += number in self.seen
            self.late += number < self._highest
            self._highest = max(self._highest, number)
            self.seen.add(number)
            if number < len(self._sent_ms):  # else it is not an echo: two streams that face each other
                self.worst_ms = max(self.worst_ms, self.world.now_ms - self._sent_ms[number])

    def was_reset(self, sock: AppSocket, reason: Reset) -> None:
        self.reset_reason = reason
