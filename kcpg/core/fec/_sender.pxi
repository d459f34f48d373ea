# Part of _fec.pyx: the sender of groups. Parity is summed up in the very slots that hold the frames to be
# sent. Declared in _sender.pxd; twin: sender.py.

cdef void fec_tx_init(fec_tx_t* tx, Pool* pool) noexcept nogil:
    """A sender that is off; allocates nothing."""
    memset(tx, 0, sizeof(fec_tx_t))
    tx.pool = pool


cdef void fec_tx_clear(fec_tx_t* tx) noexcept nogil:
    """Give everything back. Safe twice."""
    give_back(tx.pool, tx.sums)
    give_back(tx.pool, tx.ready)
    free(tx.columns)
    tx.sums = tx.ready = tx.ready_last = NULL
    tx.columns = NULL
    tx.data = tx.rows = tx.count = 0
    tx.longest = 0


cdef int fec_tx_use(fec_tx_t* tx, uint8_t data, const uint8_t* parity, uint32_t wait_ms) noexcept nogil:
    """Take a plan: `parity` holds data + 1 counts. Closes the open group if the plan is another one.

    Answers 0; -1: no memory, and off.
    """
    cdef uint8_t rows = parity[data]
    tx.wait_ms = wait_ms
    if data == tx.data and memcmp(parity, tx.parity, <size_t>data + 1) == 0:
        return 0
    fec_tx_close(tx)
    free(tx.columns)
    tx.columns = NULL
    tx.data = tx.rows = 0
    if data == 0:
        return 0
    tx.columns = <uint8_t*>malloc(<size_t>data * rows + 1)      # + 1: never NULL for lack of rows
    if tx.columns == NULL:
        return -1
    fec_columns(tx.columns, data, rows)
    memcpy(tx.parity, parity, <size_t>data + 1)
    tx.data = data
    tx.rows = rows
    return 0


cdef void tx_open(fec_tx_t* tx, int64_t now_ms) noexcept nogil:
    """Take the memory for the group's parity; with less of it the group has fewer parity shards."""
    cdef fec_shard_t* shard
    cdef fec_shard_t* first = NULL
    cdef int r
    tx.opened_ms = now_ms
    for r in range(tx.rows):
        shard = <fec_shard_t*>slot_get(tx.pool)
        if shard == NULL:
            tx.short_groups += 1
            break
        shard.next = first
        first = shard
    tx.sums = first


cdef int fec_tx_data(
    fec_tx_t* tx, uint8_t* header, const uint8_t* payload, uint32_t n, int64_t now_ms
) noexcept nogil:
    """Write FEC_HEADER_BYTES to `header` and add the payload to the parity of the open group.

    The payload has at most slot_bytes - FEC_SLOT_EXTRA bytes. Only while `data` is not 0. Answers 1: the
    group is full and its parity ready; else 0.
    """
    cdef fec_shard_t* shard
    cdef const uint8_t* column
    cdef uint8_t* block
    if tx.count == 0:
        tx_open(tx, now_ms)
    put_group(header, tx.group)
    header[4] = tx.count
    header[5] = tx.data
    header[6] = tx.rows
    column = tx.columns + <size_t>tx.count * tx.rows
    shard = tx.sums
    while shard != NULL:
        block = fec_body(shard) + FEC_PARITY_HEADER_BYTES
        if n + FEC_PREFIX_BYTES > tx.longest:
            memset(block + tx.longest, 0, n + FEC_PREFIX_BYTES - tx.longest)
        block[0] ^= kcpg_gf_times(column[0], <uint8_t>(n >> 8))
        block[1] ^= kcpg_gf_times(column[0], <uint8_t>n)
        multiply_add(block + FEC_PREFIX_BYTES, payload, column[0], n)
        column += 1
        shard = shard.next
    if n + FEC_PREFIX_BYTES > tx.longest:
        tx.longest = n + FEC_PREFIX_BYTES
    tx.count += 1
    if tx.count < tx.data:
        return 0
    fec_tx_close(tx)
    return 1


cdef int fec_tx_expire(fec_tx_t* tx, int64_t now_ms) noexcept nogil:
    """Close the open group if its time has come. Answers 1: it has; else 0."""
    if tx.count == 0 or now_ms < tx.opened_ms + tx.wait_ms:
        return 0
    fec_tx_close(tx)
    return 1


cdef inline void tx_ready(fec_tx_t* tx, fec_shard_t* shard, int row, int parity) noexcept nogil:
    """Write the header of parity shard `row` of `parity`, and append the shard to those that may leave."""
    cdef uint8_t* p = fec_body(shard)
    put_group(p, tx.group)
    p[4] = <uint8_t>(tx.data + row)
    p[5] = tx.data
    p[6] = <uint8_t>parity
    p[7] = tx.count
    shard.len = FEC_PARITY_HEADER_BYTES + tx.longest
    shard.next = NULL
    if tx.ready == NULL:
        tx.ready = shard
    else:
        tx.ready_last.next = shard
    tx.ready_last = shard


cdef void fec_tx_close(fec_tx_t* tx) noexcept nogil:
    """Close the open group, if there is one: its parity is ready."""
    cdef fec_shard_t* shard = tx.sums
    cdef fec_shard_t* following
    cdef int parity = 0
    cdef int row
    if tx.count == 0:
        return
    while shard != NULL and parity < tx.parity[tx.count]:
        parity += 1
        shard = shard.next
    shard = tx.sums
    tx.sums = NULL
    for row in range(parity):
        following = shard.next
        tx_ready(tx, shard, row, parity)
        shard = following
    give_back(tx.pool, shard)
    tx.group += 1
    tx.count = 0
    tx.longest = 0


cdef uint32_t fec_tx_parity(fec_tx_t* tx, uint8_t* out) noexcept nogil:
    """Write the contents of the next parity frame and answer their length; 0: none."""
    cdef fec_shard_t* shard = tx.ready
    cdef uint32_t n
    if shard == NULL:
        return 0
    n = shard.len
    memcpy(out, fec_body(shard), n)
    tx.ready = shard.next
    slot_put(tx.pool, <uint8_t*>shard)
    return n


cdef class GroupSender:
    """Makes shards of payloads; `kcpg.core.fec.sender.GroupSender` documents the interface."""

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
        if not self.tx.data or n > self.max_payload:
            raise ValueError(f"{n} bytes are no shard of at most {self.max_payload}")
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
