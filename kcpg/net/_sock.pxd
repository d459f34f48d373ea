# cython: language_level=3
"""The functions of sock.py that are called for each event."""

cpdef int next_ready(int epoll) except -2
cpdef int spin(int epoll, int at_most_us) except -2
