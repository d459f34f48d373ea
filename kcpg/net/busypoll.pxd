# cython: language_level=3
"""Types of busypoll.py, which is compiled with them (docs/adr/0008) and runs without them."""

cimport cython

from kcpg.net cimport _sock as sock
from kcpg.net.clock cimport now_us

cdef int SPIN_US, NEAR_US, PAYS_US, LONG_US, WAITS, TRIAL_WAITS, PAUSE_WAITS, REST_WAITS, PREEMPTED_US
cdef int NOTHING_YET


cdef class AdaptiveBusyPoll:
    cdef readonly int spin_us
    cdef double _mean_us
    cdef int _judged_in

    @cython.locals(began="long long", found=int)
    cpdef int next_ready(self, int epoll) except -2
    cpdef observe(self, long long us)
    cpdef preempted(self)
