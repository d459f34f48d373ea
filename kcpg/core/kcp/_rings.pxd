# Part of _kcp.pxd: what is known of each segment, as one array per fact. No twin: plain Python has
# dictionaries of `Sent` and `_Arrived`.

cdef struct snd_ring_t:         # [snd_una, snd_nxt) in flight, [snd_nxt, snd_end) queued; index sn & mask
    uint32_t cap                # 0 (nothing allocated) or a power of two
    uint8_t** slot              # start of the one allocation for all arrays; NULL slot: empty payload
    uint32_t* ts                # last transmission
    uint32_t* first_ts          # first transmission
    uint16_t* rto               # after time-outs, backed off; 0: the conversation's
    uint16_t* len
    uint16_t* skips             # datagrams that acknowledged later segments, sent no earlier than `ts`
    uint8_t* frg
    uint8_t* flags

cdef struct rcv_ring_t:         # [rcv_read, rcv_end); index sn & mask
    uint32_t cap
    uint8_t** slot
    uint32_t* next              # unordered: first sn of the message that became ready after this one
    uint16_t* len
    uint8_t* frg
    uint8_t* flags

cdef struct ack_t:
    uint32_t sn
    uint32_t ts
