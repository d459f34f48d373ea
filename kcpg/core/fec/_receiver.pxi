# Part of _fec.pyx: the receiver of groups. What it keeps of a group is a chain of slots, so that any number
# of shards needs no memory of its own. Declared in _receiver.pxd; twin: receiver.py.

cdef enum:
    LATE_IN_A_ROW = 256         # shards of forgotten groups and none of a current one: the peer counts anew


cdef inline bint has(const fec_group_t* group, int index) noexcept nogil:
    """Whether a data shard was handed on, or a parity shard taken."""
    return group.have[index >> 6] >> (index & 63) & 1


cdef void fec_rx_init(fec_rx_t* rx, Pool* pool) noexcept nogil:
    """A receiver that knows no group; allocates nothing."""
    memset(rx, 0, sizeof(fec_rx_t))
    rx.pool = pool


cdef void release_rebuilt(fec_rx_t* rx) noexcept nogil:
    """What the last call rebuilt was handed on."""
    give_back(rx.pool, rx.rebuilt)
    rx.rebuilt = NULL


cdef void group_close(fec_rx_t* rx, fec_group_t* group) noexcept nogil:
    """A group is complete or given up: keep nothing more of it."""
    give_back(rx.pool, group.shards)
    group.shards = NULL
    group.held = 0
    group.closed = True


cdef void group_forget(fec_rx_t* rx, fec_group_t* group) noexcept nogil:
    """A group leaves the window; count what it lacked."""
    if not group.used:
        return
    if group.count > group.have_data:
        rx.lost += group.count - group.have_data
    group_close(rx, group)
    group.used = False


cdef void fec_rx_forget(fec_rx_t* rx) noexcept nogil:
    """Give up every group and the memory it holds, as when nothing came for a while. Safe at any time."""
    cdef int at
    for at in range(FEC_GROUPS):
        group_forget(rx, &rx.groups[at])
    release_rebuilt(rx)


cdef bint is_late(fec_rx_t* rx, uint32_t number) noexcept nogil:
    """Whether the group is forgotten already; otherwise the window moves so that it holds the group."""
    cdef int32_t ahead
    cdef int step
    if not rx.started:
        rx.started = True
        rx.newest = number
    ahead = diff32(number, rx.newest)
    if ahead <= -FEC_GROUPS:
        rx.late += 1
        rx.late_in_a_row += 1
        if rx.late_in_a_row < LATE_IN_A_ROW:
            return True
        fec_rx_forget(rx)
        rx.newest = number
    rx.late_in_a_row = 0
    if ahead > 0:
        for step in range(1, (ahead if ahead < FEC_GROUPS else FEC_GROUPS) + 1):
            group_forget(rx, &rx.groups[(rx.newest + <uint32_t>step) % FEC_GROUPS])
        rx.newest = number
    return False


cdef fec_group_t* find_group(fec_rx_t* rx, uint32_t number, uint8_t data) noexcept nogil:
    """The group, begun if it is new; NULL if its shards disagree about the code."""
    cdef fec_group_t* group = &rx.groups[number % FEC_GROUPS]
    if not group.used:
        memset(group, 0, sizeof(fec_group_t))
        group.used = True
        group.number = number
        group.data = data
    return group if group.data == data else NULL


cdef bint agrees(fec_group_t* group, uint8_t count, uint32_t length) noexcept nogil:
    """Whether a parity shard fits what came before; the first one tells the group's size."""
    cdef fec_shard_t* shard = group.shards
    cdef int index
    if group.count:
        return count == group.count and length == group.block_bytes
    for index in range(count, group.data):
        if has(group, index):
            return False
    while shard != NULL:
        if shard.len > length:
            return False
        shard = shard.next
    group.count = count
    group.block_bytes = length
    return True


cdef fec_shard_t* make_room(fec_rx_t* rx, fec_group_t* group) noexcept nogil:
    """A slot for `group`, if need be by giving up the oldest other group; NULL: none."""
    cdef uint8_t* slot = slot_get(rx.pool)
    cdef fec_group_t* other
    cdef int age
    if slot != NULL:
        return <fec_shard_t*>slot
    for age in range(FEC_GROUPS - 1, -1, -1):
        other = &rx.groups[(rx.newest - <uint32_t>age) % FEC_GROUPS]
        if other.used and other != group and other.shards != NULL:
            group_close(rx, other)
            return <fec_shard_t*>slot_get(rx.pool)
    return NULL


