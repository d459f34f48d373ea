# cython: language_level=3
"""What the wires of the compiled engine have in common: a vector of datagrams, and methods by which
`kcpg.net` calls any of them. Each dialect's wire derives from it."""
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from kcpg.core.kcp._kcp cimport PATH_ADDRESS_BYTES, Path

__all__ = ["DatagramWire"]


cdef class DatagramWire:
    """A wire without datagrams."""

    def __cinit__(self, *args, **kwargs):
        memset(&self.tx, 0, sizeof(self.tx))

    def __dealloc__(self):
        free(self.tx.buf)
        free(self.tx.off)
        free(self.tx.len)
        free(self.tx.path)

    cdef int tx_allocate(self, int count, size_t nbytes) except -1:
        """Make room for a vector of so many datagrams."""
        self.tx.cap = nbytes
        self.tx.max_count = count
        self.tx.buf = <uint8_t*>malloc(nbytes)
        self.tx.off = <uint32_t*>malloc(count * sizeof(uint32_t))
        self.tx.len = <uint32_t*>malloc(count * sizeof(uint32_t))
        self.tx.path = <Path*>malloc(count * sizeof(Path))
        if self.tx.buf == NULL or self.tx.off == NULL or self.tx.len == NULL or self.tx.path == NULL:
            raise MemoryError()
        return 0

    cdef int receive_run(
            self, const Path* source, uint8_t* buf, size_t n, uint32_t size, uint64_t now_ms) except -1:
        """Take in n bytes of datagrams of `size` bytes each."""
        raise NotImplementedError

    cdef int run_bypasses(self) except -1:
        """A batch of runs has been received."""
        return 0

    cdef int build(self, uint64_t now_ms) except -1:
        """Fill the vector with one batch of what may leave now; how many datagrams wait there."""
        raise NotImplementedError

    cdef void tx_done(self) noexcept:
        """Everything in the vector has left or is given up."""
        self.tx.count = 0
        self.tx.used = 0
        self.tx_cursor = 0

    def transmit(self, uint64_t now_ms):
        """What may leave now, as (socket, address, datagram); call again while `backlog`."""
        cdef list out = []
        cdef int i
        while len(out) < TRANSMIT_DATAGRAMS and self.build(now_ms) > 0:
            for i in range(self.tx_cursor, self.tx.count):
                out.append((*from_path(&self.tx.path[i]),
                            (<const uint8_t*>(self.tx.buf + self.tx.off[i]))[:self.tx.len[i]]))
            self.tx_done()
        return out

    def deadline(self):
        """When transmit must be called again though nothing else happens; None: never."""
        cdef int64_t due = self.due()
        return None if due == INT64_MAX else due

    cdef int64_t due(self) except -2:
        """When build() must be called again though nothing else happens; INT64_MAX: never."""
        return INT64_MAX

    cdef bint has_news(self):
        """Somebody has to act on an event now."""
        return False

    cpdef int coalesce_ms(self, int64_t now_ms) noexcept:
        """How long the datagrams that come next may be left in the socket: not at all."""
        return 0


cdef int to_path(Path* path, int sock, bytes addr) except -1:
    """Fill in the path of a socket and an address."""
    if len(addr) > PATH_ADDRESS_BYTES:
        raise ValueError(f"an address has at most {PATH_ADDRESS_BYTES} bytes, this one {len(addr)}")
    path.sock = <uint16_t>sock
    path.addrlen = <uint8_t>len(addr)
    memcpy(path.addr, <const uint8_t*>addr, len(addr))
    return 0


cdef tuple from_path(const Path* path):
    """The path as Python has it: socket and address."""
    return path.sock, path.addr[:path.addrlen]
