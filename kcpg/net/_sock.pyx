# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Connections as file descriptors, without a socket object for each, and timers; see sock.py."""
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport ECONNREFUSED, EINPROGRESS, errno
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcmp, memcpy, memset

from kcpg.net._syscalls cimport ADDRESS_BYTES, CLOCK_MONOTONIC, monotonic_ns, socklen_t, timespec

__all__ = [
    "abort", "accept", "again", "close", "connect", "spin", "next_ready", "set_timer", "shutdown",
    "timer",
]

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        pass
    struct linger:
        int l_onoff
        int l_linger
    int SOCK_STREAM, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_CLOEXEC
    int SOL_SOCKET, SO_KEEPALIVE, SO_LINGER, SO_OOBINLINE, SHUT_WR
    int socket(int family, int kind, int protocol)
    int connect_fd "connect"(int fd, const sockaddr* address, socklen_t length)
    int getsockname(int fd, sockaddr* address, socklen_t* length)
    int shutdown_fd "shutdown"(int fd, int how)
    int setsockopt(int fd, int level, int name, const void* value, socklen_t length)

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/socket.h>
    extern int accept4(int, struct sockaddr *, socklen_t *, int);
    """
    int accept4(int fd, sockaddr* address, socklen_t* length, int flags) nogil

cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    int TCP_NODELAY

cdef extern from "<unistd.h>" nogil:
    int close_fd "close"(int fd)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data:
        int fd
    cdef struct epoll_event:
        unsigned int events
        epoll_data data
    int EPOLLOUT
    int epoll_wait(int epoll, epoll_event* events, int count, int timeout_ms)

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<sys/timerfd.h>" nogil:
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec* value, itimerspec* before)


from kcpg.net.clock import NEVER_MS as _NEVER_MS
from kcpg.net.sock import NOT_ALONE as _NOT_ALONE
from kcpg.net.sock import NOTHING_YET as _NOTHING_YET
from kcpg.net.sock import PENDING as _PENDING

cdef long long NEVER_MS = _NEVER_MS
cdef int NOT_ALONE = _NOT_ALONE
cdef int NOTHING_YET = _NOTHING_YET


def accept(int fd):
    """The next connection's descriptor and packed address; (-errno, b"") without one."""
    cdef uint8_t address[ADDRESS_BYTES]
    cdef socklen_t length = ADDRESS_BYTES
    cdef int got = accept4(fd, <sockaddr*>address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if got < 0:
        return -errno, b""
    return got, address[: length if length < ADDRESS_BYTES else ADDRESS_BYTES]


def connect(bytes address, bint stream):
    """A descriptor and 0 (connected) or EINPROGRESS; or (-1, errno)."""
    cdef uint16_t family
    cdef int fd, error, one = 1
    memcpy(&family, <const uint8_t*>address, sizeof(family))
    fd = socket(family, (SOCK_STREAM if stream else SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if fd < 0:
        return -1, errno
    if stream:
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one))
        setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one))
    error = again(fd, address)
    if error == EINPROGRESS:
        error = again(fd, address)
    if error == ECONNREFUSED and not stream:    # it met itself; while it has that port, another one will not
        other = connect(address, stream)
        close_fd(fd)
        return other
    if error != 0 and error not in _PENDING:
        abort(fd)
        return -1, error
    return fd, error


cpdef int again(int fd, bytes address):
    """What connect(2) says: 0, or the errno. ECONNREFUSED, too, where the socket met itself: see sock.py."""
    cdef uint8_t own[ADDRESS_BYTES]
    cdef socklen_t length = ADDRESS_BYTES
    if connect_fd(fd, <const sockaddr*><const uint8_t*>address, <socklen_t>len(address)) != 0:
        return errno
    if getsockname(fd, <sockaddr*>own, &length) != 0 or length != <socklen_t>len(address):
        return 0
    return ECONNREFUSED if memcmp(own, <const uint8_t*>address, length) == 0 else 0


def shutdown(int fd):
    """No more is sent. A peer that has reset the connection is no error here: the reader finds out."""
    shutdown_fd(fd, SHUT_WR)


cpdef close(int fd):
    """Let go of the descriptor."""
    close_fd(fd)    # Linux frees it even when it says EINTR (close(2))


def abort(int fd):
    """Close with RST instead of FIN."""
    cdef linger at_once
    at_once.l_onoff = 1
    at_once.l_linger = 0
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once))
    close_fd(fd)


def timer():
    """A timer's descriptor, not set. Raises OSError."""
    cdef int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
    if fd < 0:
        PyErr_SetFromErrno(OSError)
    return fd


def set_timer(int fd, long long at_ms):
    """Make the timer readable at this time and not before; NEVER_MS: never."""
    cdef itimerspec when
    memset(&when, 0, sizeof(when))
    if at_ms < NEVER_MS:
        at_ms = at_ms if at_ms > 0 else 1       # 0 would say never
        when.it_value.tv_sec = at_ms // 1000
        when.it_value.tv_nsec = at_ms % 1000 * 1000000
    timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL)


cpdef int next_ready(int epoll) except -2:
    """Wait until something is ready: its descriptor if it is one alone and to be read, else NOT_ALONE."""
    cdef epoll_event events[2]
    cdef int count
    with nogil:
        count = epoll_wait(epoll, events, 2, -1)
    return alone(events, count)


cpdef int spin(int epoll, int at_most_us) except -2:
    """The same without falling asleep; NOTHING_YET when the time is over. Others get the processor first."""
    cdef epoll_event events[2]
    cdef long long until = monotonic_ns() + 1000 * at_most_us
    cdef int count
    with nogil:
        count = epoll_wait(epoll, events, 2, 0)
        while count == 0:
            sched_yield()
            if monotonic_ns() >= until:
                break
            count = epoll_wait(epoll, events, 2, 0)
    return NOTHING_YET if count == 0 else alone(events, count)


cdef inline int alone(const epoll_event* events, int count) noexcept nogil:
    return events[0].data.fd if count == 1 and not events[0].events & EPOLLOUT else NOT_ALONE
