# cython: language_level=3
"""Types of bypass.py, which is compiled with them (docs/adr/0008) and runs without them."""

cpdef conv_of(flow)
cpdef bint has_little(source) except -1
