# cython: language_level=3
"""Types of clock.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython


@cython.locals(now_ns="long long")
cpdef long long now_ms() except -1
