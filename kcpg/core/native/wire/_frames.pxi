"""The numbers of frames; see frames.py, which both engines read and write control frames by.

Included by _wire.pyx.
"""
from kcpg.core.native.wire import frames as frame_types

cdef int T_PAD = frame_types.PAD
cdef int T_KCP = frame_types.KCP
cdef int T_DATAGRAM = frame_types.DATAGRAM
cdef int T_FEC_DATA = frame_types.FEC_DATA
cdef int T_FEC_PARITY = frame_types.FEC_PARITY
cdef int T_PIECE = frame_types.PIECE
cdef frozenset CONTROL_TYPES = frame_types.CONTROL
cdef int T_PATH_CHALLENGE = frame_types.PATH_CHALLENGE
cdef int T_PATH_RESPONSE = frame_types.PATH_RESPONSE
