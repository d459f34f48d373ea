# cython: language_level=3
"""C interface of the compiled data plane of a kcptun leg. Twin: wire.py, and so for each part."""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from kcpg.core._plainwire cimport PlainConv, PlainWire, ReplayCache
from kcpg.core.kcp._kcp cimport Path
from kcpg.core.seal._seal cimport CfbC, SealerC

include "_cipher.pxd"
include "_fec.pxd"
include "_smux.pxd"


@cython.final
cdef class TunConv(PlainConv):
    cdef Path at                    # `path` in C
    cdef readonly object path
    cdef readonly int64_t behind_ms
    cdef public bint heard
    cdef readonly ShardSender sender
    cdef readonly ShardReceiver receiver
    cdef readonly bint is_opening
    cdef object params

    cdef int place(self, tuple path) except -1
    cdef int learn_shape(self) except -1
    cdef int open_window(self) except -1


@cython.final
cdef class TunWire(PlainWire):
    cdef object _format
    cdef readonly dict convs
    cdef Cipher cipher
    cdef object entropy
    cdef object stranger
    cdef bytes nonces
    cdef uint32_t nonce_at
    cdef public ReplayCache seen
    cdef public ReplayCache openings
    cdef TunConv last               # whose datagrams came last; None: not known to be right
    cdef Path rx_path               # where the datagram in hand came from
    cdef uint32_t rx_bytes          # ... how long it is
    cdef uint8_t rx_mark[NONCE_BYTES]   # ... and what tells a repetition of it
    cdef bint follows

    cdef int datagram(self, uint8_t* p, uint32_t n) except -1
    cdef int shard(self, const uint8_t* body, uint32_t n, bint is_data) except -1
    cdef TunConv whose(self, const uint8_t* segments, uint32_t n)
    cdef int input(self, TunConv conv, const uint8_t* segments, uint32_t n, bint rebuilt) except -1
    cdef int put_parity(self, TunConv conv) except -1
