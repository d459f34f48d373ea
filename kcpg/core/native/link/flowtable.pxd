# cython: language_level=3
"""Types of flowtable.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.flow cimport Open
from kcpg.core.native.link.convflow cimport ConvFlow
from kcpg.core.native.link.open_message cimport OpenMessage


cdef class _Tombstone:
    cdef public object reason
    cdef readonly long long expires_ms
    cdef public object told_ms


cdef class FlowTable:
    cdef public long long now_ms
    cdef readonly dict flows
    cdef object _link_wire
    cdef object _params
    cdef object _counters
    cdef long long _limit
    cdef object _on_flow
    cdef object _touch
    cdef long long _next_conv
    cdef long long _floor
    cdef dict _pending
    cdef long long _opens_us
    cdef dict _tombstones
    cdef object _buried
    cdef dict _resets
    cdef list _reset_times
    cdef object _draining
    cdef list _ended

    cpdef dial(self, ConvFlow flow, Open request)
    @cython.locals(number="long long")
    cdef long long _enter(self, ConvFlow flow)
    @cython.locals(flow=ConvFlow)
    cpdef ready(self, conv)
    cpdef abort(self, ConvFlow flow, reason)
    cpdef drain(self, ConvFlow flow)
    @cython.locals(flow=ConvFlow)
    cpdef drained(self, conv)
    @cython.locals(flow=ConvFlow, tomb=_Tombstone)
    cpdef advance(self, long long now_ms)
    cpdef deadline(self)
    cpdef _accept(self, number)
    @cython.locals(flow=ConvFlow, opening=OpenMessage, request=Open)
    cdef _opened(self, conv)
    cdef _finish(self, ConvFlow flow)
    cdef _forget(self, number, reason)
    @cython.locals(tomb=_Tombstone)
    cdef _Tombstone _bury(self, number, reason)
    cdef _forget_oldest(self)
