# cython: language_level=3
"""Types of local_tcp.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.flow cimport Flow, Moved, copy_bytes
from kcpg.core.splice cimport Splice
from kcpg.net.bypass cimport conv_of, has_little
from kcpg.net._bypass cimport TcpBypass
from kcpg.net.task cimport Task

cdef int TURNS
cdef int SHORT_READ
cdef int NO_ROOM
cdef int EAGAIN
cdef int ENOBUFS


cdef class TcpFlow(Flow):
    cdef object __weakref__
    cdef public object dial
    cdef object _host
    cdef TcpBypass _bypass
    cdef int _fd
    cdef Task _reader
    cdef Task _writer
    cdef readonly bytes _pending        # tests add it up
    cdef bint _ending
    cdef bint _shut
    cdef bint _released
    cdef bint _starved

    cpdef adopt(self, int fd)
    @cython.locals(bypass=TcpBypass, count=int, total="long long", _=int)
    cpdef Moved move_to(self, Flow sink)
    @cython.locals(bypass=TcpBypass)
    cpdef Moved pull(self, Flow source)
    cdef TcpBypass _bypass_of(self, Flow partner)
    @cython.locals(count=int, total="long long", _=int)
    cdef Moved _pull_segments(self, Flow source, TcpBypass bypass)
    @cython.locals(reader=Task, writer=Task)
    cpdef wake(self, int events)
    @cython.locals(splice=Splice, partner=Flow, moved=Moved)
    cdef bint _write_little(self)
    @cython.locals(splice=Splice)
    cpdef end(self)
    cdef _shutdown(self)
    cdef _broken(self, int number)
    @cython.locals(splice=Splice)
    cdef _fail(self, reason)
    @cython.locals(fd=int)
    cdef _free(self, bint with_reset)
    @cython.locals(splice=Splice, bypass=TcpBypass, count=int)
    cpdef bint _read_first(self) except -1
    cpdef _read_turn(self)
    @cython.locals(reader=Task, splice=Splice)
    cdef _read(self)
    cdef Task _writing(self)
    cpdef _write_turn(self)
    @cython.locals(writer=Task)
    cdef _write(self)
    @cython.locals(splice=Splice, partner=Flow)
    cdef bint _write_more(self)
    cdef bint _send_pending(self)
    cdef _crashed(self)
