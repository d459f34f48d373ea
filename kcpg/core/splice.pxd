# cython: language_level=3
"""Types of splice.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.flow cimport Flow, Moved, Open


cdef class Way:
    cdef Flow source
    cdef Flow sink
    cdef long long moved
    cdef long long dropped
    cdef bint done
    cdef bint busy
    cdef bint again


cdef class Splice:
    cdef object __weakref__
    cdef object _owner
    cdef Way _up
    cdef Way _down
    cdef bint _packets
    cdef readonly object kind
    cdef readonly Open open
    cdef readonly bint over

    cdef _join(self, Flow ingress, Flow egress, Open request)
    cpdef long long lost(self)
    @cython.locals(sink=Flow)
    cpdef Flow partner(self, Flow flow)
    cpdef bint ended(self, Flow source)
    @cython.locals(way=Way)
    cpdef Moved pump(self, Flow source)
    @cython.locals(way=Way)
    cpdef bypassed(self, Flow source, long long amount)
    @cython.locals(moved=Moved)
    cpdef run(self, Flow source)
    @cython.locals(way=Way)
    cpdef drop(self, Flow source, long long count=*)
    cpdef ready(self, Flow flow, int events)
    @cython.locals(partner=Flow)
    cpdef finished(self, Flow flow)
    cpdef expire(self)
    @cython.locals(partner=Flow)
    cpdef on_reset(self, Flow flow, reason)
    cpdef abort(self, reason)
    @cython.locals(source=Flow, sink=Flow, moved=Moved, total="long long", _="int")
    cdef Moved _pump(self, Way way)
    @cython.locals(source=Flow)
    cdef _discard(self, Way way)
    @cython.locals(source=Flow, sink=Flow)
    cdef _end(self, Way way)
    @cython.locals(flow=Flow)
    cdef _finish(self)
    @cython.locals(way=Way)
    cdef _detach(self)
    cdef Way _way(self, Flow source)


cdef long long _moved(Way way) except -1
