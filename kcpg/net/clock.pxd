# cython: language_level=3
"""Types of clock.py, which is compiled with them (docs/adr/0008) and runs without them."""
from kcpg.net cimport _syscalls as time     # its monotonic_ns() instead of Python's


cpdef long long now_ms() except -1
cpdef long long now_us() except -1
