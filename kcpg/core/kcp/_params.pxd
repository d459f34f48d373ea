# Part of _kcp.pxd: what a conversation can be told, and KCP's constants. Twin: params.py.

cdef enum:
    KCP_HEADER_BYTES = 24       # bytes of a segment's header
    KCP_QUEUE_SEGMENTS = 256    # most segments that write() leaves waiting behind the window
    KCP_MAX_FRAGMENTS = 127     # most fragments of one message (KCP keeps them in 7 bits)
    CMD_PUSH = 81
    CMD_ACK = 82
    CMD_ASK = 83
    CMD_TELL = 84
    FRG_FIRST = 0x80            # our own mark on the first fragment of a message (unordered conversations)
    FRG_REST = 0x7F             # fragments that follow
    WINDOW_MAX = 65535          # the window field on the wire has 16 bits
    REMOTE_WINDOW_START = 128   # IKCP_WND_RCV, assumed until the peer tells its own
    REBUILT_AGE_MS = 1 << 30    # older than anything in flight, and far from wrapping
    # kcp_flush() answers
    KCP_DONE = 0                # nothing more may be sent now
    KCP_MORE = 1                # Tx full or `max_segments` reached: call again
    KCP_PACED = 2               # Tx.tokens do not suffice for the next push

cdef struct kcp_params_t:       # as KcpParams
    int nodelay
    int interval_ms
    int resend
    bint nc
    uint32_t snd_wnd
    uint32_t rcv_wnd
    uint32_t min_rto_ms
