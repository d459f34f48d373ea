# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The data plane of a kcptun leg, compiled. Its readable twin is wire.py, and so for each part.

Per datagram there is no Python object, no allocation and no call into Python, but for what opens a link, for
groups of FEC that lack something, and for ciphers that are slow anyway.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from kcpg.core._datagramwire cimport from_path, to_path
from kcpg.core._plainwire cimport BUILD_DATAGRAMS, PlainConv, PlainWire, ReplayCache
from kcpg.core.fec._fec cimport fec_encode_row
from kcpg.core.kcp._kcp cimport (
    KCP_HEADER_BYTES, KCP_MORE, Path, Tx, diff32, get16, get32, kcp_flush, kcp_input, kcp_set_windows,
    kcp_wants_flush, kcp_write_bytes, put16, put32, tx_close,
)
from kcpg.core.seal._seal cimport (
    CFB_LANES, cfb_begin, cfb_end, cfb_open, cfb_seal, gcm128_begin, gcm128_end, gcm128_open,
    gcm128_seal,
)

from dataclasses import replace

from kcpg.core.kcptun import cipher as plain_cipher
from kcpg.core.kcptun import fec as plain_fec
from kcpg.core.kcptun import smux as plain_smux
from kcpg.core.kcptun import wire as plain

cdef extern from "_crc32.h" nogil:
    void kcpg_crc_begin()
    uint32_t kcpg_crc32(const uint8_t* p, size_t n)

__all__ = ["Cipher", "Parser", "ShardReceiver", "ShardSender", "TunConv", "TunWire"]

cdef enum:
    SN_AT = 12                  # in a segment's header
    UNA_AT = 16
    ENTROPY_BYTES = 4096        # of nonces, fetched together
    FIRST_WINDOW = 32
    ACK_HOLD_MS = 2
    WITHOUT_PARITY = 64
    FETCH_AHEAD = 3             # datagrams

include "_cipher.pxi"
include "_fec.pxi"
include "_smux.pxi"


cdef inline bint same_path(const Path* a, const Path* b) noexcept nogil:
    return a.sock == b.sock and a.addrlen == b.addrlen and memcmp(a.addr, b.addr, a.addrlen) == 0


