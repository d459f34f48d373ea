# cython: language_level=3
"""Types of leg.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.native.link.flowtable cimport FlowTable


cdef class NativeLeg:
    cdef readonly str name
    cdef public object env
    cdef readonly object entropy
    cdef readonly object wire
    cdef readonly object cids
    cdef readonly object counters
    cdef public long long now_ms
    cdef dict _links
    cdef dict _touched
    cdef list _timers
    cdef long long _timer_count
    cdef dict _ready
    cdef object _reporter

    cpdef advance(self, long long now_ms)
    cpdef deadline(self)
    cpdef advance_deadline(self)
    cpdef link_touched(self, link)
    cpdef link_active(self, link)
    cpdef _own_deadline(self)
    @cython.locals(flows=FlowTable)
    cdef _serve_ready(self, long long now_ms)
    @cython.locals(event=tuple, flows=FlowTable)
    cdef _serve_events(self, long long now_ms)
    cdef _set_timers(self)
    cdef _arm(self, link, due_ms)
    cdef _serve_timers(self, long long now_ms)