cdef void keep(
    fec_rx_t* rx, fec_group_t* group, int index, const uint8_t* p, uint32_t n, bint prefixed
) noexcept nogil:
    """Store p[0..n) as a block of the group; a payload gets its length in front."""
    cdef fec_shard_t* shard = make_room(rx, group)
    cdef uint8_t* block
    if shard == NULL:
        rx.unkept += 1
        return
    block = fec_body(shard)
    shard.index = <uint8_t>index
    shard.len = n
    if not prefixed:
        block[0] = <uint8_t>(n >> 8)
        block[1] = <uint8_t>n
        block += FEC_PREFIX_BYTES
        shard.len += FEC_PREFIX_BYTES
    memcpy(block, p, n)
    shard.next = group.shards
    group.shards = shard
    group.held += 1


cdef int gather(const fec_group_t* group, known_t* known, uint8_t* missing) noexcept nogil:
    """List the shards known of a group and the data shards that are not kept; answers how many those are."""
    cdef fec_shard_t* by_index[256]
    cdef fec_shard_t* shard = group.shards
    cdef int index
    cdef int missing_count = 0
    memset(by_index, 0, sizeof(by_index))
    while shard != NULL:
        by_index[shard.index] = shard
        shard = shard.next
    known.count = 0
    for index in range(256):
        shard = by_index[index]
        if shard != NULL and known.count < group.data:
            know(known, index, fec_body(shard), shard.len)
        elif group.count <= index < group.data:
            know(known, index, NULL, 0)     # a block of zeros that never travelled
        elif index < group.data:
            missing[missing_count] = <uint8_t>index
            missing_count += 1
    return missing_count


cdef bint payload_of(fec_shard_t* shard, uint32_t block_bytes) noexcept nogil:
    """Set `len` to that of the payload in a rebuilt block; False if it is none."""
    cdef uint8_t* block = fec_body(shard)
    cdef uint32_t at
    shard.len = (<uint32_t>block[0] << 8) | block[1]
    if shard.len + FEC_PREFIX_BYTES > block_bytes:
        return False
    for at in range(shard.len + FEC_PREFIX_BYTES, block_bytes):
        if block[at]:
            return False
    return True


cdef inline bint rebuild_one(
    const fec_group_t* group, const known_t* known, int index, fec_shard_t* shard
) noexcept nogil:
    """Put the payload of data shard `index` into `shard`. False: the known shards do not belong together."""
    memset(fec_body(shard), 0, group.block_bytes)
    interpolate(fec_body(shard), known, index)
    return payload_of(shard, group.block_bytes)


cdef inline void note_rebuilt(
    fec_rx_t* rx, fec_group_t* group, int index, fec_shard_t* shard, fec_shard_t** last
) noexcept nogil:
    """Count a rebuilt payload and append it to the chain, whose end is `last` (NULL: it is empty)."""
    rx.recovered += 1
    group.have[index >> 6] |= <uint64_t>1 << (index & 63)
    group.have_data += 1
    shard.next = NULL
    if last[0] == NULL:
        rx.rebuilt = shard
    else:
        last[0].next = shard
    last[0] = shard


cdef void rebuild(fec_rx_t* rx, fec_group_t* group) noexcept nogil:
    """Rebuild the payloads the group lacks, if enough of it is there."""
    cdef known_t known
    cdef uint8_t missing[FEC_MAX_SHARDS]
    cdef int missing_count, n
    cdef fec_shard_t* shard
    cdef fec_shard_t* last = NULL
    if group.count == 0 or group.held < group.count:
        return
    missing_count = gather(group, &known, missing)
    if rx.weights_data != group.data:
        data_weights(rx.weights, group.data)
        rx.weights_data = group.data
    weigh(&known, group.data, rx.weights, missing, missing_count)
    for n in range(missing_count):
        if has(group, missing[n]):
            continue
        shard = make_room(rx, group)
        if shard == NULL:
            rx.unkept += 1
            break
        if rebuild_one(group, &known, missing[n], shard):
            note_rebuilt(rx, group, missing[n], shard, &last)
        else:
            rx.malformed += 1
            slot_put(rx.pool, <uint8_t*>shard)
    group_close(rx, group)


