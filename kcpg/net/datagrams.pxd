# cython: language_level=3
"""Types of datagrams.py, which is compiled with them (docs/adr/0008) and runs without them."""


cdef class DatagramIo:
    cdef public object errors
    cdef public unsigned long long datagrams_in
    cdef public unsigned long long datagrams_out
    cdef public bint more

    cpdef long long receive(self, unsigned int sock_id, unsigned long long now_ms) except -1
    cpdef int transmit(self, unsigned long long now_ms) except -2
    cpdef long long deadline_ms(self) except -2
    cpdef int coalesce_ms(self, unsigned long long now_ms) except -1
    cpdef bint has_news(self) except -1
    cpdef bint troubled(self) except -1