@cython.final
cdef class TunConv(PlainConv):
    """One path's conversation; see `kcpg.core.kcptun.wire.TunConv`."""

    def __init__(self, TunWire wire, uint32_t number, params, user, tuple path):
        self.params = params
        first = replace(
            params, snd_wnd=min(params.snd_wnd, FIRST_WINDOW),
            min_rto_ms=plain.MIN_RTO_MS[params.nodelay > 0])
        self.begin(wire, number, first, user, DATAGRAM_BYTES, wire._format.kcp_mtu)
        self.kcp.ack_hold_ms = ACK_HOLD_MS
        self.behind_ms = -1
        self.is_opening = True
        self.sender = ShardSender() if wire._format.has_fec else None
        self.place(path)

    cdef int place(self, tuple path) except -1:
        cdef TunWire wire = <TunWire>self.wire
        to_path(&self.at, path[0], path[1])
        self.path = path
        wire.convs[path] = self
        wire.last = None
        return 0

    def write(self, bytes data):
        """Queue bytes of the stream while there is room; how many."""
        cdef size_t taken
        if self.closed:
            return len(data)
        taken = kcp_write_bytes(&self.kcp.k, <const uint8_t*>data, len(data))
        if taken > 0:
            self.wire.mark(self)
        return taken

    def write_frames(self, int version, uint32_t stream, bytes data, uint32_t step):
        """Queue bytes as smux frames of at most `step` of data; what there was no room for."""
        cdef uint8_t header[FRAME_BYTES]
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef size_t n = len(data), at = 0, size, taken
        if self.closed:
            return b""
        header[0], header[1] = <uint8_t>version, PSH
        put32(header + 4, stream)
        while at < n:
            size = min(<size_t>step, n - at)
            put16(header + 2, <uint32_t>size)
            taken = kcp_write_bytes(&self.kcp.k, header, FRAME_BYTES)
            if taken == FRAME_BYTES:
                taken += kcp_write_bytes(&self.kcp.k, p + at, size)
            if taken < FRAME_BYTES + size:
                self.wire.mark(self)
                return plain_smux.frames(version, stream, data[at:], step)[taken:]
            at += size
        if n > 0:
            self.wire.mark(self)
        return b""

    def read(self, limit):
        """Bytes of the stream; b"": none now."""
        data = self.kcp.read(limit)
        while not data and self.kcp.at_end:     # a segment without bytes, which means nothing here
            self.kcp.recv()
            data = self.kcp.read(limit)
        if kcp_wants_flush(&self.kcp.k):
            self.wire.mark(self)
        return data

    def move_to(self, tuple path):
        """The peer is there from now on."""
        (<TunWire>self.wire).convs.pop(self.path, None)
        self.place(path)

    def heard_fec(self):
        """Send shards as the peer does: see `fec`."""
        self.learn_shape()

    cdef int learn_shape(self) except -1:
        """As `heard_fec`."""
        cdef TunWire wire = <TunWire>self.wire
        cdef ShardSender sender = self.sender
        cdef ShardReceiver receiver = self.receiver
        if receiver is None:
            self.sender = None
            return 0
        if sender is None:
            if not wire.follows:
                return 0
            sender = self.sender = ShardSender()
        if receiver.data > 0:
            shape = receiver.data, receiver.parity
            if sender.data == receiver.data and sender.parity == receiver.parity:
                return 0
        elif wire._format.has_fec and receiver.shape.without_parity >= WITHOUT_PARITY:
            shape = wire._format.fec
        else:
            return 0
        if (sender.data, sender.parity) != shape:
            sender.use(shape[0], shape[1])
        return 0

    def opened(self):
        """The peer has acknowledged something: its whole window may be used."""
        self.open_window()

    cdef int open_window(self) except -1:
        if self.is_opening:
            self.is_opening = False
            kcp_set_windows(&self.kcp.k, self.params.snd_wnd, self.params.rcv_wnd)
        return 0

    @property
    def is_behind(self):
        """The peer seems to have forgotten what it had."""
        return self.behind_ms > self.heard_ms


