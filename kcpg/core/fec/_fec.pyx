# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""FEC on vectors: the compiled twin of `kcpg.core.fec.code`, `fecgroup` and the counter of `fecauto`.

A group's parity is summed up while its data passes through, when it is in the cache anyway: per parity shard
and data shard one call of a kernel that multiplies and adds with whatever the processor has (GFNI, PSHUFB, or
plain vectors). Rebuilding interpolates from the shards that are there, in the same kernel.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from kcpg.core.kcp._kcp cimport Pool, diff32, pool_free, pool_new, slot_get, slot_put
from kcpg.core.seal._seal cimport REPLAY_WINDOW, REPLAY_WORDS, Replay, ReplayWindow

from kcpg.core.fec import code as twin
from kcpg.core.fec.auto import REORDER_SPAN as _REORDER_SPAN
from kcpg.core.fec.group import GROUP_WAIT_MS

cdef extern from "_gf256.h" nogil:
    ctypedef void (*kcpg_gf_fn)(uint8_t* dst, const uint8_t* src, uint8_t coef, size_t n) noexcept nogil
    uint8_t kcpg_gf_exp[512]
    uint8_t kcpg_gf_log[256]
    uint8_t kcpg_gf_times(uint8_t coef, uint8_t x)
    void kcpg_gf_tables()
    int kcpg_gf_kernels(const char** names, kcpg_gf_fn* functions)

cdef enum:
    ORDER = 255                 # of the field's multiplicative group
    LATE_IN_A_ROW = 256         # see fecgroup
    KERNELS = 8

cdef const char* _names[KERNELS]
cdef kcpg_gf_fn _functions[KERNELS]
kcpg_gf_tables()
cdef int _count = kcpg_gf_kernels(_names, _functions)
cdef kcpg_gf_fn multiply_add = _functions[0]

cdef uint64_t reorder_span = _REORDER_SPAN


def kernels():
    """Names of the kernels this processor can run, the fastest first; all give the same bytes."""
    return tuple(_names[i].decode() for i in range(_count))


def use_kernel(str name):
    """Take another kernel than the fastest, in a test or a measurement."""
    global multiply_add
    multiply_add = _functions[kernels().index(name)]


# --- the field ------------------------------------------------------------------------------------

cdef void fec_encode_row(uint8_t* dst, const uint8_t* src, uint8_t coef, size_t n) noexcept nogil:
    if coef:
        multiply_add(dst, src, coef, n)


cdef inline int log_difference(int i, int j) noexcept nogil:
    """log(x(i) - x(j)) for two different shards, whose points are 0, 1, 2, 4, …"""
    cdef uint8_t a = kcpg_gf_exp[i - 1] if i else 0
    cdef uint8_t b = kcpg_gf_exp[j - 1] if j else 0
    return kcpg_gf_log[a ^ b]


cdef void data_weights(uint8_t* out, int data) noexcept nogil:
    """For each data shard: the logarithm of the product of its differences from the others."""
    cdef int i, m, total
    for i in range(data):
        total = 0
        for m in range(data):
            if m != i:
                total += log_difference(i, m)
        out[i] = <uint8_t>(total % ORDER)


cdef void fec_columns(uint8_t* out, int data, int parity) noexcept nogil:
    cdef uint8_t weights[256]
    cdef int i, r, everything
    data_weights(weights, data)
    for r in range(parity):
        everything = 0
        for i in range(data):
            everything += log_difference(data + r, i)
        for i in range(data):
            out[i * parity + r] = kcpg_gf_exp[
                (everything - log_difference(data + r, i) - weights[i] + ORDER) % ORDER
            ]


cdef struct known_t:            # the D shards that others are interpolated from
    int count
    uint8_t index[FEC_MAX_SHARDS]
    int weight[FEC_MAX_SHARDS]
    const uint8_t* block[FEC_MAX_SHARDS]    # NULL: zeros
    uint32_t len[FEC_MAX_SHARDS]


cdef inline void know(known_t* known, int index, const uint8_t* block, uint32_t n) noexcept nogil:
    known.index[known.count] = <uint8_t>index
    known.block[known.count] = block
    known.len[known.count] = n
    known.count += 1


cdef void weigh(
    known_t* known, int data, const uint8_t* weights, const uint8_t* missing, int missing_count
) noexcept nogil:
    """Weights of the known shards. What is known is the data without `missing`, and parity for as many.

    So a product over all data is taken and only what differs is divided out or multiplied in.
    """
    cdef int n, m, i, total
    for n in range(known.count):
        i = known.index[n]
        if i < data:
            total = weights[i]
        else:
            total = 0
            for m in range(data):
                total += log_difference(i, m)
        for m in range(missing_count):
            total -= log_difference(i, missing[m])
        for m in range(known.count):
            if known.index[m] >= data and m != n:
                total += log_difference(i, known.index[m])
        total %= ORDER
        known.weight[n] = total + ORDER if total < 0 else total


