# Part of _kcp.pxd: how far back acknowledgements tell, as bits, what has arrived. Twin: ackmap.py.

cdef enum:
    MAP_FLUSHES = 4             # bits reach back to what one of these last flushes acknowledged
    MAP_BYTES = 512             # most bytes, the base included: the flight of 1 Gbit/s over 50 ms
