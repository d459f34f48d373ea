"""Handing datagrams over to the process that has their link, and links to the one that has fewer.

Rare: the kernel steers by the sender's address (`kcpg.net.steer`), and only a sender whose address has just
changed is steered to the wrong process, until the steering knows better. Each process has one socket pair
(Unix, datagrams): it reads one end, the others write to the other. The pairs outlive a process that is
started again.
"""

from __future__ import annotations

import _socket
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from kcpg.core.seal.seal import SAMPLE_BYTES, HeaderMask, xor
from kcpg.core.workerslot import MAX_WORKERS
from kcpg.net import READ
from kcpg.net.clock import now_ms
from kcpg.net.task import Task

if TYPE_CHECKING:
    from kcpg.core.native.listener import TunnelListener
    from kcpg.core.native.wire.wire import Path
    from kcpg.net.driver import Driver

# Of datagrams on their way to one process, as of a tunnel socket (`udp.BUFFER_BYTES`). Beyond, they are lost.
QUEUE_BYTES = 4 << 20

MESSAGES_PER_TURN = 64
ASK_MS = 200  # time for a request to take effect before it is repeated; the steering is renewed every 20 ms

_MAX_ASKED = 1024
_MAX_MESSAGE_BYTES = 66_000  # a UDP payload, an address of 28 bytes and our own few

TALLY_BYTES = 4 * MAX_WORKERS

_HEAD = struct.Struct("=HB")  # number of the socket, length of the address

_LIFE = _HEAD.pack(0xFFFF, 0)  # in place of both: no datagram follows, but the incarnation of a dialer

_SO_SNDBUFFORCE = 32

# Told a socket's number and a sender's address whose datagrams should come here at once.
Steer = Callable[[int, bytes], None]


def make_pair() -> tuple[_socket.socket, _socket.socket]:
    """(the end a process reads, the end the others write)."""
    read, write = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    for end in (read, write):
        end.setblocking(False)
    try:
        write.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, QUEUE_BYTES)
    except OSError:  # needs CAP_NET_ADMIN; the plain option is capped at net.core.wmem_max
        write.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, QUEUE_BYTES)
    return read, write


class Tally:
    """How many links each process has: memory that all of them map, a number for each."""

    def __init__(self, fd: int) -> None:
        """`fd`: from `make_tally`."""
        self._map = mmap.mmap(fd, TALLY_BYTES)
        self._counts = memoryview(self._map).cast("I")

    def put(self, worker: int, count: int) -> None:
        """One process has so many now."""
        self._counts[worker] = count

    def choose(self, worker: int, others: Iterable[int]) -> int:
        """Who should have one more: `worker` itself, unless another has clearly less. An eighth is no
        difference: it is not worth a hand-over and an exception in the steering."""
        own = self._counts[worker]
        least = min(others, key=self._counts.__getitem__, default=worker)
        return least if own >= self._counts[least] + 1 + own // 8 else worker

    def close(self) -> None:
        """Let go of the memory."""
        self._counts.release()
        self._map.close()


def make_tally() -> int:
    """A descriptor for `Tally`. Raises OSError."""
    fd = os.memfd_create("kcpg-tally", os.MFD_CLOEXEC)
    os.ftruncate(fd, TALLY_BYTES)
    return fd


class HandOver:
    """Gives datagrams to other processes, and takes those that they give."""

    def __init__(
        self, index: int, read: _socket.socket, write: Mapping[int, _socket.socket], tally: Tally
    ) -> None:
        """`index`: of this process. `write`: the others, by number."""
        self._index = index
        self._tally = tally
        self.present: frozenset[int] = frozenset(write)  # the others that run now
        self.lost = 0  # datagrams for which there was no room on the way
        self.processes = len(write) + 1
        self._read = read
        self._write = write
        self._task: Task | None = None

    def give(self, worker: int, path: Path, header: bytes, body: bytes) -> bool:
        """One for which there is no room is lost, as on any network."""
        if worker not in self.present:
            return False
        sock, addr = path
        try:
            self._write[worker].send(_HEAD.pack(sock, len(addr)) + addr + header + body)
        except OSError:
            self.lost += 1
        return True

    def tell_life(self, incarnation: bytes) -> None:
        """Tell all others that a dialer has begun a new life."""
        for worker in self.present - {self._index}:
            try:
                self._write[worker].send(_LIFE + incarnation)
            except OSError:
                self.lost += 1

    def count(self, links: int) -> None:
        self._tally.put(self._index, links)

    def choose(self) -> int:
        return self._tally.choose(self._index, self.present - {self._index})

    def start(self, leg: TunnelListener, mask_key: bytes, driver: Driver, steer: Steer) -> None:
        """Feed what comes to `leg`, whose datagrams are masked by `mask_key`."""
        taker = _Taker(leg, HeaderMask(mask_key), steer)
        task = self._task = Task(lambda: self._ready(task, taker, driver), self._read.fileno(), READ)
        task.wait_io()

    def close(self) -> None:
        """Take nothing more. The sockets are the caller's."""
        if self._task is not None:
            self._task.close()

    def _ready(self, task: Task, taker: _Taker, driver: Driver) -> None:
        try:
            self._turn(taker, driver)
        except Exception:
            driver.crashed("a turn of what other processes hand over")
        task.wait_io()

    def _turn(self, taker: _Taker, driver: Driver) -> None:
        """Take some. What is left makes the descriptor ready again."""
        messages: list[bytes] = []
        try:
            while len(messages) < MESSAGES_PER_TURN:
                messages.append(self._read.recv(_MAX_MESSAGE_BYTES))
        except OSError:  # there are no more
            pass
        for message in messages:
            taker.take(message, now_ms())
        if messages:
            driver.serve()
            taker.follow(now_ms())


class _Taker:
    """Feeds a leg, and has the senders steered here whose links are."""

    def __init__(self, leg: TunnelListener, mask: HeaderMask, steer: Steer) -> None:
        self._leg = leg
        self._mask = mask
        self._steer = steer
        self._came: dict[tuple[int, Path], None] = {}
        self._asked: dict[Path, int] = {}

    def take(self, message: bytes, now: int) -> None:
        """One datagram; masked again, because that is how it goes into a wire."""
        if message.startswith(_LIFE):
            self._leg.take_life(message[_HEAD.size :], now)
            return
        sock, length = _HEAD.unpack_from(message)
        at = _HEAD.size + length
        addr, header, body = message[_HEAD.size : at], message[at : at + 8], message[at + 8 :]
        cid = int.from_bytes(header[:4], "big")
        if cid == 0:
            self._leg.take_init((sock, addr), header, body, now)
            return
        self._leg.wire.receive(sock, addr, xor(header, self._mask.mask(body[-SAMPLE_BYTES:])) + body, now)
        self._came[cid, (sock, addr)] = None

    def follow(self, now: int) -> None:
        """Ask for what comes by a path by which a link sends: that a link does so proves that its peer is
        there, so nobody else can have datagrams steered."""
        for cid, path in self._came:
            link = self._leg.cids.owner(cid)
            if link is None or link.link_wire.path != path or now - self._asked.get(path, -ASK_MS) < ASK_MS:
                continue
            if len(self._asked) >= _MAX_ASKED:
                self._asked.clear()
            self._asked[path] = now
            self._steer(*path)
        self._came.clear()
