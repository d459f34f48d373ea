# The receiver of groups: what it keeps of a group is a chain of slots, so that any number of shards needs no
# memory of its own.


cdef inline uint32_t get_group(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline bint has(const fec_group_t* group, int index) noexcept nogil:
    return group.have[index >> 6] >> (index & 63) & 1


cdef void fec_rx_init(fec_rx_t* rx, Pool* pool) noexcept nogil:
    memset(rx, 0, sizeof(fec_rx_t))
    rx.pool = pool


cdef void release_rebuilt(fec_rx_t* rx) noexcept nogil:
    give_back(rx.pool, rx.rebuilt)
    rx.rebuilt = NULL


cdef void group_close(fec_rx_t* rx, fec_group_t* group) noexcept nogil:
    give_back(rx.pool, group.shards)
    group.shards = NULL
    group.held = 0
    group.closed = True


cdef void group_forget(fec_rx_t* rx, fec_group_t* group) noexcept nogil:
    if not group.used:
        return
    if group.count > group.have_data:
        rx.lost += group.count - group.have_data
    group_close(rx, group)
    group.used = False


cdef void fec_rx_forget(fec_rx_t* rx) noexcept nogil:
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


cdef fec_group_t* group_of(fec_rx_t* rx, uint32_t number, uint8_t data) noexcept nogil:
    """The group, made if need be; NULL if its shards disagree about the code."""
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


cdef fec_shard_t* room_for(fec_rx_t* rx, fec_group_t* group) noexcept nogil:
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
    cdef fec_shard_t* shard = room_for(rx, group)
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
    """What is known of a group that has enough of it, and the data shards that are not kept; their number."""
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


cdef void rebuild(fec_rx_t* rx, fec_group_t* group) noexcept nogil:
    """Rebuild the payloads the group lacks, if enough of it is there."""
    cdef known_t known
    cdef uint8_t missing[FEC_MAX_SHARDS]
    cdef int missing_count, n, index
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
        index = missing[n]
        if has(group, index):
            continue
        shard = room_for(rx, group)
        if shard == NULL:
            rx.unkept += 1
            break
        memset(fec_body(shard), 0, group.block_bytes)
        interpolate(fec_body(shard), &known, index)
        if not payload_of(shard, group.block_bytes):
            rx.malformed += 1
            slot_put(rx.pool, <uint8_t*>shard)
            continue
        rx.recovered += 1
        group.have[index >> 6] |= <uint64_t>1 << (index & 63)
        group.have_data += 1
        shard.next = NULL
        if last == NULL:
            rx.rebuilt = shard
        else:
            last.next = shard
        last = shard
    group_close(rx, group)


cdef int refuse(fec_rx_t* rx) noexcept nogil:
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
    group = group_of(rx, get_group(p), p[5])
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
    group = group_of(rx, get_group(p), p[5])
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
