# cython: language_level=3
"""Types of node.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.flow cimport Flow, Open
from kcpg.core.splice cimport Splice


cdef class Node:
    cdef object __weakref__
    cdef readonly object ingress
    cdef readonly object egress
    cdef readonly object settings
    cdef readonly object counters
    cdef readonly tuple tunnels
    cdef readonly dict splices
    cdef object _report
    cdef object _own
    cdef bint _tells_all
    cdef readonly object _later
    cdef readonly object _idle
    cdef bint _closed
    cdef long long _max_flows
    cdef dict _of_asker

    @cython.locals(splice=Splice, source=Flow)
    cpdef advance(self, long long now_ms)
    cpdef deadline(self)
    cpdef advance_deadline(self)
    cdef _with_own(self, due_ms)
    cpdef bint is_left_over(self) except -1
    @cython.locals(splice=Splice, egress=Flow)
    cpdef _on_flow(self, Flow flow, Open request, long long now_ms)
    cdef _dial(self, Open request, long long now_ms)
    @cython.locals(dropped="long long")
    cpdef splice_over(self, Splice splice, reason)
    cpdef splice_later(self, Splice splice, Flow source)
    cdef _tell(self, event)
    cdef _check_idle(self, long long now_ms)
