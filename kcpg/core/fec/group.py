"""Groups of shards on a lossy path: how they look. `sender` makes them, `receiver` takes them.

The sender lets every payload leave at once, as a data shard, and adds it to the parity of the open group. A
group closes when it is full or `wait_ms` old; its parity then follows. The receiver hands every payload on
as it comes and rebuilds what a group lacks as soon as any D of its shards are there.

    data shard    group u32 | index u8 | D u8 | R u8 | payload
    parity shard  group u32 | index u8 | D u8 | R u8 | k u8 | parity

A group that closed early has k < D data shards; the other D - k count as blocks of zeros, so the code stays
the same and parity can be summed up while the group is open. A block is the payload's length u16, the
payload, and zeros up to the longest of the group: what is rebuilt has its exact length.
"""

from __future__ import annotations

from struct import Struct

# Default age at which a group closes, as in UDPspeeder: a tenth of what a retransmission takes on a long
# line.
GROUP_WAIT_MS = 8

HEADER = Struct(">IBBB")
HEADER_BYTES = 7
PARITY_HEADER_BYTES = 8
PREFIX_BYTES = 2
PARITY_OVERHEAD_BYTES = PARITY_HEADER_BYTES + PREFIX_BYTES  # beyond the longest payload of a group
