# cython: language_level=3
"""Batched system calls on sockets, their control messages: sendmsg(2), recvmmsg(2), cmsg(3);
packed addresses; and the clock."""
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy

from kcpg.core.kcp._kcp cimport iovec

cdef enum:
    AF_INET = 2
    NAME4_BYTES = 16            # sockaddr_in
    ADDRESS_BYTES = 28          # sockaddr_in6

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec* now)

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    int MSG_DONTWAIT, MSG_NOSIGNAL
    int recvmmsg(int fd, mmsghdr* messages, unsigned int count, int flags, timespec* timeout)
    int sendmmsg(int fd, mmsghdr* messages, unsigned int count, int flags)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    cmsghdr* CMSG_FIRSTHDR(msghdr* message)
    cmsghdr* CMSG_NXTHDR(msghdr* message, cmsghdr* item)
    uint8_t* CMSG_DATA(cmsghdr* item)
    size_t CMSG_LEN(size_t n)
    size_t CMSG_SPACE(size_t n)


cdef inline uint8_t remote_bytes(const uint8_t* address, size_t n) noexcept nogil:
    """How many of n bytes are the remote address; a local one may stand behind it."""
    cdef uint16_t family
    cdef size_t longest = ADDRESS_BYTES
    memcpy(&family, address, sizeof(family))
    if family == AF_INET:
        longest = NAME4_BYTES
    return <uint8_t>(longest if n > longest else n)


cdef inline long long monotonic_ns() noexcept nogil:
    """As time.monotonic_ns()."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * <long long>1000000000 + now.tv_nsec
