# cython: language_level=3
"""C interface of the compiled KCP engine: slot pool, datagram vector (Tx) and one conversation (kcp_t).

Everything here is `noexcept nogil` and touches no Python object. One thread at a time per pool, Tx and kcp_t.
Times are monotonic milliseconds in 64 bits; on the wire and per segment they are kept modulo 2^32.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len


# --- wrapped and little-endian numbers ------------------------------------------------------------

cdef inline int32_t diff32(uint32_t a, uint32_t b) noexcept nogil:
    """`a - b` as a signed wrapped difference: negative when `a` comes before `b`."""
    return <int32_t>(a - b)


cdef inline uint16_t get16(const uint8_t* p) noexcept nogil:
    return <uint16_t>(p[0] | (<uint32_t>p[1] << 8))


cdef inline uint32_t get32(const uint8_t* p) noexcept nogil:
    return p[0] | (<uint32_t>p[1] << 8) | (<uint32_t>p[2] << 16) | (<uint32_t>p[3] << 24)


cdef inline void put16(uint8_t* p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>v
    p[1] = <uint8_t>(v >> 8)


cdef inline void put32(uint8_t* p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>v
    p[1] = <uint8_t>(v >> 8)
    p[2] = <uint8_t>(v >> 16)
    p[3] = <uint8_t>(v >> 24)


# --- pool: LIFO of fixed slots --------------------------------------------------------------------

cdef struct Pool:
    uint8_t** free          # total - live of them: beside the slots, which the cache does not hold by then
    void* chunks            # the next chunk is named by the first bytes of this one
    uint32_t slot_bytes
    size_t live             # slots handed out now
    size_t total            # slots that exist
    size_t max_slots        # no more than these are made; 0: no limit

cdef Pool* pool_new(uint32_t slot_bytes, size_t max_slots) noexcept nogil     # NULL: no memory
cdef void pool_free(Pool* pool) noexcept nogil                                # frees also slots still live
cdef bint pool_grow(Pool* pool) noexcept nogil                                # True: some are free


cdef inline uint8_t* slot_get(Pool* pool) noexcept nogil:
    """One slot of `slot_bytes`, or NULL at the limit or without memory (or when `pool` is NULL)."""
    if pool == NULL or (pool.live == pool.total and not pool_grow(pool)):
        return NULL
    pool.live += 1
    return pool.free[pool.total - pool.live]


cdef inline bint pool_spares(const Pool* pool, size_t spare) noexcept nogil:
    """One slot may be taken and `spare` are still free. A pool without limit always spares."""
    return pool.max_slots == 0 or pool.live + spare < pool.max_slots


cdef inline void slot_put(Pool* pool, uint8_t* slot) noexcept nogil:
    pool.free[pool.total - pool.live] = slot
    pool.live -= 1


# --- Tx: datagrams built back to back in one buffer -----------------------------------------------

cdef enum:
    PATH_ADDRESS_BYTES = 44     # sockaddr_in6 and the local IPv6 address (kcpg.net.addr)

cdef struct Path:
    uint16_t sock
    uint8_t addrlen
    uint8_t addr[PATH_ADDRESS_BYTES]

cdef struct Tx:
    uint8_t* buf
    size_t cap
    size_t used             # bytes of finished datagrams; the open one begins here
    uint32_t* off           # per finished datagram: where it begins (its head room) ...
    uint32_t* len           # ... its length, head and tail room included ...
    Path* path              # ... and where it goes (may be NULL: paths are not kept)
    int count
    int max_count
    uint32_t head_room      # bytes kept before and after the segments of each datagram for the dialect
    uint32_t tail_room
    uint32_t limit          # most segment bytes in one datagram
    Path cur_path           # path of the next datagram to be opened; call tx_close() before changing it
    size_t open_at
    uint32_t open_len       # segment bytes in the open datagram
    bint is_open
    bint has_long           # some datagram is longer than `limit`
    int64_t tokens          # bytes of push segments that may still be sent (pacer)
    uint8_t frame_type      # put into the last byte of the head room when a datagram is opened
    bint is_cold            # so much is queued by many that it has left the processor's caches: fetch ahead


cdef inline void tx_close(Tx* tx) noexcept nogil:
    """Finish the open datagram, if there is one."""
    if not tx.is_open:
        return
    tx.off[tx.count] = <uint32_t>tx.open_at
    tx.len[tx.count] = tx.head_room + tx.open_len + tx.tail_room
    if tx.path != NULL:
        tx.path[tx.count] = tx.cur_path
    tx.used = tx.open_at + tx.head_room + tx.open_len + tx.tail_room
    tx.count += 1
    tx.is_open = False


cdef inline uint8_t* tx_need(Tx* tx, uint32_t n) noexcept nogil:
    """Room for `n` more segment bytes, in the open datagram or a new one; NULL: `cap` or `max_count` is met.

    A piece longer than `limit` (a segment cut before the MTU shrank) travels alone, in a longer one
    """
    cdef uint8_t* at
    cdef uint32_t want
    if tx.is_open and tx.open_len + n > tx.limit:
        tx_close(tx)
    if not tx.is_open:
        want = tx.head_room + (n if n > tx.limit else tx.limit) + tx.tail_room
        if tx.count >= tx.max_count or tx.used + want > tx.cap:
            return NULL
        tx.is_open = True
        tx.has_long |= n > tx.limit
        tx.open_at = tx.used
        tx.open_len = 0
        if tx.head_room > 0:
            tx.buf[tx.open_at + tx.head_room - 1] = tx.frame_type
    at = tx.buf + tx.open_at + tx.head_room + tx.open_len
    tx.open_len += n
    return at


# --- one conversation -----------------------------------------------------------------------------

cdef enum:
    KCP_HEADER_BYTES = 24       # bytes of a segment's header
    KCP_QUEUE_SEGMENTS = 256    # segments that write() leaves waiting behind the window at most
    KCP_MAX_FRAGMENTS = 127     # fragments of one message at most (KCP keeps them in 7 bits)
    # Who may take how much of a limited pool. Were it filled by what waits to be sent, or by what waits for a
    # gap to close, nothing could arrive any more that frees it.
    KCP_SHARE = 32              # segments that each direction of a conversation may hold in any case
    KCP_SPARE_WRITER = 2        # beyond that: what is queued leaves max_slots >> 2 free ...
    KCP_SPARE_READER = 3        # ... and what arrives max_slots >> 3
    # kcp_flush() answers
    KCP_DONE = 0                # nothing more may be sent now
    KCP_MORE = 1                # Tx full or `max_segments` reached: call again
    KCP_PACED = 2               # Tx.tokens do not suffice for the next push
    # kcp_input() answers
    KCP_OK = 0
    KCP_SHORT = -1
    KCP_WRONG_CONV = -2
    KCP_UNKNOWN_CMD = -3

cdef struct kcp_params_t:
    int nodelay
    int interval_ms
    int resend
    bint nc
    uint32_t snd_wnd
    uint32_t rcv_wnd
    uint32_t min_rto_ms

cdef struct snd_ring_t:         # [snd_una, snd_nxt) in flight, [snd_nxt, snd_end) queued; index sn & mask
    uint32_t cap                # 0 (nothing allocated) or a power of two
    uint8_t** slot              # start of the one allocation for all arrays; NULL slot: empty payload
    uint32_t* ts                # last transmission
    uint32_t* first_ts          # first transmission
    uint16_t* rto               # after time-outs, backed off; 0: the conversation's
    uint16_t* len
    uint16_t* fastack
    uint8_t* frg
    uint8_t* flags

cdef struct rcv_ring_t:         # [rcv_read, rcv_end); index sn & mask
    uint32_t cap
    uint8_t** slot
    uint32_t* next              # unordered: first sn of the message that became ready after this one
    uint16_t* len
    uint8_t* frg
    uint8_t* flags

cdef struct ack_t:
    uint32_t sn
    uint32_t ts

cdef enum:
    MAP_FLUSHES = 4             # as kcp_ackmap.py

cdef struct kcp_t:
    Pool* pool                  # NULL: cleared
    uint32_t conv
    uint32_t mss
    # sender
    uint32_t snd_una
    uint32_t snd_nxt
    uint32_t snd_end
    uint32_t snd_wnd
    uint32_t rmt_wnd            # as the peer advertised it last
    uint32_t cwnd
    uint32_t ssthresh
    uint32_t incr               # bytes the congestion window stands for (nc = False)
    uint32_t fresh              # slots handed out by write_begin() and not committed, kept from snd_end on
    snd_ring_t snd
    # receiver
    uint32_t rcv_read           # first sn not yet delivered
    uint32_t rcv_nxt            # first sn missing
    uint32_t rcv_end            # 1 + highest sn received
    uint32_t rcv_wnd
    uint32_t rcv_offset         # bytes of the segment at rcv_read that read_commit() took already
    uint32_t rcv_held           # segments received and not delivered, gaps not counted
    uint32_t ready_head         # unordered: chain of complete messages
    uint32_t ready_tail
    uint32_t ready_count
    rcv_ring_t rcv
    # acknowledgements and probes due
    ack_t* acks                 # of segments beyond rcv_nxt: told once, told by a flush not complete, due
    uint32_t ack_told           # end of those of the first kind that may be told again
    uint32_t ack_fresh          # where the second begins
    uint32_t ack_done           # end of the second
    uint32_t ack_count          # end of all
    uint32_t ack_credit         # for telling again, in eighths of an acknowledgement
    uint32_t ack_cap
    uint32_t map_lowest[MAP_FLUSHES]    # see kcp_ackmap.py: what each of the last flushes acknowledged
    ack_t ack_below             # newest of those una covers
    int64_t ack_at              # when that one is told; -1: at once
    uint32_t told_wnd           # window in the last segment sent
    uint32_t probe_wait_ms
    int64_t probe_at            # -1: not probing
    int64_t tell_at             # -1: no window-tell to repeat
    # retransmission: see _kcp_recovery.pxi
    int64_t clock_ms            # the last time that input or flush was told
    int64_t sent_ms             # when a segment was sent for the first time last
    int64_t progress_ms         # when something was acknowledged last; -1: never
    int64_t hold_until          # a time-out noticed late waits for what may lie unread; -1: none
    int64_t rttvar_at           # when rttvar_ms may shrink again
    int64_t rack_at             # when an overtaken segment counts as lost; -1: none waits
    uint32_t rack_ts            # the latest transmission known to have arrived: when ...
    uint32_t rack_sn            # ... and which
    uint32_t rack_rtt_ms        # its round-trip time
    uint32_t rack_end           # no segment at or beyond it was overtaken
    uint32_t reorder_ms         # by how much segments were seen to be overtaken
    uint32_t timeout_ts         # of the time-out whose answer is awaited
    uint32_t undo_cwnd          # as they were before it
    uint32_t undo_ssthresh
    # parameters and measurements
    int nodelay
    int resend
    uint32_t interval_ms
    uint32_t min_rto_ms
    uint32_t ack_hold_ms        # see Kcp.ack_hold_ms
    uint32_t srtt_ms
    uint32_t rttvar_ms
    uint32_t srtt8              # both in eighths of a millisecond; 0: nothing measured
    uint32_t rttvar8
    uint32_t rto_ms
    bint nc
    bint ack_below_due
    bint ack_maps               # see Kcp.ack_maps
    uint8_t map_next            # the oldest of map_lowest
    bint ask                    # WASK due
    bint tell                   # WINS due
    bint fast_due               # a segment is to be resent
    bint unordered
    bint mark_first
    uint8_t rack_known
    uint8_t tail_probed         # since the last acknowledgement
    uint8_t overdue             # the time-out was noticed
    uint8_t timed_out           # nothing yet told whether the time-out was needed
    uint8_t lost                # this flush resent after a time-out ...
    uint8_t skipped             # ... or because overtaken (nc = False: answered when the flush is complete)
    uint8_t tells_left
    # counters
    uint64_t segments_sent      # first transmissions
    uint64_t segments_resent_fast
    uint64_t segments_resent_rto
    uint64_t segments_resent_tail
    uint64_t resends_spurious   # known to have been needless
    uint64_t acks_sent
    uint64_t segments_received  # pushes accepted
    uint64_t duplicates_received
    uint64_t segments_refused   # pushes outside the window or without memory for them
    uint64_t bytes_sent         # payload of first transmissions
    uint64_t acked_bytes        # segments that carry payload and are known to have arrived, headers included
    uint64_t bytes_received     # payload accepted

cdef int kcp_init(
    kcp_t* k, Pool* pool, uint32_t conv, uint32_t kcp_mtu, const kcp_params_t* params
) noexcept nogil
# 0, or -1: kcp_mtu is not in 25 .. 24 + pool.slot_bytes. Allocates nothing.
cdef void kcp_clear(kcp_t* k) noexcept nogil
# Gives back slots and rings; safe twice; nothing is sent or taken after it.
cdef void kcp_start_at(kcp_t* k, uint32_t sn) noexcept nogil
# First sn of both directions; before any use.
cdef int kcp_set_mtu(kcp_t* k, uint32_t kcp_mtu) noexcept nogil
# For segments cut from now on; answers as kcp_init().
cdef void kcp_set_windows(kcp_t* k, uint32_t snd_wnd, uint32_t rcv_wnd) noexcept nogil
cdef void kcp_set_unordered(kcp_t* k) noexcept nogil
cdef void kcp_hurry(kcp_t* k, uint64_t now_ms) noexcept nogil
# The peer is there again after a silence: undoes the back-off of retransmissions and window probes.

# wire side
# `rebuilt`: FEC gave the segments back, so their times and windows say nothing: see Kcp.input
cdef int kcp_input(kcp_t* k, const uint8_t* p, size_t n, uint64_t now_ms, bint rebuilt) noexcept nogil
cdef int kcp_flush(kcp_t* k, Tx* tx, uint64_t now_ms, int max_segments) noexcept nogil
# max_segments: pushes in this call at most; ACKs and probes always pass.
# Leaves the last datagram open for the next conversation.
cdef int64_t kcp_deadline(const kcp_t* k) noexcept nogil           # -1: none
cdef bint kcp_wants_flush(const kcp_t* k) noexcept nogil

# filling
cdef int kcp_write_begin(kcp_t* k, iovec* iov, int max_iov) noexcept nogil
# Free space of the last coalescable segment and fresh slots; number of iovecs (0: no room).
# A commit should follow, of 0 bytes too: it gives the unused slots back.
cdef void kcp_write_commit(kcp_t* k, size_t nbytes) noexcept nogil
cdef size_t kcp_write_bytes(kcp_t* k, const uint8_t* data, size_t n) noexcept nogil
cdef int kcp_send_message(kcp_t* k, const uint8_t* data, size_t n) noexcept nogil
# 0; -1 too many fragments; -2 no memory
cdef int kcp_send_vector(kcp_t* k, const iovec* iov, int iov_count) noexcept nogil
# One message; answers as kcp_send_message().

# draining
cdef int kcp_read_begin(kcp_t* k, iovec* iov, int max_iov) noexcept nogil
cdef void kcp_read_commit(kcp_t* k, size_t nbytes) noexcept nogil
cdef size_t kcp_read_bytes(kcp_t* k, uint8_t* out, size_t n) noexcept nogil
cdef int kcp_peek_size(const kcp_t* k) noexcept nogil              # bytes of the next message; -1: none
cdef int kcp_message_begin(kcp_t* k, iovec* iov) noexcept nogil
# iovecs (at most 128) of the next message; -1: none
cdef int kcp_recv_message(kcp_t* k, uint8_t* out, size_t n) noexcept nogil
# bytes delivered; -1: none; -2: longer than n (and kept). out NULL: discarded
cdef int64_t kcp_move_stream(kcp_t* src, kcp_t* dst) noexcept nogil
# Bytes moved until src was dry or dst had no room.
cdef int kcp_move_message(kcp_t* src, kcp_t* dst) noexcept nogil
# 1 moved; 0 nothing to move or dst without room; -1 too long for dst, discarded


cdef inline uint32_t kcp_queued(const kcp_t* k) noexcept nogil:
    return k.snd_end - k.snd_nxt


cdef inline uint32_t kcp_in_flight(const kcp_t* k) noexcept nogil:
    return k.snd_nxt - k.snd_una


cdef inline bint kcp_idle(const kcp_t* k) noexcept nogil:
    """All that was queued has arrived."""
    return k.snd_end == k.snd_una


cdef inline bint kcp_may_queue(const kcp_t* k) noexcept nogil:
    """The pool has slots for this sender."""
    if k.pool == NULL:
        return False
    if k.snd_end - k.snd_una + k.fresh < KCP_SHARE:
        return pool_spares(k.pool, 0)
    return pool_spares(k.pool, k.pool.max_slots >> KCP_SPARE_WRITER)


cdef inline int kcp_room(const kcp_t* k) noexcept nogil:
    """Segments that may be queued now."""
    cdef uint32_t queued = k.snd_end - k.snd_nxt
    if queued >= KCP_QUEUE_SEGMENTS or not kcp_may_queue(k):
        return 0
    return <int>(KCP_QUEUE_SEGMENTS - queued)


cdef inline uint32_t kcp_window(const kcp_t* k) noexcept nogil:
    """Segments that may be in flight."""
    cdef uint32_t window = k.snd_wnd if k.snd_wnd < k.rmt_wnd else k.rmt_wnd
    if not k.nc and k.cwnd < window:
        window = k.cwnd
    return window


cdef inline bint kcp_owes_ack(const kcp_t* k) noexcept nogil:
    """Something that arrived is not acknowledged yet."""
    return k.ack_below_due or k.ack_count > k.ack_done


cdef inline uint32_t kcp_unread(const kcp_t* k) noexcept nogil:
    """Segments that came and were not delivered; ordered: without those behind a gap."""
    return k.rcv_held if k.unordered else k.rcv_nxt - k.rcv_read


cdef inline bint kcp_readable(const kcp_t* k) noexcept nogil:
    """A complete message is there."""
    if k.unordered:
        return k.ready_count > 0
    return k.rcv_nxt != k.rcv_read and (
        k.rcv_nxt - k.rcv_read > <uint32_t>(k.rcv.frg[k.rcv_read & (k.rcv.cap - 1)] & 0x7F)
    )


cdef inline bint kcp_at_end(const kcp_t* k) noexcept nogil:
    """The next message is there and empty."""
    return kcp_peek_size(k) == 0


cdef class Kcp:
    """Memory face of one conversation. A subclass with its own pool calls `setup()` from its `__init__`."""
    cdef kcp_t k
    cdef Pool* pool
    cdef bint owns_pool
    cdef readonly object params

    cdef int setup(self, Pool* pool, uint32_t conv, uint32_t kcp_mtu, object params) except -1
