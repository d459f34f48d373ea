# cython: language_level=3
"""Types of task.py, which is compiled with them (docs/adr/0008) and runs without them."""

cimport cython

from kcpg.net.alarm cimport Alarm
from kcpg.net.clock cimport now_ms
from kcpg.net.vigil cimport Vigil

cdef int LINGER_MS


cdef class Linger:
    cdef readonly object loop
    cdef public Alarm alarm
    cdef int _epoll
    cdef dict _tasks
    cdef Vigil _vigil
    cdef bint _asked
    cdef long long _asked_in

    cpdef started(self, Task task)
    cpdef stopped(self, Task task)
    cpdef leave(self)
    @cython.locals(alarm=Alarm, end_ms="long long", task=Task)
    cpdef stay(self)
    cdef bint _is_asked(self) except -1


cpdef Linger linger(loop)


cdef class Task:
    cdef Linger _linger
    cdef object _turn
    cdef object _first
    cdef object _loop
    cdef object _watcher
    cdef object _timer
    cdef int _fd
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
    cdef bint _serve_first(self) except -1
    cdef _begin(self)
    cdef _run(self)
    cdef _disarm(self)


cpdef _serve(Task task)
