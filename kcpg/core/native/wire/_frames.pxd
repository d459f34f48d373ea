"""See frames.py. Included by _wire.pxd."""

cdef enum:
    MIN_DATAGRAM_BYTES = 32         # keeps the mask's sample, the last 16 bytes, clear of header and type
    MIN_PACKET_BYTES = 3            # shorter packets would be padded on the wire
    CMD_PUSH = 81                   # these two of segments, see kcpg/core/kcp/params.py
    CMD_ASK = 83