@cython.final
cdef class TunWire(PlainWire):
    """The data plane of one leg; see `kcpg.core.kcptun.wire.TunWire`."""

    def __init__(self, wire_format, entropy, stranger):
        self.begin_wire(DATAGRAM_BYTES + OVERHEAD_BYTES)
        self.format = wire_format
        self.convs = {}
        self.cipher = Cipher(wire_format.crypt, plain_cipher.derive(wire_format.password))
        self.entropy = entropy
        self.stranger = stranger
        self.nonces = b""
        self.seen = ReplayCache(plain.REMEMBERED, plain.REMEMBERED_MS)
        self.openings = ReplayCache(plain.REMEMBERED_OPENINGS, plain.REMEMBERED_MS)

    def parser(self, int version):
        """One for a conversation's frames."""
        return Parser(version)

    @property
    def format(self):
        """What both ends have alike."""
        return self._format

    @format.setter
    def format(self, wire_format):
        self._format = wire_format
        self.follows = wire_format.follows

    def converse(self, uint32_t number, params, tuple path):
        """A conversation by this path."""
        return TunConv(self, number, params, None, path)

    # Out.

    cpdef forget(self, PlainConv conv):
        PlainWire.forget(self, conv)
        self.last = None
        if self.convs.get((<TunConv>conv).path) is conv:
            del self.convs[(<TunConv>conv).path]

    cdef bint fill(self, PlainConv conv) except -1:
        """Put what a conversation may send now into `tx`, with its parity, not sealed."""
        cdef TunConv tun = <TunConv>conv
        cdef ShardSender sender = tun.sender
        cdef Tx* tx = &self.tx
        cdef int before, i, answer
        tx.cur_path = tun.at
        tx.limit = tun.kcp.k.mss + KCP_HEADER_BYTES
        tx.head_room = self.cipher.head + (OVERHEAD_BYTES if sender is not None else 0)
        tx.tail_room = self.cipher.tail
        while True:
            if sender is not None and sender.due > 0 and not self.put_parity(tun):
                return False
            before = tx.count
            if sender is not None and sender.data > 0:
                tx.max_count = min(before + sender.data - sender.filled, <int>BUILD_DATAGRAMS)
            answer = kcp_flush(&tun.kcp.k, tx, self.now_ms, 0x7FFFFFFF)
            tx_close(tx)
            tx.max_count = BUILD_DATAGRAMS
            if sender is not None:
                for i in range(before, tx.count):
                    sender.dress(tx.buf + tx.off[i] + self.cipher.head,
                                 tx.len[i] - tx.head_room - tx.tail_room)
            if answer != KCP_MORE or tx.count == before:
                return sender is None or sender.due == 0 or self.put_parity(tun)

    cdef int put_parity(self, TunConv conv) except -1:
        """Append the parity of the full group; 0: there is no room for all of it."""
        cdef ShardSender sender = conv.sender
        cdef Tx* tx = &self.tx
        cdef uint32_t size
        while sender.due > 0:
            size = self.cipher.head + SHARD_BYTES + sender.longest + self.cipher.tail
            if tx.count >= tx.max_count or tx.used + size > tx.cap:
                return 0
            sender.put_parity(tx.buf + tx.used + self.cipher.head)
            tx.off[tx.count] = <uint32_t>tx.used
            tx.len[tx.count] = size
            tx.path[tx.count] = conv.at
            tx.used += size
            tx.count += 1
        return 1

    cdef int seal(self, int first) except -1:
        """Seal the datagrams from `first` on, and remember them."""
        cdef uint8_t* at[BUILD_DATAGRAMS]
        cdef uint32_t length[BUILD_DATAGRAMS]
        cdef Cipher cipher = self.cipher
        cdef Tx* tx = &self.tx
        cdef uint32_t nonce_bytes = <uint32_t>cipher.nonce_bytes if cipher.head > 0 else 0
        cdef int i, count = tx.count - first
        for i in range(count):
            at[i] = tx.buf + tx.off[first + i]
            length[i] = tx.len[first + i]
            if self.nonce_at + nonce_bytes > <uint32_t>len(self.nonces):
                self.nonces = self.entropy(ENTROPY_BYTES)
                self.nonce_at = 0
            memcpy(at[i], <const uint8_t*>PyBytes_AS_STRING(self.nonces) + self.nonce_at, nonce_bytes)
            self.nonce_at += nonce_bytes
        cipher.seal_batch(at, length, count)
        if cipher.marks:
            for i in range(count):
                self.seen.fetch(at[i] + cipher.mark_at, cipher.mark_bytes)
            for i in range(count):
                self.seen.remember(at[i] + cipher.mark_at, cipher.mark_bytes, self.now_ms)
        return 0

    # In.

    cdef int receive_run(
            self, const Path* source, uint8_t* buf, size_t n, uint32_t size, uint64_t now_ms) except -1:
        """Take in n bytes of datagrams of `size` bytes each."""
        cdef size_t offset = 0, ahead
        cdef uint32_t piece
        self.now_ms = <int64_t>now_ms
        self.rx_path = source[0]
        if n > size:
            self.joined_ms = self.now_ms
        if n == 0 or size == 0:
            return self.datagram(buf, 0)
        while offset < n:
            ahead = offset + FETCH_AHEAD * <size_t>size
            if self.cipher.marks and ahead + NONCE_BYTES <= n:
                self.seen.fetch(buf + ahead + self.cipher.mark_at, self.cipher.mark_bytes)
            piece = size if n - offset >= size else <uint32_t>(n - offset)
            self.datagram(buf + offset, piece)
            offset += piece
        return 0

    cdef int datagram(self, uint8_t* p, uint32_t n) except -1:
        """Open one datagram and give it to its conversation."""
        cdef Cipher cipher = self.cipher
        cdef TunConv conv
        cdef uint8_t* body
        cdef uint32_t kind
        cdef int size
        if n > DATAGRAM_BYTES:
            return self.count_drop("long")
        self.rx_bytes = n
        if cipher.marks and n >= NONCE_BYTES:
            memcpy(self.rx_mark, p + cipher.mark_at, cipher.mark_bytes)
        size = cipher.open_at(p, n)
        if size < 0:
            return self.count_drop("auth")
        body = p + cipher.head
        kind = get16(body + 4) if size >= SHARD_BYTES else 0
        if kind == DATA or kind == PARITY:
            return self.shard(body, size, kind == DATA)
        conv = self.whose(body, size)
        if conv is not None:
            self.input(conv, body, size, False)
            if conv.sender is not None:
                conv.learn_shape()
        return 0

    cdef int shard(self, const uint8_t* body, uint32_t n, bint is_data) except -1:
        """A shard, and the bodies that come of it."""
        cdef TunConv conv
        cdef uint32_t size, number = get32(body)
        cdef const uint8_t* block = body + SHARD_BYTES
        cdef uint64_t untrusted
        cdef list found
        cdef bytes segments
        n -= SHARD_BYTES
        if is_data:
            size = get16(block) if n >= SIZE_BYTES else 0
            if not SIZE_BYTES + KCP_HEADER_BYTES <= size <= n:
                return self.count_drop("shard_malformed")
            conv = self.whose(block + SIZE_BYTES, size - SIZE_BYTES)
            if conv is None:
                return 0
            self.input(conv, block + SIZE_BYTES, size - SIZE_BYTES, False)
        else:
            conv = self.whose(NULL, 0)
            if conv is None:
                return 0
        if conv.closed:
            return 0
        if conv.receiver is None:
            conv.receiver = ShardReceiver(conv.number)
        untrusted = conv.receiver.untrusted
        found = conv.receiver.take_at(number, is_data, block, n)
        if found is not None:
            for segments in found:
                self.input(conv, <const uint8_t*>segments, <uint32_t>len(segments), True)
        conv.learn_shape()
        if conv.receiver.untrusted > untrusted:
            self.drop("fec_untrusted", conv.receiver.untrusted - untrusted)
        return 0

    cdef TunConv whose(self, const uint8_t* segments, uint32_t n):
        """The conversation that the datagram in hand is for, if it is new and known. `segments` NULL: parity,
        which does not say its number."""
        cdef Cipher cipher = self.cipher
        cdef TunConv conv = self.last
        if cipher.marks and (self.seen.has(self.rx_mark, cipher.mark_bytes)
                             or self.openings.has(self.rx_mark, cipher.mark_bytes)):
            self.count_drop("replay")
            return None
        if conv is None or not same_path(&conv.at, &self.rx_path):
            conv = self.last = self.convs.get(from_path(&self.rx_path))
        if segments != NULL:
            if n < KCP_HEADER_BYTES:
                self.count_drop("short")
                return None
            if conv is None or get32(segments) != conv.number:
                conv = self.stranger(from_path(&self.rx_path), <bytes>segments[:n])
            if cipher.marks and conv is not None and get32(segments + SN_AT) == 0:
                self.openings.remember(self.rx_mark, cipher.mark_bytes, self.now_ms)
        if conv is None:
            self.count_drop("conv_unknown")
            return None
        if cipher.marks:
            self.seen.remember(self.rx_mark, cipher.mark_bytes, self.now_ms)
        if not conv.heard:
            conv.heard = self.alert = True
        conv.rx_bytes += self.rx_bytes
        conv.rx_datagrams += 1
        return conv

    cdef int input(self, TunConv conv, const uint8_t* segments, uint32_t n, bint rebuilt) except -1:
        """Feed segments to a conversation; see `TunWire._input` of the twin for what is not heard."""
        if not rebuilt:
            if diff32(get32(segments + UNA_AT), conv.kcp.k.snd_una) >= 0:
                conv.heard_ms = self.now_ms
            else:
                conv.behind_ms = self.now_ms
        if kcp_input(&conv.kcp.k, segments, n, self.now_ms, rebuilt) < 0:
            self.count_drop("kcp_malformed")
        if conv.is_opening and conv.kcp.k.snd_una != 0:
            conv.open_window()
        return self.note_fed(conv)
