"""What the wire tells its leg; see events.py. Included by _wire.pyx.

An event that is told once has a flag in its link, set while it waits.
"""
from kcpg.core.native.wire import events as event_kinds

cdef object READY = event_kinds.READY
cdef object HEARD = event_kinds.HEARD
cdef object DRAINED = event_kinds.DRAINED
cdef object FRAME = event_kinds.FRAME
cdef object BEGUN = event_kinds.BEGUN
cdef object MOVED = event_kinds.MOVED
cdef object STRANGER = event_kinds.STRANGER


cdef class Events:
    """The events since they were last taken."""

    def __cinit__(self):
        self.waiting = []

    cdef list take(self):
        """All of them, in order, but for those of conversations that are closed by now."""
        cdef list taken = []
        cdef tuple event
        for event in self.waiting:
            kind = event[0]
            if kind is HEARD:
                (<LinkWire>event[1]).is_heard = (<LinkWire>event[1]).is_urgent = False
            elif kind is FRAME:
                (<LinkWire>event[1]).frames = 0
            elif kind is BEGUN:
                (<LinkWire>event[1]).has_begun = False
            elif kind is MOVED:
                (<LinkWire>event[1]).has_moved = False
            elif (kind is READY or kind is DRAINED) and (<Conv>event[1]).closed:
                continue
            taken.append(event)
        self.waiting = []
        self.urgent = self.readies = self.frames = self.strangers = 0
        return taken

    cdef int bypass(self) except -1:
        """Let each conversation's bypass take what little came; what is left stays an event."""
        cdef list left = []
        cdef tuple event
        cdef Conv conv
        if self.readies == 0:
            return 0
        for event in self.waiting:      # which grows meanwhile
            if event[0] is READY:
                conv = event[1]
                if conv.events == EV_READABLE and conv.bypass is not None and conv.bypass.carry(conv):
                    self.readies -= 1
                    self.urgent -= 1
                    continue
            left.append(event)
        self.waiting = left
        return 0

    cdef int ready(self, Conv conv) except -1:
        """A conversation has its first event."""
        self.waiting.append((READY, conv))
        self.readies += 1
        self.urgent += 1

    cdef int drained(self, Conv conv) except -1:
        """A conversation that waits for its end owes nothing any more."""
        self.waiting.append((DRAINED, conv))

    cdef int heard(self, LinkWire link_wire) except -1:
        """An authentic datagram came."""
        if not link_wire.is_heard:
            link_wire.is_heard = True
            self.waiting.append((HEARD, link_wire))
        if link_wire.watched and not link_wire.is_urgent:
            link_wire.is_urgent = True
            self.urgent += 1

    cdef int begun(self, LinkWire link_wire) except -1:
        """Data is under way, the first for a while."""
        if not link_wire.has_begun:
            link_wire.has_begun = True
            self.waiting.append((BEGUN, link_wire))

    cdef int moved(self, LinkWire link_wire) except -1:
        """The newest datagram came by another path."""
        if not link_wire.has_moved:
            link_wire.has_moved = True
            self.urgent += 1
            self.waiting.append((MOVED, link_wire))

    cdef bint frame(self, LinkWire link_wire, int frame_type, bytes payload, const Path* path) except -1:
        """A control frame came; False: there are too many."""
        if self.frames >= FRAMES_LIMIT or link_wire.frames >= FRAMES_SHARE:
            return False
        link_wire.frames += 1
        self.frames += 1
        self.urgent += 1
        self.waiting.append((FRAME, link_wire, frame_type, payload, from_path(path)))
        return True

    cdef bint stranger(self, const Path* path, const uint8_t* p, uint32_t n) except -1:
        """A datagram under no known CID came; False: there are too many."""
        if self.strangers >= STRANGERS_LIMIT:
            return False
        self.strangers += 1
        self.urgent += 1
        self.waiting.append((STRANGER, from_path(path), get32be(p), p[:HEADER_BYTES], p[HEADER_BYTES:n]))
        return True
