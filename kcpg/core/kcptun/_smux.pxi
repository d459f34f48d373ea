# Part of _wire.pyx: the frames in the byte stream. Declared in _smux.pxd; twin: smux.py.

cdef enum:
    SYN, FIN, PSH, NOP, UPD


@cython.final
cdef class Parser:
    """Takes the byte stream in any pieces; see `kcpg.core.kcptun.smux.Parser`."""

    def __init__(self, int version):
        self.version = version

    @property
    def held(self):
        """Bytes kept."""
        return self.have

    def feed(self, bytes data):
        """The frames of these bytes, data as it comes, that of one stream together. Raises Malformed."""
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t n = len(data), at = 0, filled = 0
        cdef uint32_t part, stream = self.stream, number
        cdef int command
        cdef list frames = []
        cdef bytes run = None       # of a stream, longer than what it will hold
        while at < n:
            if self.left > 0:
                part = <uint32_t>min(<Py_ssize_t>self.left, n - at)
                if run is None:
                    if at == 0 and part == n:
                        self.left -= part
                        return [(PSH, stream, data)]
                    run = PyBytes_FromStringAndSize(NULL, n - at)
                memcpy(PyBytes_AS_STRING(run) + filled, p + at, part)
                filled += part
                at += part
                self.left -= part
                continue
            part = FRAME_BYTES
            if self.have > 1 and self.begun[1] == UPD:
                part += UPDATE_BYTES
            part = <uint32_t>min(<Py_ssize_t>(part - self.have), n - at)
            memcpy(self.begun + self.have, p + at, part)
            self.have += part
            at += part
            if self.have < FRAME_BYTES or not self.is_whole():
                continue
            command, number = self.begun[1], get32(self.begun + 4)
            if run is not None and (command != PSH or number != stream):
                frames.append((PSH, stream, run[:filled]))
                run = None
                filled = 0
            if command == PSH:
                self.left = get16(self.begun + 2)
                self.stream = stream = number
            else:
                frames.append((command, number, <bytes>self.begun[FRAME_BYTES : self.have]))
            self.have = 0
        if run is not None:
            frames.append((PSH, stream, run[:filled]))
        return frames

    cdef bint is_whole(self) except -1:
        """Whether the frame that has begun has nothing but data to come. Raises Malformed."""
        cdef int command = self.begun[1]
        cdef uint32_t size = get16(self.begun + 2)
        if self.begun[0] != self.version:
            self.version = plain_smux.version_of(self.begun[0], self.version)
        if command > UPD or (command == UPD and (self.version == 1 or size != UPDATE_BYTES)):
            raise plain_smux.Malformed(f"unknown command {command}")
        if size > 0 and (command == SYN or command == FIN or command == NOP):
            raise plain_smux.Malformed(f"command {command} with data")
        return command != UPD or self.have == FRAME_BYTES + UPDATE_BYTES
