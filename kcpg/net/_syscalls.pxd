# cython: language_level=3
"""Batched system calls on sockets, and their control messages: sendmsg(2), recvmmsg(2), cmsg(3)."""
from libc.stdint cimport uint8_t

from kcpg.core._kcp cimport iovec

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
    struct timespec:
        pass
    int MSG_DONTWAIT, MSG_NOSIGNAL
    int recvmmsg(int fd, mmsghdr* messages, unsigned int count, int flags, timespec* timeout)
    int sendmmsg(int fd, mmsghdr* messages, unsigned int count, int flags)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    cmsghdr* CMSG_FIRSTHDR(msghdr* message)
    cmsghdr* CMSG_NXTHDR(msghdr* message, cmsghdr* item)
    uint8_t* CMSG_DATA(cmsghdr* item)
    size_t CMSG_LEN(size_t n)
    size_t CMSG_SPACE(size_t n)
