# Part of _kcp.pyx: the class `Kcp`, which is what Python sees. Twin: the class of kcp.py. It stands apart
# from _kcp.pyx because a file has at most 500 lines.

cdef enum:
    FLUSH_DATAGRAMS = 64        # built at a time; flush() goes on while there is more

cdef Tx scratch                 # shared by all: a flush never gives up the interpreter lock


cdef Tx* scratch_tx(uint32_t limit, uint32_t slot_bytes) except NULL:
    """The shared Tx, large enough for FLUSH_DATAGRAMS of `limit` bytes, or of one oversize segment each."""
    cdef size_t cap = FLUSH_DATAGRAMS * <size_t>max(limit, KCP_HEADER_BYTES + slot_bytes)
    cdef void* grown
    if scratch.off == NULL:
        scratch.off = <uint32_t*>malloc(2 * FLUSH_DATAGRAMS * sizeof(uint32_t))
        if scratch.off == NULL:
            raise MemoryError
        scratch.len = scratch.off + FLUSH_DATAGRAMS
    if scratch.cap < cap:
        grown = realloc(scratch.buf, cap)
        if grown == NULL:
            raise MemoryError
        scratch.buf = <uint8_t*>grown
        scratch.cap = cap
    scratch.max_count = FLUSH_DATAGRAMS
    scratch.limit = limit
    scratch.count = 0
    scratch.used = 0
    scratch.is_open = False
    return &scratch


