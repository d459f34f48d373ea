# cython: language_level=3
"""C interface of the compiled native data plane: `kcpg.net` feeds and drains it, a batch per call.

It is one translation unit, so that nothing within it is called through another module. Each part has its
declarations in a .pxd and its code in a .pxi of one stem, which is that of its twin in plain Python. Classes
that nothing derives from are final: the C compiler then sees which method a call means, and can inline it.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from kcpg.core._datagramwire cimport DatagramWire
from kcpg.core.fec._fec cimport fec_losses_t, fec_rx_t, fec_tx_t
from kcpg.core.kcp._kcp cimport Kcp, Path, Pool, Tx, kcp_t, share_t
from kcpg.core.seal._seal cimport HeaderMask, Replay, Sealer

include "_headers.pxd"
include "_frames.pxd"
include "_counters.pxd"
include "_pool.pxd"
include "_timers.pxd"
include "_pacer.pxd"
include "_rxepoch.pxd"
include "_txepoch.pxd"
include "_linkfec.pxd"
include "_turn.pxd"
include "_flight.pxd"
include "_conv.pxd"
include "_events.pxd"
include "_bypass.pxd"
include "_pathcredit.pxd"
include "_linkwire.pxd"

cdef enum:
    BATCH = 64                      # datagrams unmasked together: what one GRO buffer or GSO run holds
    TURN_DATAGRAMS = 64             # of one link before the next has its turn
    BULK_MS = 100                   # in which the pacer held something back: bulk is sent
    LONE_MS = 1000                  # after something short nothing is saved up or left in a socket
    COALESCE_RTT = 8                # of a round trip datagrams may be left in the socket, ...
    COALESCE_MS = 8                 # ... at most
    LATE_MS = 2                     # called later than asked for
    SHORT_BYTES = 800               # of a segment that is not one of bulk


cdef class Wire(DatagramWire):
    cdef SegmentPool segment_pool
    cdef SegmentPool fec_pool
    cdef readonly uint32_t max_datagram
    cdef readonly dict drops
    cdef HeaderMask mask_rx
    cdef HeaderMask mask_tx
    cdef dict epochs
    cdef RxEpoch last_epoch
    cdef object outbox
    cdef Events events
    cdef object active              # deque of LinkWire
    cdef timers_t timers
    cdef dict starved               # Conv that wait for slots of the pool, in order
    cdef uint64_t now_ms
    cdef int64_t paced_ms           # when the pacer held something back last
    cdef int64_t lone_ms            # when something short came or left last
    cdef int64_t _coalesce_ms
    cdef int64_t due_ms             # as due() told last, and ...
    cdef int64_t look_ms            # ... coalesce_ms()
    cdef int64_t nearest_ms         # round trip of the links that were heard since the last question
    cdef Path rx_path               # where the datagram in hand came from

    cdef bint is_alone(self, int64_t now_ms) noexcept
    cdef int build_outbox(self) except -1
    cdef int datagram(self, uint8_t* p, uint32_t n, uint64_t now_ms) except -1
    cdef int shard(
        self, LinkWire link_wire, int frame_type, const uint8_t* p, uint32_t n, uint64_t now_ms) except -1
    cdef int unwrap(
        self, LinkWire link_wire, const uint8_t* p, uint32_t n, bint rebuilt, uint64_t now_ms) except -1
    cdef int segments(
        self, LinkWire link_wire, const uint8_t* p, uint32_t n, bint rebuilt, uint64_t now_ms) except -1
    cdef int unreliable(self, LinkWire link_wire, const uint8_t* p, uint32_t n) except -1
    cdef int frame(self, LinkWire link_wire, int frame_type, bytes payload) except -1
    cdef int feed(self) except -1
    cdef int count_drop(self, str reason) except -1
    cdef int ripen(self, uint64_t now_ms) except -1
    cdef int wake(self, LinkWire link_wire) except -1
