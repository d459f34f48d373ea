# cython: language_level=3
"""Types of dialer.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.flow cimport Open
from kcpg.core.native.link.convflow cimport ConvFlow
from kcpg.core.native.link.flowtable cimport FlowTable
from kcpg.core.native.leg cimport NativeLeg


cdef class _Waiting:
    cdef ConvFlow flow
    cdef Open open
    cdef long long since_ms


cdef class TunnelDialer(NativeLeg):
    cdef readonly object settings
    cdef readonly object keys
    cdef readonly object choice
    cdef public long long clock_offset_s
    cdef readonly str why_silent
    cdef object _incarnation
    cdef object _delivery
    cdef long long _paths
    cdef bint _running
    cdef dict _dialed
    cdef dict _owners
    cdef dict _woken
    cdef dict _due
    cdef object _due_ms
    cdef object _waiting
    cdef object _refusal
    cdef long long _inspected_ms
    cdef object _trim_ms
    cdef dict _leave_at_ms
    cdef object _retire_ms

    @cython.locals(flow=ConvFlow)
    cpdef dial(self, Open request, long long now_ms)
    cpdef advance(self, long long now_ms)
    cpdef wake(self, dialed)
    cpdef _own_deadline(self)
    cdef _set_due(self)
    cdef _serve_due(self, long long now_ms)
    cdef _link_for(self, long long waited_ms)
    @cython.locals(flows=FlowTable)
    cdef _open(self, link, ConvFlow flow, Open request)
    @cython.locals(first=_Waiting)
    cdef _serve_waiting(self, long long now_ms)
    @cython.locals(first=_Waiting)
    cdef _patience_ends_ms(self)
    @cython.locals(first=_Waiting)
    cdef _abort_waiting(self, reason)
