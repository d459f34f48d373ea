# cython: language_level=3
"""Types of task.py, which is compiled with them (docs/adr/0008) and runs without them."""

from kcpg.net.inlinepoll cimport InlinePoll, Served


cdef class Task(Served):
    cdef InlinePoll _inline
    cdef object _turn
    cdef object _first
    cdef object _loop
    cdef object _watcher
    cdef object _timer
    cdef int _events
    cdef bint _armed
    cdef bint _due
    cdef bint _running
    cdef bint _again
    cdef readonly bint waits_io

    cpdef wake(self)
    cpdef wait(self, at_most_ms=*)
    cpdef wait_io(self, at_most_ms=*)
    cpdef close(self)
    cdef _set_timer(self, after_ms)
    cpdef _resume(self)
    cpdef _ready(self)
    cpdef bint serve_inline(self) except -1
    cdef _begin(self)
    cdef _run(self)
    cdef _disarm(self)


cpdef _serve(Task task)
