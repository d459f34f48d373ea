# cython: language_level=3
"""Types of convflow.py, which is compiled with them (docs/adr/0008) and runs without them."""
from kcpg.core.flow cimport Flow, Moved


cdef class ConvFlow(Flow):
    cdef object _table
    cdef bint _tcp
    cdef public object conv
    cdef public object delivery
    cdef public bint ended
    cdef public bint heard_end
    cdef public bint draining
    cdef public bint bypasses
    cdef public bint peer_finished

    cpdef attach(self, table, conv)
    cpdef change_table(self, table)
    cpdef notice(self, int events)
    cpdef aborted(self, reason)
    cdef bint _meets(self, Flow sink)
    cdef bint _reached_end(self)
