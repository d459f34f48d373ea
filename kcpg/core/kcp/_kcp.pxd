# cython: language_level=3
"""C interface of the compiled KCP engine: slot pool, datagram vector (Tx) and one conversation (kcp_t).

Everything here is `noexcept nogil` and touches no Python object. One thread at a time per pool, Tx and kcp_t.
Times are monotonic milliseconds in 64 bits; on the wire and per segment they are kept modulo 2^32.

The engine is one translation unit, so that its hot loops call nothing through a pointer. It is cut into
parts, each beside the plain-Python module of the same stem: `_sender.pxi` is the twin of `sender.py`, and
`_sender.pxd` declares what other modules use of it. The beginning of a function's name tells its part: `snd_`
_sender, `rcv_` _receiver, `cwnd_` _cwnd, `rtt_` and `rack_` _recovery, `map_` _ackmap, `input_` and `flush_`
_kcp. What other modules call begins with `kcp_`. Docstrings stand where functions are defined.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

include "_numbers.pxd"
include "_pool.pxd"
include "_datagrams.pxd"
include "_params.pxd"
include "_rings.pxd"
include "_ackmap.pxd"

cdef enum:
    # kcp_input() answers
    KCP_OK = 0
    KCP_SHORT = -1              # a header or payload is cut, or a payload is longer than a segment can be
    KCP_WRONG_CONV = -2         # a segment of another conversation
    KCP_UNKNOWN_CMD = -3        # a command that KCP does not have

cdef struct kcp_t:
    Pool* pool                  # NULL: cleared
    share_t* share              # what its link holds of the pool
    uint32_t conv
    uint32_t mss
    # the sender: _sendqueue.pxi, _sender.pxi
    uint32_t snd_una
    uint32_t snd_nxt
    uint32_t snd_end
    uint32_t snd_top            # highest sn that was ever sent, + 1: snd_nxt, unless some were recalled
    uint32_t snd_wnd
    uint32_t rmt_wnd            # as the peer advertised it last
    uint32_t cwnd
    uint32_t ssthresh
    uint32_t incr               # bytes the congestion window stands for (nc = False)
    uint32_t fresh              # slots handed out by write_begin() and not committed, kept from snd_end on
    snd_ring_t snd
    # the receiver: _receiver.pxi
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
    # what it has to acknowledge
    ack_t* acks                 # of segments beyond rcv_nxt: told, told by an unfinished flush, due
    uint32_t ack_told           # end of those of the first kind that may be told again
    uint32_t ack_fresh          # where the second begins
    uint32_t ack_done           # end of the second
    uint32_t ack_count          # end of all
    uint32_t ack_credit         # for telling again, in eighths of an acknowledgement
    uint32_t ack_cap
    uint32_t map_lowest[MAP_FLUSHES]    # what each of the last flushes acknowledged (_ackmap.pxi)
    ack_t ack_below             # newest of those una covers
    int64_t ack_at              # when that one is told; -1: at once
    uint32_t ack_waits          # segments whose acknowledgement waits for that
    # windows: told, asked for
    uint32_t told_wnd           # window in the last segment sent
    uint32_t probe_wait_ms
    int64_t probe_at            # -1: not probing
    int64_t tell_at             # -1: no window-tell to repeat
    int64_t told_first          # when the window that has opened was told first; -1: not yet
    # losses: _sender.pxi, _recovery.pxi
    int64_t clock_ms            # the last time that input or flush was told
    int64_t sent_ms             # when a segment was sent for the first time last
    int64_t acked_ms            # when something was acknowledged last; -1: never
    int64_t hold_until          # a time-out noticed late waits for what may lie unread; -1: none
    int64_t rttvar_shrinks_at   # when rttvar_ms may shrink again
    int64_t rack_at             # when an overtaken segment counts as lost; -1: none waits
    uint32_t rack_ts            # the latest transmission known to have arrived: when ...
    uint32_t rack_sn            # ... and which
    uint32_t rack_rtt_ms        # its round-trip time
    uint32_t rack_end           # no segment at or beyond it was overtaken
    uint32_t reorder_ms         # by how much segments were seen to be overtaken
    uint32_t timeout_ts         # of the time-out whose answer is awaited
    uint32_t undo_cwnd          # cwnd and ssthresh as they were before it
    uint32_t undo_ssthresh
    # parameters and measurements
    int nodelay
    int resend
    uint32_t interval_ms
    uint32_t min_rto_ms
    uint32_t ack_hold_ms        # as Kcp.ack_hold_ms
    uint32_t ack_batch_ms       # how long after the last one that of full segments
    int64_t ack_told_ms         # when that was
    uint32_t srtt_ms
    uint32_t rttvar_ms
    uint32_t srtt8              # both in eighths of a millisecond; 0: nothing measured
    uint32_t rttvar8
    uint32_t rto_ms
    bint nc
    bint ack_below_due
    bint ack_maps               # as Kcp.ack_maps
    uint8_t map_next            # which of map_lowest is the oldest
    bint ask                    # WASK due
    bint tell                   # WINS due
    bint fast_due               # a segment is to be resent
    bint early                  # as Kcp.early
    bint unordered
    bint mark_first
    uint8_t rack_known
    uint8_t tail_probed         # since the last acknowledgement
    uint8_t overdue             # the time-out was noticed
    uint8_t timed_out           # nothing yet told whether the time-out was needed
    uint8_t late                # resent after a time-out, and ...
    uint8_t overtaken           # ... because overtaken, since the congestion window was last shrunk
    uint8_t tells_on            # an opened window is told until the peer answers
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
cdef void kcp_clear(kcp_t* k) noexcept nogil
cdef void kcp_count_for(kcp_t* k, share_t* share) noexcept nogil
cdef void kcp_restart(kcp_t* k, uint32_t conv) noexcept nogil
cdef void kcp_start_at(kcp_t* k, uint32_t sn) noexcept nogil
cdef int kcp_set_mtu(kcp_t* k, uint32_t kcp_mtu) noexcept nogil
cdef void kcp_set_windows(kcp_t* k, uint32_t snd_wnd, uint32_t rcv_wnd) noexcept nogil

cdef int kcp_input(kcp_t* k, const uint8_t* p, size_t n, uint64_t now_ms, bint rebuilt) noexcept nogil
cdef int kcp_flush(kcp_t* k, Tx* tx, uint64_t now_ms, int max_segments) noexcept nogil
cdef int64_t kcp_deadline(const kcp_t* k) noexcept nogil
cdef bint kcp_wants_flush(const kcp_t* k) noexcept nogil
cdef uint32_t kcp_missing(const kcp_t* k) noexcept nogil
cdef bint kcp_passes_pacer(const kcp_t* k) noexcept nogil

cdef int64_t kcp_move_stream(kcp_t* src, kcp_t* dst) noexcept nogil
cdef int kcp_move_message(kcp_t* src, kcp_t* dst) noexcept nogil

include "_sender.pxd"
include "_sendqueue.pxd"
include "_receiver.pxd"

cdef class Kcp:
    """One conversation for Python. A subclass with its own pool calls `setup()` from its `__init__`."""
    cdef kcp_t k
    cdef Pool* pool
    cdef bint owns_pool
    cdef readonly object params

    cdef int setup(self, Pool* pool, uint32_t conv, uint32_t kcp_mtu, object params) except -1
