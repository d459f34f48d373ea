# Part of _wire.pyx: shards, made and put together where they lie. Declared in _fec.pxd; twin: fec.py, which
# finds out the peer's shape and rebuilds what is lost.


@cython.final
cdef class ShardSender:
    """Makes the shards of one link; see `kcpg.core.kcptun.fec.ShardSender`."""

    def __init__(self, int data=0, int parity=0):
        self.use(data, parity)

    def __dealloc__(self):
        free(self.sums)

    def use(self, int data, int parity):
        """Begin groups of this shape; numbers go on."""
        cdef uint32_t length = max(data + parity, 1)
        free(self.sums)
        self.sums = NULL
        self.data = self.parity = self.filled = self.due = 0
        self.longest = 0
        if data > 0:
            self.sums = <uint8_t*>calloc(max(parity, 1), DATAGRAM_BYTES)
            if self.sums == NULL:
                raise MemoryError()
            self.rows = b"".join(plain_fec.parity_rows(data, parity))
        self.data, self.parity = data, parity
        self.end = <uint32_t>0xFFFFFFFF // length * length
        self.number = <uint32_t>((<uint64_t>self.number + length - 1) // length * length % self.end)

    def frames(self, bytes body):
        """The shard of a body, and the parity if it completes a group."""
        cdef uint8_t shard[OVERHEAD_BYTES + DATAGRAM_BYTES]
        cdef uint32_t n = <uint32_t>len(body)
        cdef list found = []
        assert n <= DATAGRAM_BYTES - SIZE_BYTES
        memcpy(shard + OVERHEAD_BYTES, <const uint8_t*>body, n)
        self.dress(shard, n)
        found.append(<bytes>shard[:OVERHEAD_BYTES + n])
        while self.due > 0:
            n = self.put_parity(shard)
            found.append(<bytes>shard[:n])
        return found

    cdef void put_header(self, uint8_t* p, uint32_t kind) noexcept:
        put32(p, self.number)
        put16(p + 4, kind)
        self.number = self.number + 1 if self.number + 1 < self.end else 0

    cdef void dress(self, uint8_t* p, uint32_t n) noexcept:
        """Put the header in front of a body of n bytes at p + OVERHEAD_BYTES, and add it to its group."""
        cdef const uint8_t* row = <const uint8_t*>self.rows if self.data > 0 else NULL
        cdef int r
        self.put_header(p, DATA)
        put16(p + SHARD_BYTES, n + SIZE_BYTES)
        if self.data == 0:
            return
        n += SIZE_BYTES
        for r in range(self.parity):
            fec_encode_row(
                self.sums + r * DATAGRAM_BYTES, p + SHARD_BYTES, row[r * self.data + self.filled], n)
        self.longest = max(self.longest, n)
        self.filled += 1
        if self.filled == self.data:
            self.filled = 0
            self.due = self.parity
            self.groups += 1
            if self.parity == 0:
                self.longest = 0

    cdef uint32_t put_parity(self, uint8_t* p) noexcept:
        """The next parity shard of the full group; its bytes."""
        cdef uint8_t* total = self.sums + (self.parity - self.due) * DATAGRAM_BYTES
        cdef uint32_t n = self.longest
        self.put_header(p, PARITY)
        memcpy(p + SHARD_BYTES, total, n)
        memset(total, 0, n)
        self.parity_bytes += n
        self.due -= 1
        if self.due == 0:
            self.longest = 0
        return SHARD_BYTES + n


@cython.final
cdef class ShardReceiver:
    """Rebuilds what is missing of a link's groups; see `kcpg.core.kcptun.fec.ShardReceiver`."""

    def __cinit__(self):
        memset(self.groups, 0, sizeof(self.groups))

    def __init__(self, uint32_t number):
        self.number = number
        self.shape = plain_fec.Shape()

    def __dealloc__(self):
        self.forget_groups()

    @property
    def held(self):
        """Shards kept."""
        cdef int i, total = 0
        for i in range(GROUPS):
            if self.groups[i].is_used and not self.groups[i].is_done:
                total += self.groups[i].count
        return total

    def take(self, uint32_t number, bint is_data, bytes block):
        """The bodies that this shard makes it possible to rebuild. `block`: what parity covers."""
        return self.take_at(number, is_data, <const uint8_t*>block, <uint32_t>len(block)) or []

    cdef void forget_groups(self) noexcept:
        cdef int i
        for i in range(GROUPS):
            free(self.groups[i].length)
            free(self.groups[i].blocks)
        memset(self.groups, 0, sizeof(self.groups))

    cdef bint learn(self, uint32_t number, bint is_data) except -1:
        """Whether D and P are known and agree with this shard."""
        cdef uint32_t total
        if self.data == 0:
            self.data, self.parity = self.shape.data, self.shape.parity
        total = self.data + self.parity
        if self.data > 0 and (number % total < <uint32_t>self.data) == is_data:
            return True
        if not self.shape.learn(number, is_data):
            self.forget_groups()
            self.data = self.parity = 0
            return False
        self.data, self.parity = self.shape.data, self.shape.parity
        self.forget_groups()
        self.newest = number // <uint32_t>(self.data + self.parity)
        return True

    cdef shards_t* group_of(self, uint32_t group) except? NULL:
        """The place of a group, made if need be; NULL: it is too old."""
        cdef shards_t* found = &self.groups[group % GROUPS]
        cdef int i
        if group > self.newest or self.newest - group > <uint32_t>0xFFFFFFFF // (2 * MAX_SHARDS):
            self.newest = group
            for i in range(GROUPS):
                if group - self.groups[i].group >= GROUPS:      # above it, too: of a peer that began anew
                    self.groups[i].is_used = False
        if self.newest - group >= GROUPS:
            return NULL
        if found.is_used and found.group == group:
            return found
        if found.length == NULL:
            found.length = <uint16_t*>calloc(self.data + self.parity, sizeof(uint16_t))
            found.blocks = <uint8_t*>malloc(<size_t>(self.data + self.parity) * DATAGRAM_BYTES)
            if found.length == NULL or found.blocks == NULL:
                raise MemoryError()
        memset(found.length, 0, (self.data + self.parity) * sizeof(uint16_t))
        found.group = group
        found.is_used = True
        found.is_done = False
        found.count = 0
        return found

    cdef list take_at(self, uint32_t number, bint is_data, const uint8_t* block, uint32_t n):
        """As `take`; None: nothing."""
        cdef uint32_t total, place
        cdef shards_t* found
        cdef int i
        cdef dict shards
        if n > DATAGRAM_BYTES or not self.learn(number, is_data):
            return None
        total = self.data + self.parity
        place = number % total
        found = self.group_of(number // total)
        if found == NULL or found.is_done or found.length[place] > 0:
            return None
        memcpy(found.blocks + place * DATAGRAM_BYTES, block, n)
        found.length[place] = <uint16_t>(n + 1)
        found.count += 1
        if found.count < self.data:
            return None
        found.is_done = True
        for i in range(self.data):
            if found.length[i] == 0:
                break
        else:
            return None
        shards = {}
        for i in range(<int>total):
            if found.length[i] > 0:
                n = found.length[i] - 1
                shards[i] = <bytes>found.blocks[i * DATAGRAM_BYTES : i * DATAGRAM_BYTES + <int>n]
        good, lost = plain_fec.rebuild(self.data, shards, self.number)
        self.rebuilt += len(good)
        self.untrusted += lost - len(good)
        return good
