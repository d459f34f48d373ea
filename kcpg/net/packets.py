"""Batches of users' UDP packets on local sockets.

`receive`, `receive_from` and `send` have compiled twins in `_packets`, which move 64 packets per system call
and take the place of the plain ones here where they were built and the plain engine was not asked for.
"""

from __future__ import annotations

import _socket
import errno
import os
from functools import lru_cache
from typing import Any

from kcpg.net import addr as addresses
from kcpg.net import pktinfo

BATCH = 64  # packets of one call: what a segmented message may hold on every kernel

MAX_PACKET_BYTES = 65_535
MAX_CACHED_ADDRESSES = 4096

# An application's packed address, and the one of ours that it asked (b"": there is only one).
Place = tuple[bytes, bytes]

NOWHERE: Place = (b"", b"")  # the place of a socket that is connected

Batch = dict[Place, list[bytes]]

_WAIT = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})

_compiled: Any = None
if os.environ.get("KCPG_ENGINE") != "python":
    try:
        from kcpg.net import _packets as _compiled
    except ImportError:
        pass


def receive(sock: _socket.socket, limit: int) -> tuple[list[bytes], int]:
    """Up to `limit` packets of a connected socket, at most a batch, and an errno (0: none)."""
    if _compiled is not None:
        found: tuple[list[bytes], int] = _compiled.receive(sock.fileno(), limit)
        return found
    packets: list[bytes] = []
    try:
        while len(packets) < min(limit, BATCH):
            packets.append(sock.recv(MAX_PACKET_BYTES))
    except OSError as error:
        return packets, _number(error) if not packets else 0
    return packets, 0


def receive_from(sock: _socket.socket) -> tuple[Batch, int, int]:
    """A batch of packets by place; how many; an errno (0: none). Fewer than a batch: the socket is dry."""
    if _compiled is not None:
        batch: tuple[Batch, int, int] = _compiled.receive_from(sock.fileno())
        return batch
    found: Batch = {}
    count = 0
    try:
        while count < BATCH:
            packet, control, _flags, where = sock.recvmsg(MAX_PACKET_BYTES, pktinfo.CONTROL_BYTES)
            count += 1
            found.setdefault((_pack(where), pktinfo.asked(control)), []).append(packet)
    except OSError as error:
        return found, count, _number(error) if not count else 0
    return found, count, 0


def send(sock: _socket.socket, packets: list[bytes], first: int, place: Place) -> tuple[int, int, int]:
    """Send the packets from `first` on, at most a batch, to this place (NOWHERE: the socket is connected).

    How many the kernel took, the errno of what stopped it (0: nothing), how many packets that was about.
    """
    if _compiled is not None:
        done: tuple[int, int, int] = _compiled.send(sock.fileno(), packets, first, *place, True)
        return done
    where, local = place
    sent = 0
    control = [pktinfo.item(local)] if local else []
    try:
        for packet in packets[first : first + BATCH]:
            if where:
                sock.sendmsg([packet], control, 0, _unpack(where))
            else:
                sock.send(packet)
            sent += 1
    except OSError as error:
        return sent, error.errno or errno.EIO, 1
    return sent, 0, 0


def is_full(number: int) -> bool:
    """Whether this errno says that there is no room now."""
    return number in _WAIT


def _number(error: OSError) -> int:
    return 0 if error.errno in _WAIT else error.errno or errno.EIO


_pack = lru_cache(MAX_CACHED_ADDRESSES)(addresses.from_tuple)
_unpack = lru_cache(MAX_CACHED_ADDRESSES)(addresses.to_tuple)
