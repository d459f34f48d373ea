# cython: language_level=3
"""C interface of the compiled native data plane: `kcpg.net` feeds and drains it, a batch per call."""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from kcpg.core.fec._fec cimport fec_losses_t, fec_rx_t, fec_tx_t
from kcpg.core.kcp._kcp cimport Kcp, Path, Pool, Tx
from kcpg.core.seal._seal cimport HeaderMask, Replay, Sealer


ctypedef struct segment_counts_t:       # names of counters.SEGMENTS
    uint64_t segments_sent
    uint64_t segments_resent_fast
    uint64_t segments_resent_rto
    uint64_t segments_resent_tail
    uint64_t resends_spurious
    uint64_t segments_received
    uint64_t duplicates_received
    uint64_t bytes_sent


cdef struct timer_t:
    int64_t due_ms
    uint64_t order                  # among equals the first that was set
    int* place                      # where its conversation keeps the place of this entry
    PyObject* conv                  # borrowed: a conversation that closes or goes takes its entry along


cdef struct timers_t:
    timer_t* heap
    int count
    uint32_t room
    uint32_t convs                  # conversations that may have an entry
    uint64_t order


cdef class SegmentPool:
    """Owns the slots of a leg's conversations; lives as long as the last of them."""
    cdef Pool* slots


cdef class RxEpoch:
    """What opens the datagrams of one CID."""
    cdef Bundle bundle
    cdef uint32_t cid
    cdef uint32_t order
    cdef Sealer sealer
    cdef Replay replay
    cdef fec_losses_t losses
    cdef uint64_t settled           # packet numbers below it are late by now if they did not come


cdef class LinkFec:
    """Both directions of one link's FEC."""
    cdef SegmentPool pool
    cdef fec_tx_t tx
    cdef fec_rx_t rx
    cdef bint bulk                  # protect also conversations with much to send
    cdef readonly uint64_t parity_bytes
    cdef uint32_t longest           # of the turn in hand: bytes of a frame, type included ...
    cdef int64_t now_ms
    cdef int first                  # ... its first datagram not yet looked at
    cdef bint shielded              # ... and whether they have room for the header of a shard

    cdef int use(self, object plan, uint32_t wait_ms, bint bulk) except -1
    cdef void begin(self, Tx* tx, uint32_t longest, int64_t now_ms)
    cdef void shield(self, Tx* tx, uint32_t queued)
    cdef void finish(self, Tx* tx)
    cdef void parity(self, Tx* tx)
    cdef int64_t deadline(self)
    cdef int receive(
        self, Bundle bundle, int type, const uint8_t* p, uint32_t n, uint64_t now_ms) except -1


cdef class Conv(Kcp):
    cdef SegmentPool segment_pool
    cdef readonly Bundle bundle
    cdef public object user
    cdef readonly int events
    cdef readonly bint closed
    cdef public bint want_room
    cdef public bint want_drained
    cdef bint is_dirty
    cdef bint is_busy
    cdef int timer                  # place in the wire's timers, -1: none
    cdef object packets_out         # deques, made at the first unreliable packet
    cdef object packets_in
    cdef uint32_t snd_limit         # windows the user gave; with a controller those of `k` stay below them
    cdef uint32_t rcv_limit
    cdef uint64_t bulk_from         # segments sent before this transfer in bulk
    cdef bint is_long               # it is a long one: see linkfec.py
    cdef bint is_capped
    cdef uint64_t seen_sent         # what the bundle's totals hold of this conversation
    cdef uint64_t seen_acked
    cdef uint64_t acked_empty       # acknowledged segments without payload, known when all is acknowledged
    cdef uint64_t seen_first
    cdef uint64_t seen_resent
    cdef readonly Bypass bypass     # takes what little comes past the splice; None: nobody does
    cdef readonly uint64_t bypassed     # bytes or packets that it took

    cdef bint put_packet(self, const uint8_t* p, size_t n, bint datagram) except -1
    cdef bint put_datagram(self, const uint8_t* p, size_t n) except -1
    cdef int take_packet(self, uint8_t* to) except -2
    cdef int return_packet(self, const uint8_t* p, size_t n) except -1
    cdef bint is_served(self)
    cdef int packets_turn(self, Tx* tx) except -1
    cdef void leave_timers(self)
    cdef void changed(self)         # after anything that the user did to `k`
    cdef void raise_events(self, int events)
    cdef bint is_drained(self)
    cdef int wake_segments(self)
    cdef void fit(self)
    cdef void open_window(self)


cdef class Bypass:
    """Takes what little comes for a conversation past the splice: see _bypass.pxi."""
    cdef bint carry(self, Conv conv) except -1


cdef class HopBypass(Bypass):
    cdef Conv onward                # of the next hop
    cdef bint packets               # what comes are packets, not a stream ...
    cdef bint datagrams             # ... and they shall travel on unreliably


