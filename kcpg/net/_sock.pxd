# cython: language_level=3
"""The function of sock.py that is called for each event."""

cpdef int next_ready(int epoll) except -2
