# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled KCP engine: rings of segment fields, payload in pool slots, no allocation per segment.

Behaves as the plain-Python `kcpg.core.kcp.kcp.Kcp`, datagram for datagram; read that for the why of each rule.
The C functions are declared in `_kcp.pxd`; the code lies in the included parts.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memmove, memset

include "_kcp_memory.pxi"
include "_kcp_receiver.pxi"
include "_kcp_queue.pxi"
include "_kcp_recovery.pxi"
include "_kcp_ackmap.pxi"
include "_kcp_input.pxi"
include "_kcp_flush.pxi"
include "_kcp_face.pxi"
