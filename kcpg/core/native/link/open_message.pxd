# cython: language_level=3
"""Types of open_message.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.flow cimport Open


cdef class OpenMessage:
    cdef readonly Open open
    cdef readonly object delivery

    @cython.locals(request=Open, source=bytes, name=bytes, port="int")
    cpdef bytes encode(self)


@cython.locals(size="Py_ssize_t", source="Py_ssize_t", end="Py_ssize_t")
cpdef read_open_message(bytes message)
