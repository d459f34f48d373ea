"""What a wire tells its leg, in the order in which it happened: tuples of one of these and its operands."""

READY = 0  # conv: it has events of its own, see `Conv.take_events`
HEARD = 1  # bundle: something authentic came, once however much
DRAINED = 2  # conv: nothing is owed any more, which it was to say
FRAME = 3  # bundle, type, payload, path: a control frame, or an unknown conversation's number
BEGUN = 4  # bundle: data is under way and was not before, so from now on silence means something
MOVED = 5  # bundle: its newest authentic datagram came from another path than it sends by, see `source`
STRANGER = 6  # path, cid, clear header, body: a datagram under no known CID, a handshake perhaps
