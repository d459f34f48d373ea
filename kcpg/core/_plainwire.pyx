# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What the compiled wires of foreign dialects have in common: conversations in turns, with pacers and timers.

The readable twin is plainwire.py. Python objects are made per batch, per turn of a conversation and per one
that something came for, not per datagram.
"""
cimport cython
from collections import deque
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from kcpg.core._datagramwire cimport DatagramWire, to_path
from kcpg.core.kcp._kcp cimport (
    KCP_HEADER_BYTES, Kcp, Path, kcp_deadline, kcp_readable, kcp_room, kcp_wants_flush,
)

from kcpg.core.timers import Timers

cdef extern from *:
    void __builtin_prefetch(const void* address, int for_write, int locality) nogil

__all__ = ["PlainConv", "PlainWire", "ReplayCache"]

include "_replaycache.pxi"


cdef class PlainConv:
    """A KCP conversation of a wire; see `kcpg.core.plainwire.PlainConv`."""

    cdef int begin(self, PlainWire wire, uint32_t number, object params, object user, uint32_t most_bytes,
                   uint32_t mtu) except -1:
        """What a plain one is given."""
        self.wire = wire
        self.number = number
        self.user = user
        self.kcp = Kcp(number, most_bytes, params)
        self.kcp.kcp_mtu = mtu
        self.pacers = ()
        self.heard_ms = wire.now_ms
        return 0

    cpdef raise_events(self, int events):
        """Tell the user, through `take_ready`."""
        if self.events == 0:
            self.wire.ready.append(self)
        self.events |= events

    cpdef notice_room(self):
        """Raise WRITABLE if somebody waits for room and there is enough."""
        if self.want_room and kcp_room(&self.kcp.k) >= WAKE_SEGMENTS:
            self.want_room = False
            self.raise_events(EV_WRITABLE)

    def close(self):
        """Forget everything."""
        self.closed = True
        self.user = None
        self.kcp.clear()
        self.wire.forget(self)


cdef class PlainWire(DatagramWire):
    """A wire of such conversations."""

    cdef int begin_wire(self, uint32_t datagram_bytes) except -1:
        """`datagram_bytes`: of the longest."""
        self.drops = {}
        self.ready = []
        self.fed = []
        self.dirty = deque()
        self.timers = Timers()
        self.nearest_ms = INT64_MAX
        self.joined_ms = -JOINED_MS
        return self.tx_allocate(BUILD_DATAGRAMS, BUILD_DATAGRAMS * <size_t>datagram_bytes)

    def drop(self, str reason, count=1):
        """Count a discarded datagram or message under its name."""
        self.drops[reason] = self.drops.get(reason, 0) + count

    cdef int count_drop(self, str reason) except -1:
        """Count one."""
        self.drops[reason] = self.drops.get(reason, 0) + 1
        return 0

    # Out.

    cpdef mark(self, PlainConv conv):
        """It has something to send."""
        if not conv.closed and not conv.is_dirty:
            conv.is_dirty = True
            self.dirty.append(conv)

    cpdef forget(self, PlainConv conv):
        """It is closed."""
        self.timers.forget(conv)        # `build` passes over it

    @property
    def backlog(self):
        """More could leave at once."""
        return self.tx.count > self.tx_cursor or len(self.dirty) > 0

    cdef int64_t due(self) except -2:
        """When build() must be called again though nothing else happens; INT64_MAX: never."""
        if self.dirty:
            return self.now_ms
        first = self.timers.first()
        return INT64_MAX if first is None else <int64_t>first

    cdef int build(self, uint64_t now_ms) except -1:
        """Fill the vector with one batch of what may leave now; how many datagrams wait there."""
        cdef PlainConv conv
        cdef list idle = None
        cdef int before
        self.now_ms = <int64_t>now_ms
        if self.tx.count > self.tx_cursor:
            return self.tx.count - self.tx_cursor
        self.tx_done()
        for conv in self.timers.take_due(now_ms):
            self.mark(conv)
        while self.dirty and self.tx.count < self.tx.max_count:
            conv = self.dirty.popleft()
            conv.is_dirty = False
            if conv.closed:
                continue
            before = self.tx.count
            self.turn(conv)
            if conv.is_dirty and self.tx.count == before:   # its own turn put it at the end of the line
                self.dirty.pop()
                idle = idle or []
                idle.append(conv)
        if idle is not None:
            self.dirty.extend(idle)
        if self.tx.count > 0:
            self.seal(0)
        return self.tx.count

    cdef int turn(self, PlainConv conv) except -1:
        """Let a conversation send."""
        cdef int64_t tokens = TURN_BYTES, due, held
        cdef int before = self.tx.count
        cdef size_t used = self.tx.used
        cdef bint all_of_it
        for pacer in conv.pacers:
            left = pacer.tokens(self.now_ms)
            if left is not None:
                tokens = min(tokens, <int64_t>left)
        self.tx.tokens = max(tokens, <int64_t>0)
        all_of_it = self.fill(conv)
        conv.tx_bytes += self.tx.used - used
        conv.tx_datagrams += self.tx.count - before
        for pacer in conv.pacers:
            pacer.spend(self.tx.used - used)
        conv.notice_room()
        due = kcp_deadline(&conv.kcp.k)
        if kcp_wants_flush(&conv.kcp.k) or not all_of_it:
            held = self.held_until(conv) if all_of_it else -1
            if held <= self.now_ms:
                self.mark(conv)
            else:
                due = held if due < 0 else min(due, held)
        if due >= 0:
            self.timers.wake_by(conv, due)
        return 0

    cdef bint fill(self, PlainConv conv) except -1:
        """Put what it may send now into `tx`, not sealed."""
        raise NotImplementedError

    cdef int seal(self, int first) except -1:
        """Seal the datagrams from `first` on."""
        raise NotImplementedError

    cdef int64_t held_until(self, PlainConv conv) except -2:
        """When the pacers let it send; -1: now."""
        cdef int64_t held = -1
        for pacer in conv.pacers:
            at_ms = pacer.ready_at(conv.kcp.k.mss + KCP_HEADER_BYTES)
            if at_ms is not None and <int64_t>at_ms > held:
                held = at_ms
        return held

    # In.

    def receive(self, int sock, bytes addr, datagram, uint64_t now_ms):
        """Take in one datagram. Never raises for its contents: what is wrong is counted in `drops`."""
        cdef Path source
        cdef bytearray copy = bytearray(datagram)
        to_path(&source, sock, addr)
        self.receive_run(&source, <uint8_t*>copy, len(copy), <uint32_t>len(copy), now_ms)
        self.settle()

    cdef int run_bypasses(self) except -1:
        """A batch has been received: see what became of the conversations."""
        return self.settle()

    cdef int settle(self) except -1:
        """Tell what became of those that were fed."""
        cdef PlainConv conv
        cdef int64_t due
        if not self.fed:
            return 0
        for conv in self.fed:
            conv.is_fed = False
            if conv.closed:
                continue
            self.nearest_ms = min(self.nearest_ms, <int64_t>conv.kcp.k.srtt_ms)
            if kcp_readable(&conv.kcp.k):
                conv.raise_events(EV_READABLE)
            conv.notice_room()
            if kcp_wants_flush(&conv.kcp.k):
                self.mark(conv)
            due = kcp_deadline(&conv.kcp.k)
            if due >= 0:
                self.timers.wake_by(conv, due)
        self.fed.clear()
        return 0

    cpdef int coalesce_ms(self, int64_t now_ms) noexcept:
        """How long the datagrams that come next may be left in the socket, to be taken together.

        A kcptun sends each by itself, and would wake this node for each. It lets acknowledgements wait for
        10 ms and more itself, so nobody notices one millisecond where an eighth of the round trip is less.
        """
        cdef int64_t wait_ms
        if now_ms - self.joined_ms < JOINED_MS or self.nearest_ms == INT64_MAX:
            return 0
        wait_ms = max(min(self.nearest_ms // COALESCE_RTT, <int64_t>COALESCE_MS), <int64_t>1)
        self.nearest_ms = INT64_MAX
        return <int>wait_ms

    def take_ready(self):
        """The conversations with events, each once, and their events."""
        cdef PlainConv conv
        cdef list found = []
        ready, self.ready = self.ready, []
        for conv in ready:
            if not conv.closed:
                found.append((conv, conv.events))
            conv.events = 0
        return found

    @property
    def news(self):
        """Something came that the leg has to act on now."""
        return self.has_news()

    cdef bint has_news(self):
        return self.alert or len(self.ready) > 0
