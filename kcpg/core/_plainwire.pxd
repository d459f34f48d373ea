# cython: language_level=3
"""C interface of what the compiled wires of foreign dialects have in common. Twin: plainwire.py."""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from kcpg.core._datagramwire cimport DatagramWire
from kcpg.core.kcp._kcp cimport Kcp

include "_replaycache.pxd"

cdef enum:
    TURN_BYTES = 89600          # of one conversation before others have their turn
    WAKE_SEGMENTS = 64          # room that ends a writer's wait
    BUILD_DATAGRAMS = 128       # of a vector
    COALESCE_RTT = 8            # of a round trip datagrams may be left in the socket, ...
    COALESCE_MS = 8             # ... at most
    JOINED_MS = 100             # none after the kernel has joined datagrams: batches are full

cdef enum:
    EV_READABLE = 1
    EV_WRITABLE = 2


cdef class PlainConv:
    cdef readonly PlainWire wire
    cdef readonly uint32_t number
    cdef public object user
    cdef readonly Kcp kcp
    cdef public tuple pacers
    cdef public int64_t heard_ms
    cdef public uint64_t rx_bytes, tx_bytes, rx_datagrams, tx_datagrams
    cdef public int events
    cdef public bint want_room
    cdef readonly bint closed
    cdef bint is_dirty              # it has a turn coming
    cdef bint is_fed                # segments came, and nobody has looked yet

    cdef int begin(self, PlainWire wire, uint32_t number, object params, object user, uint32_t most_bytes,
                   uint32_t mtu) except -1
    cpdef raise_events(self, int events)
    cpdef notice_room(self)


cdef class PlainWire(DatagramWire):
    cdef readonly dict drops
    cdef readonly list ready
    cdef public int64_t now_ms
    cdef public bint alert
    cdef object dirty               # deque of PlainConv that have something to send
    cdef object timers
    cdef list fed                   # PlainConv with `is_fed`
    cdef int64_t nearest_ms         # round trip of those that were fed since the last question
    cdef int64_t joined_ms          # when the kernel had joined datagrams last

    cdef int begin_wire(self, uint32_t datagram_bytes) except -1
    cpdef mark(self, PlainConv conv)
    cpdef forget(self, PlainConv conv)
    cdef int count_drop(self, str reason) except -1
    cdef int turn(self, PlainConv conv) except -1
    # Put what a conversation may send now into `tx`, not sealed. False: something is left that is not in its
    # `kcp`.
    cdef bint fill(self, PlainConv conv) except -1
    # Seal the datagrams of `tx` from `first` on.
    cdef int seal(self, int first) except -1
    cdef int64_t held_until(self, PlainConv conv) except -2
    cdef inline int note_fed(self, PlainConv conv) except -1:
        """Segments were given to its `Kcp`: `settle` will tell what became of it."""
        if not conv.is_fed:
            conv.is_fed = True
            self.fed.append(conv)
        return 0
    cdef int settle(self) except -1
