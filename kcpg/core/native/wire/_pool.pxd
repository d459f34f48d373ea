"""Segment memory, which the plain engine leaves to Python. Included by _wire.pxd."""

cdef enum:
    FEC_POOL_SHARE = 2              # shards kept by all links have a quarter of the memory of segments


cdef class SegmentPool:
    cdef Pool* slots
