"""See headers.py. Included by _wire.pxd."""

cdef enum:
    HEADER_BYTES = 8                # CID and the low half of the packet number
    TYPE_BYTES = 1
    TAG_BYTES = 16
    OVERHEAD_BYTES = 25
