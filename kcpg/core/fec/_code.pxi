# Part of _fec.pyx: the erasure code over GF(2^8). Declared in _code.pxd; twin: code.py.

cdef enum:
    ORDER = 255                 # of the field's multiplicative group


cdef void fec_encode_row(uint8_t* dst, const uint8_t* src, uint8_t coef, size_t n) noexcept nogil:
    """dst[0..n) ^= coef * src[0..n) over GF(2^8), 0x11D."""
    if coef:
        multiply_add(dst, src, coef, n)


def combine(const uint8_t[::1] factors, list blocks, Py_ssize_t length):
    """The sum of coefficient times block, `length` bytes long; shorter blocks count as padded with zeros."""
    cdef bytes total = PyBytes_FromStringAndSize(NULL, length)
    cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(total)
    cdef bytes block
    cdef Py_ssize_t i
    memset(out, 0, length)
    if factors.shape[0] != len(blocks) or any(len(block) > length for block in blocks):
        raise ValueError("as many factors as blocks, none longer than the sum")
    for i in range(factors.shape[0]):
        block = blocks[i]
        fec_encode_row(out, <const uint8_t*>PyBytes_AS_STRING(block), factors[i], len(block))
    return total


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
    """out[i * parity + r] becomes the coefficient of data shard `i` in parity shard `r`."""
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


cdef struct known_t:            # the D shards from which others are interpolated
    int count
    uint8_t index[FEC_MAX_SHARDS]
    int weight[FEC_MAX_SHARDS]
    const uint8_t* block[FEC_MAX_SHARDS]    # NULL: zeros
    uint32_t len[FEC_MAX_SHARDS]


cdef inline void know(known_t* known, int index, const uint8_t* block, uint32_t n) noexcept nogil:
    """Add a shard to those that are known; `block` NULL: zeros."""
    known.index[known.count] = <uint8_t>index
    known.block[known.count] = block
    known.len[known.count] = n
    known.count += 1


cdef void weigh(
    known_t* known, int data, const uint8_t* weights, const uint8_t* missing, int missing_count
) noexcept nogil:
    """Weights of the known shards, which are the data without `missing`, and as many parity shards.

    Each is a product over all data, from which only what differs is divided out or multiplied in.
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


cdef class Code:
    """The code of `data` and `parity` shards; `kcpg.core.fec.code.Code` documents the interface."""
    cdef readonly int data
    cdef readonly int parity
    cdef bytes columns
    cdef bytes weights

    def __init__(self, int data, int parity):
        plain_code.check_code(data, parity)
        self.data = data
        self.parity = parity
        self.columns = PyBytes_FromStringAndSize(NULL, data * parity)
        self.weights = PyBytes_FromStringAndSize(NULL, data)
        fec_columns(<uint8_t*>PyBytes_AS_STRING(self.columns), data, parity)
        data_weights(<uint8_t*>PyBytes_AS_STRING(self.weights), data)

    def encode(self, blocks):
        """The R parity blocks of D data blocks, as long as the longest of them."""
        plain_code.check_blocks(self.data, blocks)
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
        plain_code.check_shards(self.data, self.parity, shards)
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
