# cython: language_level=3
"""Types of alarm.py, which is compiled with them (docs/adr/0008) and runs without them."""

cdef long long NEVER_MS


cdef class Alarm:
    cdef object _ring
    cdef object _then
    cdef object _watcher
    cdef readonly int fd
    cdef readonly long long at_ms

    cpdef set(self, long long at_ms)
    cpdef close(self)
    cpdef _rang(self)
    cpdef ring(self)
