"""Connections of applications and targets as file descriptors, and timers.

A short connection spends a good part of its time on what a socket object asks the kernel when it is made,
and on addresses that become text and are read again. The compiled functions (`_sock`) do without; these are
their twins, and what runs where there is no compiler. Addresses are packed (`kcpg.net.addr`), descriptors do
not block.
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import os
import struct
import time

from kcpg.net import addr as addresses
from kcpg.net.clock import NEVER_MS

# What connect(2) says while it is not decided.
PENDING = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN, errno.EWOULDBLOCK})

NOT_ALONE, NOTHING_YET = -1, -3  # instead of a descriptor; -2 is that of an exception in the compiled form

_IP_FREEBIND, _IPV6_FREEBIND = 15, 78  # include/uapi/linux/in.h, in6.h

_UNIX = struct.pack("=H", _socket.AF_UNIX)  # sa_family alone, as the kernel tells it (unix(7))

_TIMER_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK  # TFD_CLOEXEC and TFD_NONBLOCK, timerfd_create(2)
_TIMER_ABSTIME = 1
_libc = ctypes.CDLL(None, use_errno=True)  # os has timers from Python 3.13 on
_ABORT_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: close() sends RST (socket(7))


def accept(fd: int) -> tuple[int, bytes]:
    """The next connection's descriptor and packed address; (-errno, b"") without one."""
    listening = _socket.socket(fileno=fd)
    try:
        accepted, where = listening._accept()  # type: ignore[attr-defined]
    except OSError as error:
        return -(error.errno or errno.EIO), b""
    finally:
        listening.detach()
    os.set_blocking(accepted, False)
    if not isinstance(where, tuple):  # of a UNIX socket
        return accepted, _UNIX
    return accepted, addresses.from_tuple(where)


def connect(address: bytes, stream: bool) -> tuple[int, int]:
    """A descriptor and 0 (connected) or one of PENDING; or (-1, errno).

    connect(2) tells the outcome when it is called again; on this machine and for a refusal nearby that is
    known by then, and there is nothing to wait for.
    """
    kind = _socket.SOCK_STREAM if stream else _socket.SOCK_DGRAM
    try:
        sock = _socket.socket(addresses.family(address), kind | _socket.SOCK_NONBLOCK)
    except OSError as error:
        return -1, error.errno or errno.EIO
    if stream:
        tune(sock)
    fd = sock.detach()
    outcome = again(fd, address)
    if outcome == errno.EINPROGRESS:
        outcome = again(fd, address)
    if (
        outcome == errno.ECONNREFUSED and not stream
    ):  # it met itself; while it has that port, another one will not
        held, (fd, outcome) = fd, connect(address, stream)
        os.close(held)
        return fd, outcome
    if outcome and outcome not in PENDING:
        abort(fd)
        return -1, outcome
    return fd, outcome


def again(fd: int, address: bytes) -> int:
    """What connect(2) says: 0, or the errno. ECONNREFUSED as well where the socket has met itself.

    A target that is down, on this machine and in the range from which the kernel takes source ports, answers
    now and then: by a socket that got just that port (TCP's simultaneous open, RFC 9293 section 3.5).
    """
    sock = _socket.socket(fileno=fd)
    try:
        outcome = int(sock.connect_ex(addresses.to_tuple(address)))
        met_itself = outcome == 0 and addresses.from_tuple(sock.getsockname()) == address
        return errno.ECONNREFUSED if met_itself else outcome
    finally:
        sock.detach()


def tune(sock: _socket.socket) -> None:
    """Set what every local TCP connection has: small writes leave at once, a dead peer is found, and urgent
    data stays in its place in the stream (RFC 6093).

    Linux gives what a listening socket has to the connections it accepts.
    """
    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_OOBINLINE, 1)


def bind(sock: _socket.socket, where: tuple[object, ...]) -> None:
    """Bind to this address, which no interface may have yet: what arrives once one has it is received
    (ip(7), IP_FREEBIND). Raises OSError."""
    try:
        sock.bind(where)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL or not where[0]:
            raise
        six = sock.family == addresses.AF_INET6
        level, option = (_socket.IPPROTO_IPV6, _IPV6_FREEBIND) if six else (_socket.IPPROTO_IP, _IP_FREEBIND)
        try:
            sock.setsockopt(level, option, 1)
        except OSError:  # not on this system
            raise error from None
        sock.bind(where)


def shutdown(fd: int) -> None:
    """No more is sent. A peer that has reset the connection is no error here: the reader finds out."""
    sock = _socket.socket(fileno=fd)
    try:
        sock.shutdown(_socket.SHUT_WR)
    except OSError:
        pass
    finally:
        sock.detach()


def close(fd: int) -> None:
    """Let go of the descriptor."""
    os.close(fd)


def abort(fd: int) -> None:
    """Close with RST instead of FIN."""
    sock = _socket.socket(fileno=fd)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _ABORT_ON_CLOSE)
    except OSError:  # never connected, or the peer was quicker
        pass
    sock.close()


def timer() -> int:
    """A timer's descriptor, not set. Raises OSError."""
    fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _TIMER_FLAGS)
    if fd < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return fd


def set_timer(fd: int, at_ms: int) -> None:
    """Make the timer readable at this time (`kcpg.net.clock`) and not before; NEVER_MS: never."""
    at_ms = 0 if at_ms >= NEVER_MS else max(at_ms, 1)  # 0 says never
    when = struct.pack("@llll", 0, 0, at_ms // 1000, at_ms % 1000 * 1_000_000)  # struct itimerspec
    _libc.timerfd_settime(fd, _TIMER_ABSTIME, when, None)


def next_ready(epoll: int) -> int:
    """Wait until something is ready: its descriptor if it is one alone and to be read, else NOT_ALONE.

    Here always that, without waiting: Python's own call costs no less than the round of the event loop that
    it would save.
    """
    return NOT_ALONE


def spin(epoll: int, at_most_us: int) -> int:
    """The same without falling asleep; NOTHING_YET when the time is over. Others get the processor first."""
    return NOT_ALONE
