"""See events.py. Included by _wire.pxd."""

cdef enum:
    FRAMES_LIMIT = 1024
    FRAMES_SHARE = 512      # of one link
    STRANGERS_LIMIT = 256


@cython.final
cdef class Events:
    cdef list waiting
    cdef int urgent                 # how many of them the leg has to act on now ...
    cdef int readies                # ... are READY ...
    cdef int frames                 # ... FRAME ...
    cdef int strangers              # ... and STRANGER

    cdef list take(self)
    cdef int bypass(self) except -1
    cdef int ready(self, Conv conv) except -1
    cdef int drained(self, Conv conv) except -1
    cdef int heard(self, LinkWire link_wire) except -1
    cdef int begun(self, LinkWire link_wire) except -1
    cdef int moved(self, LinkWire link_wire) except -1
    cdef bint frame(self, LinkWire link_wire, int frame_type, bytes payload, const Path* path) except -1
    cdef bint stranger(self, const Path* path, const uint8_t* p, uint32_t n) except -1
