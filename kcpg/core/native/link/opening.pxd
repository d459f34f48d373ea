# cython: language_level=3
"""Types of opening.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.flow cimport Open


cdef class Opening:
    cdef readonly Open open
    cdef readonly object delivery

    @cython.locals(open=Open, source=bytes, name=bytes, port="int")
    cpdef bytes encode(self)


@cython.locals(size="Py_ssize_t", source="Py_ssize_t", end="Py_ssize_t")
cpdef read_opening(bytes message)
