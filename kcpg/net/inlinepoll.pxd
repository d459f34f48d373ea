# cython: language_level=3
"""Types of inlinepoll.py, which is compiled with them (docs/adr/0008) and runs without them."""

cimport cython

from kcpg.net.alarm cimport Alarm
from kcpg.net.busypoll cimport AdaptiveBusyPoll
from kcpg.net.clock cimport now_ms

cdef int INLINE_MS


cdef class Served:
    cdef readonly int fd

    cpdef bint serve_inline(self) except -1


cdef class InlinePoll:
    cdef readonly object loop
    cdef public Alarm alarm
    cdef int _epoll
    cdef dict _watched
    cdef AdaptiveBusyPoll _poll
    cdef bint _asked
    cdef long long _asked_in

    cpdef watch(self, Served owner)
    cpdef unwatch(self, Served owner)
    cpdef exit(self)
    @cython.locals(end_ms="long long")
    cpdef enter(self)
    cdef bint _may_enter(self) except -1
    @cython.locals(alarm=Alarm, owner=Served, fd=int)
    cdef bint _serve_next(self, long long end_ms) except -1
    cdef bint _is_loop_asked(self) except -1


cpdef InlinePoll inline_poll(loop)
