# cython: language_level=3
"""Types of local.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.flow cimport Flow, Open
from kcpg.net.local_tcp cimport TcpFlow


cdef class LocalLeg:
    cdef public object request_advance
    cdef public object request_flush
    cdef public object flush_if_idle
    cdef readonly set flows
    cdef readonly object counters
    cdef object _report

    cpdef forget(self, Flow flow)


cdef class LocalListener(LocalLeg):
    cdef readonly object settings
    cdef object _inherited
    cdef public object on_flow
    cdef readonly list tcp_ports
    cdef readonly list udp_ports
    cdef set _greetings
    cdef set _relays

    @cython.locals(fd="int", _="int")
    cpdef accept(self, port)
    @cython.locals(flow=TcpFlow)
    cdef _accepted(self, int fd, bytes where, port)


cdef class LocalDialer(LocalLeg):
    cdef public object settings
    cdef public object _resolver
    cdef object _loops
    cdef object _line
    cdef object _allow
    cdef public object users
    cdef public object _family
    cdef bytes _addr

    @cython.locals(fd="int", error="int")
    cpdef dial(self, Open open, now_ms)