cdef void interpolate(uint8_t* out, const known_t* known, int wanted) noexcept nogil:
    """Add the shard `wanted` to `out`, which holds zeros and is as long as the longest block."""
    cdef int n, everything = 0
    for n in range(known.count):
        everything += log_difference(wanted, known.index[n])
    for n in range(known.count):
        if known.block[n] != NULL:
            multiply_add(
                out,
                known.block[n],
                kcpg_gf_exp[
                    (everything - log_difference(wanted, known.index[n]) - known.weight[n] + ORDER) % ORDER
                ],
                known.len[n],
            )


include "_fec_send.pxi"
include "_fec_receive.pxi"


# --- loss -----------------------------------------------------------------------------------------

cdef void fec_losses_scan(fec_losses_t* losses, const Replay* replay, uint64_t settled) noexcept nogil:
    cdef uint64_t stop = replay.next - reorder_span if replay.next > reorder_span else 0
    cdef uint64_t pn = losses.next
    stop = settled if settled > stop else stop
    if replay.next > REPLAY_WINDOW and pn < replay.next - REPLAY_WINDOW:
        pn = replay.next - REPLAY_WINDOW      # what left the window unseen is not judged
        losses.in_burst = False
    while pn < stop:
        losses.expected += 1
        if replay.word[(pn >> 6) % REPLAY_WORDS] >> (pn & 63) & 1:
            losses.in_burst = False
        else:
            losses.lost += 1
            losses.bursts += not losses.in_burst
            losses.in_burst = True
        pn += 1
    losses.next = pn


cdef class LossCounter:
    """See `kcpg.core.fec.auto.LossCounter`."""

    def __cinit__(self):
        memset(&self.losses, 0, sizeof(fec_losses_t))

    def scan(self, ReplayWindow window not None, uint64_t settled=0):
        """Judge the packet numbers that became old enough since the last call, and all below `settled`."""
        fec_losses_scan(&self.losses, &window.r, settled)

    @property
    def next(self):
        """The first number not yet judged."""
        return self.losses.next

    @property
    def expected(self):
        """Packets judged."""
        return self.losses.expected

    @property
    def lost(self):
        """Those of them that never came."""
        return self.losses.lost

    @property
    def bursts(self):
        """Runs of lost packets."""
        return self.losses.bursts


# --- memory face ----------------------------------------------------------------------------------

cdef class Code:
    """See `kcpg.core.fec.code.Code`."""
    cdef readonly int data
    cdef readonly int parity
    cdef bytes columns
    cdef bytes weights

    def __init__(self, int data, int parity):
        twin.check_code(data, parity)
        self.data = data
        self.parity = parity
        self.columns = PyBytes_FromStringAndSize(NULL, data * parity)
        self.weights = PyBytes_FromStringAndSize(NULL, data)
        fec_columns(<uint8_t*>PyBytes_AS_STRING(self.columns), data, parity)
        data_weights(<uint8_t*>PyBytes_AS_STRING(self.weights), data)

    def encode(self, blocks):
        """The R parity blocks of D data blocks, as long as the longest of them."""
        twin.check_blocks(self.data, blocks)
        cdef Py_ssize_t length = max(map(len, blocks))
        cdef const uint8_t* columns = <const uint8_t*>PyBytes_AS_STRING(self.columns)
        cdef list out = []
        cdef bytes block
        cdef list kept = [bytes(each) for each in blocks]
        cdef int i, r
        for r in range(self.parity):
            out.append(PyBytes_FromStringAndSize(NULL, length))
            memset(PyBytes_AS_STRING(out[r]), 0, length)
        for i in range(self.data):
            block = kept[i]
            for r in range(self.parity):
                fec_encode_row(
                    <uint8_t*>PyBytes_AS_STRING(out[r]), <const uint8_t*>PyBytes_AS_STRING(block),
                    columns[i * self.parity + r], len(block)
                )
        return out

    def recover(self, shards):
        """The data blocks that `shards` lacks, as long as its longest."""
        twin.check_shards(self.data, self.parity, shards)
        cdef Py_ssize_t length = max(map(len, shards.values()))
        cdef known_t known
        cdef uint8_t missing[FEC_MAX_SHARDS]
        cdef int missing_count = 0
        cdef int index
        cdef bytes block
        cdef list kept = []     # keeps the blocks alive while `known` points into them
        cdef dict out = {}
        known.count = 0
        memset(missing, 0, sizeof(missing))
        for index in sorted(shards)[:self.data]:
            block = bytes(shards[index])
            kept.append(block)
            know(&known, index, <const uint8_t*>PyBytes_AS_STRING(block), <uint32_t>len(block))
        for index in range(self.data):
            if index not in shards:
                missing[missing_count] = <uint8_t>index
                missing_count += 1
        weigh(
            &known, self.data, <const uint8_t*>PyBytes_AS_STRING(self.weights), missing, missing_count
        )
        for index in range(missing_count):
            block = PyBytes_FromStringAndSize(NULL, length)
            memset(PyBytes_AS_STRING(block), 0, length)
            interpolate(<uint8_t*>PyBytes_AS_STRING(block), &known, missing[index])
            out[missing[index]] = block
        return out


