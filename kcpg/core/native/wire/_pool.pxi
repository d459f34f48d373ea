"""Segment memory, which the plain engine leaves to Python: there is no twin. Included by _wire.pyx."""


cdef class SegmentPool:
    """Owns the slots of a leg's conversations; lives as long as the last of them."""

    def __cinit__(self, uint32_t slot_bytes, size_t max_slots):
        self.slots = pool_new(slot_bytes, max_slots)
        if self.slots == NULL:
            raise MemoryError()

    def __dealloc__(self):
        if self.slots != NULL:
            pool_free(self.slots)