cdef int refuse(fec_rx_t* rx) noexcept nogil:
    """Count a malformed shard."""
    rx.malformed += 1
    return FEC_MALFORMED


cdef inline bint is_code(const uint8_t* p) noexcept nogil:
    """Whether the D and R of a header can be."""
    return p[5] >= 1 and p[5] + p[6] <= FEC_MAX_SHARDS


cdef bint takes(fec_rx_t* rx, fec_group_t* group, int index) noexcept nogil:
    """Note a shard as there; False if it was already."""
    if has(group, index):
        rx.duplicates += 1
        return False
    group.have[index >> 6] |= <uint64_t>1 << (index & 63)
    return True


cdef int fec_rx_data(fec_rx_t* rx, const uint8_t* p, uint32_t n) noexcept nogil:
    """Take the contents of a FEC_DATA frame. If `fresh`, p[FEC_HEADER_BYTES .. n) is to be handed on."""
    cdef fec_group_t* group
    cdef uint32_t length
    release_rebuilt(rx)
    rx.fresh = False
    if n < FEC_HEADER_BYTES or n - FEC_HEADER_BYTES + FEC_SLOT_EXTRA > rx.pool.slot_bytes:
        return refuse(rx)
    if not is_code(p) or p[4] >= p[5]:
        return refuse(rx)
    if is_late(rx, get_group(p)):
        rx.fresh = True
        return FEC_LATE
    group = find_group(rx, get_group(p), p[5])
    length = n - FEC_HEADER_BYTES + FEC_PREFIX_BYTES
    if group == NULL or (group.count and (p[4] >= group.count or length > group.block_bytes)):
        return refuse(rx)
    if not takes(rx, group, p[4]):
        return FEC_DUPLICATE
    group.have_data += 1
    rx.fresh = True
    if group.closed:
        return FEC_OK
    if group.have_data == (group.count if group.count else group.data):
        group_close(rx, group)
        return FEC_OK
    keep(rx, group, p[4], p + FEC_HEADER_BYTES, n - FEC_HEADER_BYTES, False)
    rebuild(rx, group)
    return FEC_OK


cdef int fec_rx_parity(fec_rx_t* rx, const uint8_t* p, uint32_t n) noexcept nogil:
    """Take the contents of a FEC_PARITY frame."""
    cdef fec_group_t* group
    release_rebuilt(rx)
    rx.fresh = False
    if n < FEC_PARITY_HEADER_BYTES + FEC_PREFIX_BYTES:
        return refuse(rx)
    if not is_code(p) or p[4] < p[5] or p[4] >= p[5] + p[6] or p[7] < 1 or p[7] > p[5]:
        return refuse(rx)
    if n - FEC_PARITY_HEADER_BYTES - FEC_PREFIX_BYTES + FEC_SLOT_EXTRA > rx.pool.slot_bytes:
        return refuse(rx)
    if is_late(rx, get_group(p)):
        return FEC_LATE
    group = find_group(rx, get_group(p), p[5])
    if group == NULL or not agrees(group, p[7], n - FEC_PARITY_HEADER_BYTES):
        return refuse(rx)
    if not takes(rx, group, p[4]):
        return FEC_DUPLICATE
    if group.closed:
        return FEC_OK
    if group.have_data == group.count:
        group_close(rx, group)
        return FEC_OK
    keep(rx, group, p[4], p + FEC_PARITY_HEADER_BYTES, n - FEC_PARITY_HEADER_BYTES, True)
    rebuild(rx, group)
    return FEC_OK


cdef list rebuilt_payloads(const fec_rx_t* rx):
    cdef fec_shard_t* shard = rx.rebuilt
    cdef list out = []
    while shard != NULL:
        out.append(PyBytes_FromStringAndSize(<char*>fec_body(shard) + FEC_PREFIX_BYTES, shard.len))
        shard = shard.next
    return out


cdef class GroupReceiver:
    """Takes shards and gives payloads; `kcpg.core.fec.receiver.GroupReceiver` documents the interface."""

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