cdef class GroupSender:
    """See `kcpg.core.fec.group.GroupSender`."""

    def __cinit__(self, int max_payload, size_t max_shards=256):
        self.max_payload = max_payload
        self.pool = pool_new(max_payload + FEC_SLOT_EXTRA, max_shards)
        if self.pool == NULL:
            raise MemoryError
        fec_tx_init(&self.tx, self.pool)

    def __dealloc__(self):
        if self.pool != NULL:
            fec_tx_clear(&self.tx)
            pool_free(self.pool)

    @property
    def on(self):
        """Whether payloads have to go through `protect`."""
        return self.tx.data > 0

    @property
    def group(self):
        """Number of the open group, or of the next one."""
        return self.tx.group

    @property
    def short(self):
        """Groups with fewer parity shards than planned, for want of memory."""
        return self.tx.short_groups

    @property
    def deadline(self):
        """When `expire` has to be called, None while no group is open."""
        return fec_tx_deadline(&self.tx) if self.tx.count else None

    def use(self, plan, uint32_t wait_ms=GROUP_WAIT_MS):
        """From the next payload on. Closes the open group if the plan is another one."""
        cdef bytes parity = bytes(plan.parity)
        if fec_tx_use(&self.tx, plan.data, <const uint8_t*>PyBytes_AS_STRING(parity), wait_ms) < 0:
            raise MemoryError

    def protect(self, payload, int64_t now_ms):
        """The contents of the FEC_DATA frame that carries `payload`."""
        cdef const uint8_t[::1] view = payload
        cdef Py_ssize_t n = view.shape[0]
        assert self.tx.data and n <= self.max_payload
        cdef bytes out = PyBytes_FromStringAndSize(NULL, FEC_HEADER_BYTES + n)
        cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(out)
        if n:
            memcpy(p + FEC_HEADER_BYTES, &view[0], n)
        fec_tx_data(&self.tx, p, p + FEC_HEADER_BYTES, <uint32_t>n, now_ms)
        return out

    def expire(self, int64_t now_ms):
        """Close the open group if its time has come."""
        fec_tx_expire(&self.tx, now_ms)

    def close(self):
        """Close the open group, if there is one."""
        fec_tx_close(&self.tx)

    def parity(self):
        """The contents of the next FEC_PARITY frame that is to be sent, None when there is none."""
        cdef uint32_t n = fec_tx_parity_bytes(&self.tx)
        if n == 0:
            return None
        cdef bytes out = PyBytes_FromStringAndSize(NULL, n)
        fec_tx_parity(&self.tx, <uint8_t*>PyBytes_AS_STRING(out))
        return out


cdef list rebuilt_payloads(const fec_rx_t* rx):
    cdef fec_shard_t* shard = rx.rebuilt
    cdef list out = []
    while shard != NULL:
        out.append(PyBytes_FromStringAndSize(<char*>fec_body(shard) + FEC_PREFIX_BYTES, shard.len))
        shard = shard.next
    return out


cdef class GroupReceiver:
    """See `kcpg.core.fec.group.GroupReceiver`."""

    def __cinit__(self, int max_payload, size_t max_shards=1024):
        self.max_payload = max_payload
        self.pool = pool_new(max_payload + FEC_SLOT_EXTRA, max_shards)
        if self.pool == NULL:
            raise MemoryError
        fec_rx_init(&self.rx, self.pool)

    def __dealloc__(self):
        if self.pool != NULL:
            fec_rx_forget(&self.rx)
            pool_free(self.pool)

    def receive_data(self, contents):
        """Payloads that became available by a FEC_DATA frame: its own first, then rebuilt ones."""
        cdef bytes data = bytes(contents)
        fec_rx_data(&self.rx, <const uint8_t*>PyBytes_AS_STRING(data), <uint32_t>len(data))
        out = [data[FEC_HEADER_BYTES:]] if self.rx.fresh else []
        return out + rebuilt_payloads(&self.rx)

    def receive_parity(self, contents):
        """Payloads that became available by a FEC_PARITY frame."""
        cdef bytes data = bytes(contents)
        fec_rx_parity(&self.rx, <const uint8_t*>PyBytes_AS_STRING(data), <uint32_t>len(data))
        return rebuilt_payloads(&self.rx)

    def forget(self):
        """Give up every group and the memory it holds, as when nothing came for a while."""
        fec_rx_forget(&self.rx)

    @property
    def held(self):
        """Shards kept, and payloads rebuilt by the last call."""
        return self.pool.live

    @property
    def recovered(self):
        """Payloads rebuilt."""
        return self.rx.recovered

    @property
    def lost(self):
        """Payloads that groups lacked when they were forgotten."""
        return self.rx.lost

    @property
    def duplicates(self):
        """Shards that were there already, or rebuilt."""
        return self.rx.duplicates

    @property
    def late(self):
        """Shards of forgotten groups."""
        return self.rx.late

    @property
    def malformed(self):
        """Shards that cannot be, or contradict others of their group."""
        return self.rx.malformed

    @property
    def unkept(self):
        """Shards that found no room."""
        return self.rx.unkept
