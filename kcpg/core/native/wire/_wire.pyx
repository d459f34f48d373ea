# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The data plane of a native tunnel leg, compiled. Its readable twin is wire.py, and so for each part.

One call takes a vector of datagrams in (`receive_run`) or builds one (`build`). Per datagram there is no
Python object, no allocation and no call into Python; those happen per batch, per conversation that became
ready, and for control frames.
"""
from collections import deque

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from kcpg.core._datagramwire cimport DatagramWire, from_path, to_path
from kcpg.core.fec._fec cimport (
    FEC_GROUPS, FEC_HEADER_BYTES, FEC_PREFIX_BYTES, fec_body, fec_losses_scan, fec_losses_t, fec_rx_data,
    fec_rx_forget, fec_rx_init, fec_rx_parity, fec_shard_t, fec_tx_clear, fec_tx_data, fec_tx_deadline,
    fec_tx_expire, fec_tx_init, fec_tx_parity, fec_tx_parity_bytes, fec_tx_use,
)
from kcpg.core.kcp._kcp cimport (
    KCP_DONE, KCP_HEADER_BYTES, KCP_MAX_FRAGMENTS, KCP_PACED, KCP_QUEUE_SEGMENTS,
    Kcp, Path, Tx, get32, kcp_clear, kcp_count_for, kcp_deadline, kcp_expect_rtt, kcp_flush, kcp_hurry,
    kcp_idle, kcp_in_flight, kcp_input, kcp_most_room, kcp_move_message, kcp_move_stream, kcp_owes_ack,
    kcp_passes_pacer, kcp_peek_size, kcp_queued, kcp_readable, kcp_recv_message, kcp_restart, kcp_room,
    kcp_missing, kcp_send_message, kcp_set_mtu, kcp_set_windows, kcp_t, kcp_unread, kcp_wants_flush,
    kcp_write_bytes,
    pool_free, pool_has_spare, pool_new, put32, tx_close, tx_need,
)
from kcpg.core.seal._seal cimport (
    HeaderMask, Sealer, mask_batch, replay_check, replay_commit, replay_expand, replay_init, sealer_open,
    sealer_seal,
)

__all__ = ["READABLE", "UNKNOWN_CONV", "WRITABLE", "LinkWire", "Bypass", "Conv", "Wire"]

READABLE = 1
WRITABLE = 2
UNKNOWN_CONV = -1

include "_headers.pxi"
include "_frames.pxi"
include "_counters.pxi"
include "_pool.pxi"
include "_timers.pxi"
include "_pacer.pxi"
include "_rxepoch.pxi"
include "_pathcredit.pxi"
include "_txepoch.pxi"
include "_linkfec.pxi"
include "_turn.pxi"
include "_flight.pxi"
include "_conv.pxi"
include "_events.pxi"
include "_bypass.pxi"
include "_linkwire.pxi"
include "_pieces.pxi"


cdef class Wire(DatagramWire):
    """The data plane of one native tunnel leg."""

    def __cinit__(self, *, mask_rx, mask_tx, max_datagram, pool_bytes=256 << 20):
        cdef uint32_t slot_bytes = (<uint32_t>max_datagram + 63) & ~63u     # of a shard
        # Enough for the largest datagram there is, too.
        self.tx_allocate(BUILD_DATAGRAMS, BUILD_DATAGRAMS * SLOT_BYTES)
        self.segment_pool = SegmentPool(SLOT_BYTES, pool_bytes // SLOT_BYTES)
        self.fec_pool = SegmentPool(slot_bytes, pool_bytes // slot_bytes >> FEC_POOL_SHARE)

    def __dealloc__(self):
        free(self.timers.heap)

    def __init__(self, *, bytes mask_rx, bytes mask_tx, uint32_t max_datagram, size_t pool_bytes=256 << 20):
        self.max_datagram = max_datagram
        self.drops = {}
        self.epochs = {}
        self.outbox = deque()
        self.active = deque()
        self.events = Events()
        self.starved = {}
        self.lone_ms = -LONE_MS
        self.paced_ms = -BULK_MS
        self.due_ms = self.look_ms = INT64_MAX - LATE_MS
        self.nearest_ms = INT64_MAX
        self.mask_rx = HeaderMask(mask_rx)
        self.mask_tx = HeaderMask(mask_tx)

    def link_wire(self, user):
        """The data plane of a new link; it can send once it has a key and a path."""
        return LinkWire(self, user)

    def drop(self, str reason, count=1):
        """Count a discarded datagram or frame under its name."""
        self.drops[reason] = self.drops.get(reason, 0) + count

    @property
    def held_slots(self):
        """Segment slots in use by all conversations."""
        return self.segment_pool.slots.live

    @property
    def is_short(self):
        """Three quarters of the memory of segments are in use."""
        return not pool_has_spare(self.segment_pool.slots)

    def memory(self):
        """The memory of segments; see wire.py."""
        cdef Pool* pool = self.segment_pool.slots
        return {
            "limit_bytes": pool.max_slots * pool.slot_bytes,
            "used_bytes": pool.live * pool.slot_bytes + pool.rings,
            "refused": pool.refused,
        }

    # Out.

    def post(self, int sock, bytes addr, bytes datagram):
        """Let a datagram that is complete (a handshake's) leave with the next transmit."""
        self.outbox.append((sock, addr, datagram))

    def mask(self, bytes header, bytes body):
        """The datagram of this clear header and sealed body as it goes over the wire."""
        cdef bytearray out = bytearray(header + body)
        cdef uint8_t block[16]
        assert len(body) >= 16
        memcpy(block, <const uint8_t*>body + (len(body) - 16), 16)
        if mask_batch(&self.mask_tx.c, block, block, 1) != 0:
            raise RuntimeError("the cipher library refused to mask a header")
        xor8(<uint8_t*>out, block)
        return bytes(out)

    @property
    def backlog(self):
        """More could leave at once."""
        cdef LinkWire link_wire
        if self.outbox or self.tx.count > self.tx_cursor:
            return True
        for link_wire in self.active:
            if link_wire.can_send() and link_wire.held_until() <= <int64_t>self.now_ms:
                return True
        return False

    cdef int64_t due(self) except -2:
        """When build() must be called again though nothing else happens; INT64_MAX: never."""
        cdef int64_t due = INT64_MAX, until
        cdef LinkWire link_wire
        if self.outbox:
            return self.now_ms
        for link_wire in self.active if self.active else ():    # mostly none, after each request
            if link_wire.can_send():
                until = link_wire.held_until()
                until = <int64_t>self.now_ms if until < 0 else until
                due = until if until < due else due
        if self.timers.count > 0 and self.timers.heap[0].due_ms < due:
            due = self.timers.heap[0].due_ms
        self.due_ms = min(due, <int64_t>INT64_MAX - LATE_MS)
        return due

    cdef int wake(self, LinkWire link_wire) except -1:
        """This link has something to send: give it a turn."""
        if not link_wire.is_active and link_wire.can_send():
            link_wire.is_active = True
            self.active.append(link_wire)

    cdef int ripen(self, uint64_t now_ms) except -1:
        """Give a turn to every conversation whose deadline has come."""
        cdef Conv conv
        while self.timers.count > 0 and self.timers.heap[0].due_ms <= <int64_t>now_ms:
            conv = <Conv>self.timers.heap[0].conv
            timer_remove(&self.timers, conv)
            conv.link_wire.urgent = True
            conv.link_wire.mark_dirty(conv)
        return 0

    cdef int build_outbox(self) except -1:
        """Put posted datagrams and control frames, which are sealed already, in front."""
        cdef bytes datagram
        cdef Tx* tx = &self.tx
        cdef uint32_t size
        while self.outbox and tx.count < tx.max_count:
            sock, addr, datagram = self.outbox[0]
            size = <uint32_t>len(datagram)
            if tx.used + size > tx.cap:
                break
            self.outbox.popleft()
            to_path(&tx.path[tx.count], sock, addr)
            memcpy(tx.buf + tx.used, <const uint8_t*>datagram, size)
            tx.off[tx.count] = <uint32_t>tx.used
            tx.len[tx.count] = size
            tx.used += size
            tx.count += 1
        return 0

    cdef int build(self, uint64_t now_ms) except -1:
        """Fill the vector with one batch of what may leave now; how many datagrams wait there."""
        cdef LinkWire link_wire
        cdef list held = None
        cdef int made
        self.now_ms = now_ms
        if <int64_t>now_ms > self.due_ms + LATE_MS:
            self.lone_ms = <int64_t>now_ms
        self.due_ms = INT64_MAX - LATE_MS
        if self.tx.count > self.tx_cursor:
            return self.tx.count - self.tx_cursor
        self.tx_done()
        self.ripen(now_ms)
        self.build_outbox()
        while self.active and self.tx.count < self.tx.max_count:
            link_wire = self.active.popleft()      # `is_active` stays set: its own turn must not append it
            made = link_wire.turn(&self.tx, now_ms, min(TURN_DATAGRAMS, self.tx.max_count - self.tx.count))
            if not link_wire.can_send():
                link_wire.is_active = False
            elif made > 0 and link_wire.held_until() <= <int64_t>now_ms:
                self.active.append(link_wire)
            else:
                held = held or []
                held.append(link_wire)
        if held:
            self.active.extend(held)
        if self.tx.count == 0:
            self.build_outbox()                 # where everything that had a turn went in pieces
        return self.tx.count

    cdef int run_bypasses(self) except -1:
        """Let each conversation's bypass take what little came; what is left stays an event."""
        return self.events.bypass()

    # In.

    def receive(self, int sock, bytes addr, datagram, uint64_t now_ms):
        """Take in one datagram. Never raises for its contents: what is wrong is counted in `drops`."""
        cdef Path source
        cdef bytearray copy = bytearray(datagram)
        to_path(&source, sock, addr)
        self.receive_run(&source, <uint8_t*>copy, len(copy), <uint32_t>len(copy), now_ms)

    def take_events(self):
        """What happened since the last call, in order: tuples of events.py."""
        if self.starved:
            self.feed()
        return self.events.take()

    @property
    def has_events(self):
        """There are some, urgent or not."""
        return len(self.events.waiting) > 0

    cdef int feed(self) except -1:
        """Tell those that waited for segments of the pool, longest first, that there are some again."""
        cdef Conv conv
        for conv in list(self.starved):
            if conv.closed or not conv.want_room:
                del self.starved[conv]
            elif kcp_room(&conv.k) >= conv.wake_segments():
                del self.starved[conv]
                conv.want_room = False
                conv.raise_events(EV_WRITABLE)

    @property
    def news(self):
        """There are events that links or flows have to act on now."""
        return self.has_news()

    cdef bint has_news(self):
        """Somebody has to act on an event now; whoever waits for segments of the pool is told first."""
        if self.starved:
            self.feed()
        return self.events.urgent > 0

    cdef bint is_alone(self, int64_t now_ms) noexcept:
        """Somebody may wait for single datagrams: something short came or left a moment ago."""
        return now_ms - self.lone_ms < LONE_MS

    cpdef int coalesce_ms(self, int64_t now_ms) noexcept:
        """How long the datagrams that come next may be left in the socket, to be taken together."""
        if self.nearest_ms < INT64_MAX:
            self._coalesce_ms = min(self.nearest_ms // COALESCE_RTT, <int64_t>COALESCE_MS)
            self.nearest_ms = INT64_MAX
        if now_ms > self.look_ms + LATE_MS:
            self.lone_ms = now_ms
        self.look_ms = INT64_MAX - LATE_MS
        if self.is_alone(now_ms) or now_ms - self.paced_ms < BULK_MS or self._coalesce_ms == 0:
            return 0
        self.look_ms = now_ms + self._coalesce_ms
        return <int>self._coalesce_ms

    cdef int count_drop(self, str reason) except -1:
        """Count one discarded datagram or frame under its name."""
        self.drops[reason] = self.drops.get(reason, 0) + 1

    cdef int receive_run(
            self, const Path* source, uint8_t* buf, size_t n, uint32_t size, uint64_t now_ms) except -1:
        """Take in n bytes of datagrams of `size` bytes each: unmask a batch in one call, then open each."""
        cdef uint8_t blocks[16 * BATCH]
        cdef uint8_t* at[BATCH]
        cdef uint32_t length[BATCH]
        cdef size_t offset = 0
        cdef uint32_t piece
        cdef int count, i
        self.now_ms = now_ms
        self.rx_path = source[0]
        if n < MIN_DATAGRAM_BYTES or size < MIN_DATAGRAM_BYTES:
            self.drop("short", (n + size - 1) // size if n > 0 and size > 0 else 1)
            return 0
        while offset < n:
            count = 0
            while count < BATCH and offset < n:
                piece = size if n - offset >= size else <uint32_t>(n - offset)
                if MIN_DATAGRAM_BYTES <= piece <= self.max_datagram:
                    at[count] = buf + offset
                    length[count] = piece
                    memcpy(blocks + 16 * count, buf + offset + piece - 16, 16)
                    count += 1
                else:
                    self.count_drop("short" if piece < MIN_DATAGRAM_BYTES else "long")
                offset += piece
            if mask_batch(&self.mask_rx.c, blocks, blocks, count) != 0:
                self.count_drop("mask_refused")
                continue
            for i in range(count):
                xor8(at[i], blocks + 16 * i)
                self.datagram(at[i], length[i], now_ms)
        return 0

    cdef int datagram(self, uint8_t* p, uint32_t n, uint64_t now_ms) except -1:
        """One datagram with a clear header: find its epoch, open it, hand it to what its type says."""
        cdef uint32_t cid = get32be(p)
        cdef RxEpoch epoch = self.last_epoch
        cdef LinkWire link_wire
        cdef uint64_t pn
        cdef int frame_type
        cdef bint probes
        if epoch is None or epoch.cid != cid:
            epoch = self.epochs.get(cid)
            if epoch is None:
                if not self.events.stranger(&self.rx_path, p, n):
                    self.count_drop("strangers_overflow")
                return 0
            self.last_epoch = epoch
        pn = replay_expand(&epoch.replay, get32be(p + 4))
        if not replay_check(&epoch.replay, pn):
            self.count_drop("replay")
            return 0
        if sealer_open(&epoch.sealer.c, pn, p, HEADER_BYTES, p + HEADER_BYTES, n - HEADER_BYTES) != 0:
            self.count_drop("auth")
            return 0
        replay_commit(&epoch.replay, pn)
        link_wire = epoch.owner
        frame_type = p[HEADER_BYTES]
        probes = frame_type == T_PATH_CHALLENGE or frame_type == T_PATH_RESPONSE
        self.nearest_ms = min(self.nearest_ms, <int64_t>link_wire.rtt())
        if link_wire.note_received(epoch, pn, &self.rx_path, n, probes, now_ms):
            self.events.moved(link_wire)
        p += HEADER_BYTES + TYPE_BYTES
        n -= OVERHEAD_BYTES
        if frame_type == T_KCP:
            return self.segments(link_wire, p, n, False, now_ms)
        if frame_type == T_DATAGRAM:
            return self.unreliable(link_wire, p, n)
        if frame_type == T_FEC_DATA or frame_type == T_FEC_PARITY:
            return self.shard(link_wire, frame_type, p, n, now_ms)
        if frame_type == T_PIECE:
            return take_piece(self, link_wire, p[:n], now_ms)
        if frame_type in CONTROL_TYPES:
            return self.frame(link_wire, frame_type, p[:n])
        if frame_type != T_PAD:
            self.count_drop("frame_unknown")
        return 0

    cdef int shard(
            self, LinkWire link_wire, int frame_type, const uint8_t* p, uint32_t n, uint64_t now_ms
    ) except -1:
        """A shard, and the frames that come of it."""
        cdef LinkFec fec = link_wire.link_fec()
        cdef uint64_t malformed = fec.rx.malformed
        cdef fec_shard_t* shard
        if fec.receive(frame_type, p, n):
            self.unwrap(link_wire, p + FEC_HEADER_BYTES, n - FEC_HEADER_BYTES, False, now_ms)
        shard = fec.rx.rebuilt      # stays until `fec` receives again, which nothing below does
        while shard != NULL:
            self.unwrap(link_wire, fec_body(shard) + FEC_PREFIX_BYTES, shard.len, True, now_ms)
            shard = shard.next
        if fec.rx.malformed != malformed:
            self.drop("fec_malformed", fec.rx.malformed - malformed)
        return 0

    cdef int unwrap(
            self, LinkWire link_wire, const uint8_t* p, uint32_t n, bint rebuilt, uint64_t now_ms) except -1:
        """A frame that came as a shard, or in pieces."""
        if n > 0 and p[0] == T_KCP:
            return self.segments(link_wire, p + TYPE_BYTES, n - TYPE_BYTES, rebuilt, now_ms)
        if n > 0 and p[0] == T_DATAGRAM:
            return self.unreliable(link_wire, p + TYPE_BYTES, n - TYPE_BYTES)
        self.count_drop("frame_malformed")
        return 0

    cdef int segments(
            self, LinkWire link_wire, const uint8_t* p, uint32_t n, bint rebuilt, uint64_t now_ms) except -1:
        """Cut a KCP frame into runs of one conversation each and feed them; nothing after a broken one."""
        cdef uint32_t at = 0, start, number, length
        cdef bint pushes, asks, short
        cdef Conv conv
        while at < n:
            start = at
            pushes = asks = short = False
            number = get32(p + at) if n - at >= KCP_HEADER_BYTES else 0
            while n - at >= KCP_HEADER_BYTES and get32(p + at) == number:
                length = get32(p + at + 20)
                if length > n - at - KCP_HEADER_BYTES:
                    self.count_drop("kcp_malformed")
                    return 0
                pushes |= p[at + 4] == CMD_PUSH
                short |= p[at + 4] == CMD_PUSH and 0 < length < SHORT_BYTES
                asks |= p[at + 4] == CMD_ASK
                at += KCP_HEADER_BYTES + length
            if at == start:
                self.count_drop("kcp_malformed")
                return 0
            conv = link_wire.last_conv
            if conv is None or conv.k.conv != number:
                conv = link_wire.convs.get(number)
                if conv is None and pushes and link_wire.accept is not None:
                    conv = link_wire.accept(number)
                if conv is None:
                    self.count_drop("conv_unknown")
                    if pushes or asks:
                        self.frame(link_wire, UNKNOWN_CONV, p[start:start + 4])
                    continue
                link_wire.last_conv = conv
            if short or (pushes and conv.k.unordered):
                self.lone_ms = <int64_t>now_ms
            if kcp_input(&conv.k, p + start, at - start, now_ms, rebuilt) < 0:
                self.count_drop("kcp_malformed")
            if kcp_readable(&conv.k):
                conv.raise_events(EV_READABLE)
            link_wire.conv_changed(conv)
        return 0

    cdef int unreliable(self, LinkWire link_wire, const uint8_t* p, uint32_t n) except -1:
        """A user's packet for one conversation."""
        cdef Conv conv = link_wire.convs.get(get32(p)) if n >= 4 else None
        if conv is None:
            self.count_drop("conv_unknown" if n >= 4 else "frame_malformed")
            return 0
        self.lone_ms = <int64_t>self.now_ms
        if (0 if conv.packets_in is None else len(conv.packets_in)) >= conv.packets_limit:
            self.count_drop("datagram_queue_full")
            return 0
        if conv.packets_in is None:
            conv.packets_in = deque()
        conv.packets_in.append(p[4:n])
        conv.raise_events(EV_READABLE)
        return 0

    cdef int frame(self, LinkWire link_wire, int frame_type, bytes payload) except -1:
        """Keep a control frame for the link."""
        if not self.events.frame(link_wire, frame_type, payload, &self.rx_path):
            self.count_drop("frames_overflow")
        return 0
