"""Frames that the path does not take whole. Included by _wire.pyx.

It has no twin: rare as they are, the pieces are cut and joined by pieces.py for both engines.
"""
from kcpg.core.native.wire.pieces import cut


cdef int cut_long(LinkWire link_wire, Tx* tx, int start) except -1:
    """Send what is longer than the path takes now in pieces, and take it out of the vector."""
    cdef int i, kept = start
    cdef bytes frame
    tx.has_long = False
    for i in range(start, tx.count):
        if tx.len[i] > link_wire._datagram_bytes:
            frame = (<const uint8_t*>(tx.buf + tx.off[i]))[HEADER_BYTES:tx.len[i] - TAG_BYTES]
            link_wire.pieces_sent += 1
            for piece in cut(frame, link_wire.pieces_sent, link_wire._datagram_bytes - OVERHEAD_BYTES):
                link_wire.send(T_PIECE, piece)
            continue
        tx.off[kept] = tx.off[i]
        tx.len[kept] = tx.len[i]
        tx.path[kept] = tx.path[i]
        kept += 1
    tx.count = kept
    return 0


cdef int take_piece(Wire wire, LinkWire link_wire, bytes payload, uint64_t now_ms) except -1:
    """A part of a frame; what it completes is taken as if it had come whole."""
    cdef bytes frame = link_wire.pieces.add(payload)
    if frame is None:
        return 0
    return wire.unwrap(link_wire, frame, <uint32_t>len(frame), False, now_ms)
