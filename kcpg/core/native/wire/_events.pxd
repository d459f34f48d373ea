"""See events.py. Included by _wire.pxd."""

cdef enum:
    FRAMES_LIMIT = 1024
    STRANGERS_LIMIT = 256


cdef class Events:
    cdef list waiting
    cdef int urgent                 # how many of them the leg has to act on now ...
    cdef int readies                # ... are READY ...
    cdef int frames                 # ... FRAME ...
    cdef int strangers              # ... and STRANGER

    cdef list take(self)
    cdef int bypass(self) except -1
    cdef void ready(self, Conv conv)
    cdef void drained(self, Conv conv)
    cdef void heard(self, LinkWire link_wire)
    cdef void begun(self, LinkWire link_wire)
    cdef void moved(self, LinkWire link_wire)
    cdef bint frame(self, LinkWire link_wire, int frame_type, bytes payload, const Path* path) except -1
    cdef bint stranger(self, const Path* path, const uint8_t* p, uint32_t n) except -1
