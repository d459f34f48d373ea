"""The way past the splice. Included by _wire.pyx; the plain engine has none.

A request, its answer or a few packets pass a node in one step: whoever fed the wire calls `run_bypasses`, and
each conversation that became readable gives what it has to its `Bypass`, before any Python is called. Much
data, ends, errors and whatever a bypass leaves stay events, which take the way through the splice.
"""

# A packet on its way from one conversation to the next.
cdef uint8_t passing[PACKET_MAX_BYTES]


cdef class Bypass:
    """Takes what little comes for a conversation at once. kcpg.net derives one for each kind of socket."""

    cdef bint carry(self, Conv conv) except -1:
        """Take what the conversation has, if that is little, and add it to `bypassed`. True: all is gone."""
        return False


cdef class HopBypass(Bypass):
    """Into the conversation of a relay's next hop."""

    cdef bint carry(self, Conv conv) except -1:
        cdef Conv other = self.onward
        cdef int64_t moved = 0
        cdef int size
        if other.closed or kcp_room(&other.k) < other.wake_segments():
            return False
        if kcp_unread(&conv.k) > LITTLE_SEGMENTS:
            return False
        if not self.packets:
            moved = kcp_move_stream(&conv.k, &other.k)
        else:
            while moved < LITTLE_SEGMENTS:
                size = conv.take_packet(passing)
                if size < 0:
                    break
                if not other.put_packet(passing, <size_t>size, self.datagrams):
                    conv.return_packet(passing, <size_t>size)   # whoever moves it now counts what is lost
                    break
                moved += 1
        conv.bypassed += <uint64_t>moved
        conv.changed()
        other.changed()
        return conv.is_served()
