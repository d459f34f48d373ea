# cython: language_level=3
"""The face of a compiled wire towards `kcpg.net`, which feeds and drains it, a batch per call."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from kcpg.core.kcp._kcp cimport Path, Tx

cdef enum:
    TRANSMIT_DATAGRAMS = 512        # of one transmit() of the memory face


cdef class DatagramWire:
    cdef Tx tx                      # datagrams that are ready to leave: 0 .. tx.count
    cdef public int tx_cursor       # how many of them have left

    # Receive n bytes that hold datagrams of `size` bytes each (the last may be shorter), as UDP GRO gives.
    # Decrypts in place: the buffer's contents are used up.
    cdef int receive_run(
        self, const Path* source, uint8_t* buf, size_t n, uint32_t size, uint64_t now_ms) except -1
    # A batch of runs has been received.
    cdef int run_bypasses(self) except -1
    # Fill `tx` with what may leave now; how many datagrams wait there. Nothing new while old ones wait.
    cdef int build(self, uint64_t now_ms) except -1
    # Everything in `tx` has left or is given up.
    cdef void tx_done(self) noexcept
    # When build() must be called again though nothing happens; INT64_MAX: never.
    cdef int64_t due(self) except -2
    cdef bint has_news(self)
    # How long the datagrams that come next may be left in the socket, to be taken together.
    cpdef int coalesce_ms(self, int64_t now_ms) noexcept
    cdef int tx_allocate(self, int count, size_t nbytes) except -1


cdef int to_path(Path* path, int sock, bytes addr) except -1
cdef tuple from_path(const Path* path)
