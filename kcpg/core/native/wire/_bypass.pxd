"""The way past the splice. Included by _wire.pxd; the plain engine has none."""

cdef enum:
    LITTLE_SEGMENTS = 4             # what a bypass takes at once, as kcpg.net.bypass


cdef class Bypass:
    cdef bint carry(self, Conv conv) except -1


cdef class HopBypass(Bypass):
    cdef Conv onward                # of the next hop
    cdef bint packets               # what comes are packets, not a stream ...
    cdef bint datagrams             # ... and they shall travel on unreliably
