# cython: language_level=3
"""Types of addr.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython


cpdef int family(addr)


@cython.locals(v4=bytes)
cpdef str text(bytes addr)
