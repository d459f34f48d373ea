# Part of _wire.pxd: the frames in the byte stream. Twin: smux.py.

cdef enum:
    FRAME_BYTES = 8             # before the data
    UPDATE_BYTES = 8


@cython.final
cdef class Parser:
    cdef public int version
    cdef uint8_t begun[FRAME_BYTES + UPDATE_BYTES]  # a frame whose header, or UPD, is not all there
    cdef uint32_t have              # bytes of that
    cdef uint32_t left              # bytes of a stream that are still to come
    cdef uint32_t stream

    cdef bint is_whole(self) except -1
