# cython: language_level=3
"""Types of driver.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.node cimport Node
from kcpg.net.alarm cimport Alarm
from kcpg.net.clock cimport now_ms
from kcpg.net.coalesce cimport Coalescing
from kcpg.net.datagrams cimport DatagramIo
from kcpg.net.inlinepoll cimport InlinePoll, inline_poll
from kcpg.net.task cimport Task

cdef int BATCHES_PER_TURN
cdef int MOVES_PER_SERVE
cdef int ROUNDS_PER_TURN
cdef int LOOK_MS
cdef int AWAKE_MS
cdef int BLOCKED_MS
cdef long long NEVER_MS


cdef class Driver:
    cdef readonly Node node
    cdef object _report
    cdef object _loop
    cdef object _later
    cdef object _when_due
    cdef list _tunnels
    cdef bint _running
    cdef bint _touched
    cdef bint _due
    cdef int _moves
    cdef bint _serving
    cdef long long _advance_deadline_ms
    cdef long long _look_ms
    cdef Alarm _alarm
    cdef InlinePoll _inline

    cpdef request_advance(self)
    cpdef request_flush(self)
    cpdef flush_if_idle(self)
    @cython.locals(due_ms="long long")
    cpdef serve(self)
    cpdef crashed(self, what)
    cdef look_at(self, long long at_ms)
    @cython.locals(tunnel=_Tunnel, now="long long", served=bint)
    cpdef _rang(self)
    @cython.locals(alarm=Alarm)
    cdef _set_alarm(self, long long at_ms)
    @cython.locals(alarm=Alarm)
    cpdef _stay_awake(self)
    cpdef _serve_due(self)
    @cython.locals(tunnel=_Tunnel, now="long long", due_ms="long long", sent="long long", blocked=bint, _=int)
    cdef long long _rounds(self) except? -1
    @cython.locals(tunnel=_Tunnel)
    cdef bint _has_news(self) except -1
    cdef _advance(self, long long now)


cdef class _Tunnel:
    cdef readonly DatagramIo io
    cdef object _leg
    cdef object _sockets
    cdef Driver _driver
    cdef dict _receivers
    cdef object _blocked

    cpdef start(self)
    cpdef stop(self)
    cpdef bint is_blocked(self)
    @cython.locals(io=DatagramIo, before="long long", sent="long long", blocked="int")
    cpdef long long transmit(self, long long now) except -1
    cdef long long deadline_ms(self) except -2
    cdef bint has_news(self) except -1
    @cython.locals(receiver=_Receiver, served=bint)
    cdef bint inspect(self, long long now) except -1
    cdef long long coalesce_ms(self, long long now) except -1
    cdef long long receive(self, int number, long long now) except -1
    cdef bint has_more(self) except -1
    cdef _wait_writable(self, number)
    cdef _unblock(self)


cdef class _Receiver:
    cdef int _number
    cdef _Tunnel _tunnel
    cdef Driver _driver
    cdef bint _open
    cdef Coalescing _coalescing
    cdef Task _task

    cpdef start(self)
    cpdef stop(self)
    @cython.locals(look_ms="long long")
    cdef bint inspect(self, long long now) except -1
    cpdef bint _ready(self) except -1
    cdef bint _drain_safely(self) except -1
    @cython.locals(tunnel=_Tunnel, driver=Driver, _=int, now="long long", count="long long", served=bint)
    cdef bint _drain(self) except -1
    @cython.locals(
        tunnel=_Tunnel, coalescing=Coalescing, watched=bint, look_ms="long long")
    cdef _settle(self, long long now, long long count)
