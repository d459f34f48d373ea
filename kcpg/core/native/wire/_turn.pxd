"""See turn.py. Included by _wire.pxd."""

cdef enum:
    SLOT_BYTES = 1536               # most payload of a segment
    BUILD_DATAGRAMS = 128           # of one build: more would leave the L2 cache before they are sent
    TURN_SEGMENTS = 16              # of one conversation before the next has its turn
    COLD_TURNS = 4                  # conversations with full queues: 1.4 MB, more than an L2 cache has
    SHARD_ROOM_BYTES = 8            # type and header of a data shard: TYPE_BYTES + FEC_HEADER_BYTES


cdef struct turn_t:
    Tx* tx
    int start                       # its first datagram ...
    int first                       # ... and the first that may still become a shard
    bint shielded                   # those from there on have room for the header of one
    uint32_t longest                # bytes of a frame, its type included
    int64_t tokens                  # of the pacer, when the turn began
    int64_t now_ms