cdef class Kcp:
    """One KCP conversation; `kcpg.core.kcp.kcp.Kcp` documents the interface they share."""

    def __cinit__(self, *args, **kwargs):
        memset(&self.k, 0, sizeof(kcp_t))

    def __init__(self, conv, kcp_mtu, params, *, initial_sn=0):
        cdef Pool* pool
        if self.pool != NULL:
            raise RuntimeError("a conversation is set up once")
        if not KCP_HEADER_BYTES < kcp_mtu <= KCP_HEADER_BYTES + 0xFFFF:
            most = KCP_HEADER_BYTES + 0xFFFF
            raise ValueError(f"kcp_mtu {kcp_mtu} is not in {KCP_HEADER_BYTES + 1} .. {most}")
        pool = pool_new(<uint32_t>(kcp_mtu - KCP_HEADER_BYTES), 0)
        if pool == NULL:
            raise MemoryError
        self.owns_pool = True
        self.setup(pool, conv, kcp_mtu, params)
        kcp_start_at(&self.k, initial_sn)

    def __dealloc__(self):
        kcp_clear(&self.k)
        if self.owns_pool:
            pool_free(self.pool)

    cdef int setup(self, Pool* pool, uint32_t conv, uint32_t kcp_mtu, object params) except -1:
        cdef kcp_params_t plain
        plain.nodelay = params.nodelay
        plain.interval_ms = params.interval_ms
        plain.resend = params.resend
        plain.nc = params.nc
        plain.snd_wnd = params.snd_wnd
        plain.rcv_wnd = params.rcv_wnd
        plain.min_rto_ms = params.min_rto_ms
        self.pool = pool
        self.params = params
        if kcp_init(&self.k, pool, conv, kcp_mtu, &plain) < 0:
            raise ValueError(f"kcp_mtu {kcp_mtu} does not fit slots of {pool.slot_bytes} bytes")
        return 0

    # -- user side --

    def send(self, message):
        cdef Py_buffer view
        cdef int answer
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
        try:
            answer = kcp_send_message(&self.k, <const uint8_t*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        if answer == -1:
            raise ValueError(f"a message holds at most {KCP_MAX_FRAGMENTS * self.k.mss} bytes")
        if answer == -2 and self.k.pool != NULL:
            raise MemoryError

    def write(self, data):
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return kcp_write_bytes(&self.k, <const uint8_t*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def recv(self):
        cdef int size = kcp_peek_size(&self.k)
        cdef bytes message
        if size < 0:
            return None
        message = PyBytes_FromStringAndSize(NULL, size)
        kcp_recv_message(&self.k, <uint8_t*>PyBytes_AS_STRING(message), size)
        return message

    def read(self, limit):
        cdef size_t wanted = limit
        cdef size_t there = 0
        cdef uint32_t sn = self.k.rcv_read
        cdef bytes data
        while there < wanted and rcv_stream_at(&self.k, sn):
            there += self.k.rcv.len[sn & (self.k.rcv.cap - 1)] - rcv_taken(&self.k, sn)
            sn += 1
        there = min(there, wanted)
        if there == 0:
            return b""
        data = PyBytes_FromStringAndSize(NULL, there)
        kcp_read_bytes(&self.k, <uint8_t*>PyBytes_AS_STRING(data), there)
        return data

    def move_to(self, Kcp other not None, packets):
        cdef int64_t moved = 0
        cdef int size, answer
        if not packets:
            return kcp_move_stream(&self.k, &other.k)
        while True:
            size = kcp_peek_size(&self.k)
            answer = kcp_move_message(&self.k, &other.k)
            if answer == 0:
                return moved
            if answer > 0:
                moved += size

    def clear(self):
        kcp_clear(&self.k)

    def restart(self, conv):
        kcp_restart(&self.k, conv)

    @property
    def is_unheard(self):
        return self.k.snd_una == 0 and self.k.acked_bytes == 0 and self.k.segments_received == 0

    def expect_rtt(self, rtt_ms):
        kcp_expect_rtt(&self.k, rtt_ms)

    def hurry(self, now_ms):
        kcp_hurry(&self.k, now_ms)

    def set_windows(self, snd_wnd, rcv_wnd):
        kcp_set_windows(&self.k, snd_wnd, rcv_wnd)

    # -- wire side --

    def input(self, data, now_ms, rebuilt=False):
        cdef Py_buffer view
        cdef uint64_t now = now_ms
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return kcp_input(&self.k, <const uint8_t*>view.buf, view.len, now, rebuilt)
        finally:
            PyBuffer_Release(&view)

    def flush(self, now_ms, tokens=None):
        cdef Tx* tx = scratch_tx(self.k.mss + KCP_HEADER_BYTES, self.pool.slot_bytes)
        cdef uint64_t now = now_ms
        cdef int answer = KCP_MORE
        cdef int j
        cdef list datagrams = []
        tx.tokens = INT64_MAX if tokens is None else tokens
        while answer == KCP_MORE:
            answer = kcp_flush(&self.k, tx, now, 0x7FFFFFFF)
            tx_close(tx)
            for j in range(tx.count):
                datagrams.append(PyBytes_FromStringAndSize(<char*>tx.buf + tx.off[j], tx.len[j]))
            tx.count = 0
            tx.used = 0
        return datagrams

    @property
    def deadline(self):
        cdef int64_t at = kcp_deadline(&self.k)
        return None if at < 0 else at

    @property
    def wants_flush(self):
        return kcp_wants_flush(&self.k)

    @property
    def owes_ack(self):
        return kcp_owes_ack(&self.k)

    # -- settings --

    @property
    def conv(self):
        return self.k.conv

    @property
    def kcp_mtu(self):
        return self.k.mss + KCP_HEADER_BYTES

    @kcp_mtu.setter
    def kcp_mtu(self, value):
        if kcp_set_mtu(&self.k, value) < 0:
            raise ValueError(f"kcp_mtu {value} does not fit slots of {self.pool.slot_bytes} bytes")

    @property
    def unordered(self):
        return self.k.unordered

    @unordered.setter
    def unordered(self, value):
        if self.k.unordered and not value:
            raise ValueError("an unordered conversation stays unordered")
        if value:
            kcp_set_unordered(&self.k)

    @property
    def mark_first(self):
        return self.k.mark_first

    @mark_first.setter
    def mark_first(self, value):
        self.k.mark_first = value

    @property
    def ack_hold_ms(self):
        return self.k.ack_hold_ms

    @ack_hold_ms.setter
    def ack_hold_ms(self, value):
        self.k.ack_hold_ms = value

    @property
    def ack_maps(self):
        return self.k.ack_maps

    @ack_maps.setter
    def ack_maps(self, value):
        self.k.ack_maps = value

    # -- state --

    @property
    def room(self):
        return kcp_room(&self.k)

    @property
    def early(self):
        return self.k.early

    @early.setter
    def early(self, value):
        self.k.early = value

    @property
    def most_room(self):
        return kcp_most_room(&self.k)

    @property
    def readable(self):
        return kcp_readable(&self.k)

    @property
    def at_end(self):
        return kcp_at_end(&self.k)

    @property
    def unread(self):
        return kcp_unread(&self.k)

    @property
    def queued(self):
        return kcp_queued(&self.k)

    @property
    def in_flight(self):
        return kcp_in_flight(&self.k)

    @property
    def idle(self):
        return kcp_idle(&self.k)

    @property
    def payloads_held(self):
        cdef uint32_t i
        cdef size_t held = 0
        if self.owns_pool:
            return self.pool.live
        for i in range(self.k.snd.cap):
            held += self.k.snd.slot[i] != NULL
        for i in range(self.k.rcv.cap):
            held += self.k.rcv.slot[i] != NULL
        return held

    # -- facts --

    @property
    def latest_rtt_ms(self):
        return self.k.rack_rtt_ms

    @property
    def srtt_ms(self):
        return self.k.srtt_ms

    @property
    def rttvar_ms(self):
        return self.k.rttvar_ms

    @property
    def rto_ms(self):
        return self.k.rto_ms

    @property
    def snd_una(self):
        return self.k.snd_una

    @property
    def snd_nxt(self):
        return self.k.snd_nxt

    @property
    def rcv_nxt(self):
        return self.k.rcv_nxt

    @property
    def snd_wnd(self):
        return self.k.snd_wnd

    @property
    def rcv_wnd(self):
        return self.k.rcv_wnd

    @property
    def rmt_wnd(self):
        return self.k.rmt_wnd

    @property
    def cwnd(self):
        return self.k.cwnd

    @property
    def segments_sent(self):
        return self.k.segments_sent

    @property
    def segments_resent_fast(self):
        return self.k.segments_resent_fast

    @property
    def segments_resent_rto(self):
        return self.k.segments_resent_rto

    @property
    def segments_resent_tail(self):
        return self.k.segments_resent_tail

    @property
    def segments_missing(self):
        return kcp_missing(&self.k)

    @property
    def resends_spurious(self):
        return self.k.resends_spurious

    @property
    def acks_sent(self):
        return self.k.acks_sent

    @property
    def segments_received(self):
        return self.k.segments_received

    @property
    def duplicates_received(self):
        return self.k.duplicates_received

    @property
    def segments_refused(self):
        return self.k.segments_refused

    @property
    def bytes_sent(self):
        return self.k.bytes_sent

    @property
    def acked_bytes(self):
        return self.k.acked_bytes

    @property
    def bytes_received(self):
        return self.k.bytes_received
