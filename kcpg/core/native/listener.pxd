# cython: language_level=3
"""Types of listener.py, which is compiled with them (docs/adr/0008) and runs without them."""
from kcpg.core.flow cimport Open
from kcpg.core.native.link.convflow cimport ConvFlow
from kcpg.core.native.leg cimport NativeLeg


cdef class TunnelListener(NativeLeg):
    cdef readonly object settings
    cdef public object on_flow
    cdef object _responder
    cdef object _half_open
    cdef object _shares
    cdef tuple _most
    cdef readonly dict _of_dialer
    cdef dict _requests
    cdef dict _left
    cdef bint _closed
    cdef object _drain
    cdef readonly object users
    cdef object _look_ms
    cdef object _shape_ms

    cpdef advance(self, long long now_ms)
    cpdef _own_deadline(self)
    cpdef _flow(self, ConvFlow flow, Open request, long long now_ms)
    cpdef _users_flow(self, bytes user_key, ConvFlow flow, Open request, long long now_ms)
