# cython: language_level=3
"""Types of driver.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.net.task cimport Task


cdef class Driver:
    cdef readonly object node
    cdef object _report
    cdef object _hub
    cdef list _tunnels
    cdef bint _running
    cdef bint _touched
    cdef bint _due
    cdef int _moves
    cdef bint _serving
    cdef long long _advance_at_ms
    cdef object _timer
    cdef long long _timer_at_ms

    cpdef touch(self)
    cpdef moved(self)
    cpdef serve(self)
    cpdef crashed(self, what)
    cpdef _serve_due(self)
    cpdef _on_timer(self)
    @cython.locals(tunnel=_Tunnel, now="long long", due_ms="long long", sent="long long", blocked=bint)
    cdef _rounds(self)
    @cython.locals(tunnel=_Tunnel)
    cdef bint _has_news(self)
    cdef _advance(self, long long now)
    cdef _arm(self, due_ms)
    cdef _disarm(self)


cdef class _Tunnel:
    cdef readonly object io
    cdef readonly object wire
    cdef object _leg
    cdef object _ports
    cdef Driver _driver
    cdef dict _receivers
    cdef object _blocked

    cpdef start(self)
    cpdef stop(self)
    cpdef bint is_blocked(self)
    @cython.locals(before="long long", blocked="long long")
    cpdef long long transmit(self, long long now) except -1
    cdef _wait_writable(self, number)
    cdef _unblock(self)


cdef class _Receiver:
    cdef object _number
    cdef object _io
    cdef Driver _driver
    cdef bint _open
    cdef Task _task

    cpdef start(self)
    cpdef stop(self)
    cpdef _ready(self)
    cdef _turn(self)
