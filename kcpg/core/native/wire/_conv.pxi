"""One conversation of a link; see conv.py. Included by _wire.pyx."""


# no_gc_clear: __dealloc__ gives the slots back, so the pool must still be there when a cycle is collected.
@cython.no_gc_clear
cdef class Conv(Kcp):
    """A conversation registered with its link wire; see conv.py. Made by `LinkWire.open` only."""

    def __cinit__(self, *args, **kwargs):
        self.timer = -1
        self.packets_limit = DATAGRAM_QUEUE

    def __init__(self, LinkWire link_wire not None, uint32_t conv, params):
        self.segment_pool = link_wire.wire.segment_pool
        self.setup(self.segment_pool.slots, conv, link_wire.segment_bytes(False), params)
        self.k.ack_hold_ms = ACK_HOLD_MS
        self.k.ack_maps = True
        timers_reserve(&link_wire.wire.timers)
        self.join(link_wire, params)

    cdef int join(self, LinkWire link_wire, params) except -1:
        """Belong to this link wire: go by what it allows, and by what it knows of the path."""
        self.link_wire = link_wire
        kcp_count_for(&self.k, &link_wire.share)
        kcp_set_mtu(&self.k, link_wire.segment_bytes(False))
        kcp_set_windows(&self.k, params.snd_wnd, params.rcv_wnd)
        self.is_dirty = self.is_capped = self.is_long = False
        self.bulk_from = self.heeded_spurious = 0
        memset(&self.seen, 0, sizeof(self.seen))
        self.acked_empty = 0
        if max(link_wire.srtt_ms, link_wire.rtt_hint_ms) > 0:
            kcp_expect_rtt(&self.k, link_wire.srtt_ms if link_wire.srtt_ms > 0 else link_wire.rtt_hint_ms)
        self.snd_limit = self.k.snd_wnd
        self.rcv_limit = self.k.rcv_wnd
        if link_wire.flight is not None and self.k.rcv_wnd > WINDOW_START_SEGMENTS:
            kcp_set_windows(&self.k, self.k.snd_wnd, WINDOW_START_SEGMENTS)
        return 0

    def __dealloc__(self):
        if not self.closed and self.link_wire is not None and self.link_wire.wire is not None:
            self.leave_timers()
        kcp_clear(&self.k)

    def send(self, message):
        """Queue one KCP message (see Kcp.send)."""
        Kcp.send(self, message)
        self.changed()

    def write(self, data):
        """Queue stream bytes, as many as room allows; returns how many were taken."""
        cdef const uint8_t[::1] view = data
        cdef size_t taken = 0
        if view.shape[0] > 0:
            taken = kcp_write_bytes(&self.k, &view[0], <size_t>view.shape[0])
        self.changed()
        return taken

    def recv(self):
        """The next complete message, None if there is none."""
        message = Kcp.recv(self)
        self.changed()
        return message

    def read(self, limit):
        """At most `limit` stream bytes; b"" if none are there before the next empty message."""
        data = Kcp.read(self, limit)
        self.changed()
        return data

    def send_datagram(self, packet):
        """Queue `packet` to be sent once, unreliably. False: it fits no datagram, use `send`."""
        cdef bytes copy = bytes(packet)
        return self.put_datagram(<const uint8_t*>copy, len(copy))

    cdef bint put_datagram(self, const uint8_t* p, size_t n) except -1:
        """The same for C callers: n bytes at p."""
        if n < MIN_PACKET_BYTES or n + 4 > self.link_wire.data_room():
            return False
        if self.packets_out is None:
            self.packets_out = deque()
        if len(self.packets_out) >= DATAGRAM_QUEUE:
            self.link_wire.wire.count_drop("datagram_queue_full")
            return True
        self.packets_out.append(p[:n])
        self.link_wire.mark_dirty(self)
        return True

    def recv_datagram(self):
        """The next packet that came unreliably, None if there is none."""
        return self.packets_in.popleft() if self.packets_in else None

    def send_packets(self, list packets, bint datagram):
        """Queue each packet of a UDP flow for which there is room; how many."""
        cdef bytes packet
        cdef int taken = 0
        for packet in packets:
            taken += self.put_packet(<const uint8_t*>packet, len(packet), datagram)
        self.changed()
        return taken

    cdef bint put_packet(self, const uint8_t* p, size_t n, bint datagram) except -1:
        """Queue one packet of a UDP flow if there is room; the caller calls `changed`."""
        cdef size_t fragments
        # Before anything was acknowledged the peer may not have the conversation, and would drop it.
        if datagram and self.k.snd_una != 0 and self.put_datagram(p, n):
            return True
        fragments = (n + self.k.mss - 1) // self.k.mss if n > 0 else 1
        if fragments > KCP_MAX_FRAGMENTS or fragments > <size_t>kcp_room(&self.k):
            return False
        return kcp_send_message(&self.k, p, n) == 0

    def recv_packets(self, int limit):
        """At most `limit` packets of a UDP flow, those that came unreliably first."""
        cdef list found = []
        cdef bytes packet
        cdef int size
        while self.packets_in and len(found) < limit:
            found.append(self.packets_in.popleft())
        while len(found) < limit:
            size = kcp_peek_size(&self.k)
            if size < 0:
                break
            packet = PyBytes_FromStringAndSize(NULL, size)
            kcp_recv_message(&self.k, <uint8_t*>PyBytes_AS_STRING(packet), size)
            found.append(packet)
        self.changed()
        return found

    def move_to(self, Conv other not None, bint packets):
        """Move stream bytes (or whole messages, if `packets`) on into `other`; returns the bytes moved."""
        cdef int64_t moved = 0
        cdef int size = 0
        cdef int wanted, answer
        if packets:
            wanted = other.wake_segments()
            while kcp_room(&other.k) >= wanted:
                size = kcp_peek_size(&self.k)
                if size < 0:
                    break
                if size > PACKET_MAX_BYTES:
                    kcp_recv_message(&self.k, NULL, 0)
                else:
                    answer = kcp_move_message(&self.k, &other.k)
                    if answer == 0:
                        break       # the pool is short
                    if answer > 0:
                        moved += size
                        continue
                self.link_wire.wire.count_drop("packet_too_long")
            other.want_room |= size >= 0
        else:
            moved = kcp_move_stream(&self.k, &other.k)
        self.changed()
        other.changed()
        return moved

    def set_bypass(self, Bypass bypass):
        """Let what little comes go this way at once from now on; None: no more, as for one that is closed."""
        self.bypass = None if self.closed else bypass

    def bypass_to(self, Conv other not None, bint packets, bint datagrams):
        """Let what little comes go into `other` at once; see conv.py."""
        cdef HopBypass hop = HopBypass()
        hop.onward, hop.packets, hop.datagrams = other, packets, datagrams
        self.set_bypass(hop)

    cdef int take_packet(self, uint8_t* to) except -2:
        """The next packet of a UDP flow, those that came unreliably first: its bytes, at most
        PACKET_MAX_BYTES; -1: there is none that fits."""
        cdef bytes packet
        cdef int size
        if self.packets_in:
            packet = self.packets_in.popleft()
            memcpy(to, <const uint8_t*>packet, len(packet))
            return <int>len(packet)
        size = kcp_peek_size(&self.k)
        if size < 0 or size > PACKET_MAX_BYTES:
            return -1
        kcp_recv_message(&self.k, to, size)
        return size

    cdef int return_packet(self, const uint8_t* p, size_t n) except -1:
        """Nobody took the packet in hand: it is the next one again."""
        if self.packets_in is None:
            self.packets_in = deque()
        self.packets_in.appendleft(p[:n])
        return 0

    cdef bint is_served(self):
        """Whether all that made it readable is gone; then that is no event any more."""
        if self.closed or kcp_readable(&self.k) or self.packets_in:
            return False
        self.events = 0
        return True

    def take_events(self):
        """The events since the last call."""
        cdef int events = self.events
        self.events = 0
        return events

    @property
    def drained(self):
        """Nothing is owed: all that was queued has arrived, and what came is acknowledged."""
        return self.is_drained()

    cdef bint is_drained(self) noexcept:
        """Nothing is owed, in either direction."""
        return kcp_idle(&self.k) and not kcp_wants_flush(&self.k) and not kcp_owes_ack(&self.k)

    @property
    def ack_batch_ms(self):
        """How long the acknowledgements of full segments wait for each other."""
        return self.k.ack_batch_ms

    @ack_batch_ms.setter
    def ack_batch_ms(self, value):
        self.k.ack_batch_ms = value

    cdef void thin_acks(self) noexcept:
        """Set that by what has come and how far away the peer is."""
        if self.k.segments_received > ACK_BATCH_AFTER:
            self.k.ack_batch_ms = min(<uint32_t>self.link_wire.rtt() // ACK_BATCH_RTT, <uint32_t>ACK_BATCH_MS)

    cdef bint is_urgent(self) noexcept:
        """What it has to send does not wait for a quantum: the pacer does not hold it, or it was lost."""
        cdef kcp_t* k = &self.k
        if kcp_passes_pacer(k) or k.fast_due:
            return True
        return self.packets_out is not None and len(self.packets_out) > 0

    cdef bint is_lone(self) noexcept:
        """What it has to send is something for which somebody waits."""
        cdef uint32_t queued = kcp_queued(&self.k)
        if (self.packets_out is not None and len(self.packets_out) > 0) or (self.k.unordered and queued > 0):
            return True
        return 0 < queued <= SPARSE_SEGMENTS and kcp_in_flight(&self.k) <= LONE_SEGMENTS

    cdef int flush_packets(self, turn_t* turn, bint paced) except -1:
        """Put the unreliable packets into a turn, each in a datagram of its own."""
        cdef bytes packet
        cdef int left = TURN_SEGMENTS
        if not self.packets_out:
            return 0
        tx_close(turn.tx)
        while self.packets_out and left > 0 and (turn.tx.tokens > 0 or not paced):
            packet = self.packets_out[0]
            if not turn_packet(turn, self.k.conv, packet):
                break
            self.packets_out.popleft()
            if paced:
                turn.tx.tokens -= len(packet) + 4
            left -= 1
        return 0

    cdef int notice(self) except -1:
        """Say what the user waits for, if it is there: WRITABLE when there is room enough, or the end."""
        if self.want_room and kcp_room(&self.k) >= self.wake_segments():
            self.want_room = False
            self.raise_events(EV_WRITABLE)
        if self.want_drained and self.is_drained():
            self.want_drained = False
            self.link_wire.wire.events.drained(self)

    @property
    def wake_room(self):
        """Segments of room that end a wait: always enough for the largest packet that can travel."""
        return self.wake_segments()

    cdef int wake_segments(self) noexcept:
        """Segments of room that end a wait."""
        cdef int packet = <int>((PACKET_MAX_BYTES + self.k.mss - 1) // self.k.mss)
        if packet > KCP_MAX_FRAGMENTS:
            packet = KCP_MAX_FRAGMENTS
        packet = max(packet, <int>WRITABLE_ROOM_SEGMENTS)
        return max(min(packet, kcp_most_room(&self.k) // 2), 1)

    cdef int leave_timers(self) except -1:
        """Once, at the end: no deadline any more, and no room for one."""
        timer_remove(&self.link_wire.wire.timers, self)
        self.link_wire.wire.timers.convs -= 1

    cdef void fit(self) noexcept:
        """Cut segments as large as the frames they will travel in."""
        cdef bint is_long
        if kcp_queued(&self.k) <= BULK_SEGMENTS or self.bulk_from > self.k.segments_sent:
            self.bulk_from = self.k.segments_sent
        is_long = self.k.segments_sent - self.bulk_from > LONG_SEGMENTS
        if is_long != self.is_long:
            self.is_long = is_long
            kcp_set_mtu(&self.k, self.link_wire.segment_bytes(is_long))

    cdef void open_window(self) noexcept:
        """Grow the window by what the reader has taken so far; one that never reads holds little."""
        cdef uint64_t wanted
        if self.k.rcv_wnd >= self.rcv_limit or self.k.segments_received <= WINDOW_START_SEGMENTS // 2:
            return
        wanted = WINDOW_START_SEGMENTS // 2 + self.k.segments_received - kcp_unread(&self.k)
        if wanted > self.rcv_limit:
            wanted = self.rcv_limit
        if wanted > self.k.rcv_wnd:
            kcp_set_windows(&self.k, self.k.snd_wnd, <uint32_t>wanted)

    cdef int changed(self) except -1:
        """The user did something: note if it must wait for room, and let the link know."""
        if kcp_room(&self.k) == 0:
            self.want_room = True
            if kcp_queued(&self.k) < KCP_QUEUE_SEGMENTS:
                self.link_wire.wire.starved[self] = None    # it waits for what others hold
        self.link_wire.conv_changed(self)

    cdef int raise_events(self, int events) except -1:
        """Tell the user something, by an event of the wire."""
        if self.events == 0:
            self.link_wire.wire.events.ready(self)
        self.events |= events