cdef class Bundle:
    cdef readonly Wire wire
    cdef public object user
    cdef public object accept
    cdef public bint watched
    cdef bint is_heard              # these three stand in the wire's events ...
    cdef bint is_urgent             # ... that it was heard is one to act on now
    cdef bint has_begun
    cdef bint has_moved
    cdef readonly dict convs
    cdef Path tx_path
    cdef bint has_path
    cdef Path rx_path
    cdef bint has_source
    cdef readonly int64_t rx_last_ms
    cdef readonly int64_t tx_last_ms
    cdef readonly int64_t heeded_ms
    cdef readonly uint64_t rx_datagrams
    cdef readonly uint64_t rx_bytes
    cdef readonly uint64_t tx_datagrams
    cdef readonly uint64_t tx_bytes
    cdef readonly uint64_t tx_pn
    cdef readonly uint64_t segments_sent
    cdef readonly uint64_t segments_resent
    cdef readonly uint64_t timeouts
    cdef segment_counts_t segments_before       # of conversations that are over
    cdef readonly object pieces
    cdef uint32_t pieces_sent
    cdef uint32_t longest           # as bundle.py
    cdef readonly object rx_cid
    cdef readonly int srtt_ms
    cdef uint32_t max_payload       # UDP payload bytes of our datagrams
    cdef int64_t rate
    cdef int64_t burst              # these three in bit-milliseconds, see kcpg.core.pacer
    cdef int64_t credit
    cdef int64_t refilled_ms
    cdef dict epochs
    cdef uint32_t order
    cdef uint32_t newest_order
    cdef uint64_t newest_pn
    cdef uint32_t tx_cid
    cdef Sealer tx_sealer
    cdef Conv last_conv
    cdef object dirty               # deque of Conv
    cdef object sparse              # deque of those that go before them
    cdef bint is_active
    cdef bint in_turn
    cdef int busy
    cdef readonly object control    # RateController, None: none
    cdef int64_t configured         # bits of UDP payload per second, 0: no limit
    cdef int64_t flight_max         # bytes that may be unacknowledged, 0: no limit
    cdef int64_t sent_bytes         # running totals, as kcpg.core.rate.Totals
    cdef int64_t acked_bytes
    cdef int64_t first_segments
    cdef int64_t resent_segments
    cdef int64_t starved_at
    cdef int64_t round_due
    cdef object capped              # deque of Conv that wait for flight_max
    cdef readonly LinkFec fec       # None: none yet
    cdef uint32_t fec_room          # bytes of each datagram that are kept free for it
    cdef bint spares_bulk           # it leaves bulk out
    cdef public bint counts_losses
    cdef object losses_before       # of epochs that are over

    cdef void settle(self, Conv conv)
    cdef bint tally(self, Conv conv)
    cdef void admit(self, Conv conv)
    cdef void release(self)
    cdef LinkFec link_fec(self)
    cdef int measure(self, int64_t now_ms) except -1
    cdef void set_pace(self)
    cdef void mark_dirty(self, Conv conv)
    cdef bint sendable(self)
    cdef int64_t held_until(self)
    cdef void refill(self, int64_t now_ms)
    cdef int turn(self, Tx* tx, uint64_t now_ms, int budget) except -1
    cdef uint32_t segment_bytes(self, bint is_long)
    cdef uint32_t data_room(self)
    cdef bint note_received(
        self, RxEpoch epoch, uint64_t pn, const Path* path, size_t size, bint probes, uint64_t now_ms)


cdef class Wire:
    cdef SegmentPool segment_pool
    cdef SegmentPool fec_pool
    cdef readonly uint32_t max_datagram
    cdef readonly dict drops
    cdef Tx tx                      # datagrams that are ready to leave: 0 .. tx.count
    cdef public int tx_cursor       # how many of them have left
    cdef HeaderMask mask_rx
    cdef HeaderMask mask_tx
    cdef dict epochs
    cdef RxEpoch last_epoch
    cdef object outbox
    cdef list events                # of events.py
    cdef int urgent                 # how many of them the leg has to act on now ...
    cdef int readies                # ... are READY ...
    cdef int frames                 # ... FRAME ...
    cdef int strangers              # ... and STRANGER
    cdef object active              # deque of Bundle
    cdef timers_t timers
    cdef dict starved               # Conv that wait for slots of the pool, in order
    cdef uint64_t now_ms
    cdef Path rx_path               # where the datagram in hand came from

    # Receive n bytes that hold datagrams of `size` bytes each (the last may be shorter), as UDP GRO gives.
    # Decrypts in place: the buffer's contents are used up.
    cdef int receive_run(
        self, const Path* source, uint8_t* buf, size_t n, uint32_t size, uint64_t now_ms) except -1
    # Fill `tx` with what may leave now; how many datagrams wait there. Nothing new while old ones wait.
    cdef int build(self, uint64_t now_ms) except -1
    # When build() must be called again though nothing happens; INT64_MAX: never.
    cdef int64_t due(self) except -2
    cdef bint has_news(self)
    # Let each conversation's bypass take what little came; what is left stays an event.
    cdef int run_bypasses(self) except -1
    # Everything in `tx` has left or is given up.
    cdef void tx_done(self)

    cdef int build_outbox(self) except -1
    cdef int datagram(self, uint8_t* p, uint32_t n, uint64_t now_ms) except -1
    cdef int unwrap(
        self, Bundle bundle, const uint8_t* p, uint32_t n, bint rebuilt, uint64_t now_ms) except -1
    cdef int segments(
        self, Bundle bundle, const uint8_t* p, uint32_t n, bint rebuilt, uint64_t now_ms) except -1
    cdef int unreliable(self, Bundle bundle, const uint8_t* p, uint32_t n) except -1
    cdef int frame(self, Bundle bundle, int type, bytes payload) except -1
    cdef void feed(self)
    cdef void count_drop(self, str reason)
    cdef int ripen(self, uint64_t now_ms) except -1
    cdef void wake(self, Bundle bundle)
