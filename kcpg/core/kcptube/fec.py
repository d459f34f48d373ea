"""kcptube's FEC: what a conversation sends is made shards of groups of D, and R parity shards follow each.

    data shard    group u32 | index u8 | block             integers are big-endian
    parity shard  group u32 | index u8 | conv u32 | parity

A block counts with its length, u16, before it and zeros behind it. kcptube fills with whatever its memory
holds instead, and older versions' parity is wrong altogether. So what is rebuilt is used only if no shorter
block had part in it and if it is whole segments of its conversation; KCP sends everything else again. And a
kcptube, which believes whatever it rebuilds, gets parity only of blocks that are equally long.
"""

from __future__ import annotations

from struct import Struct

from kcpg.core.kcp.params import CMD_PUSH, CMD_TELL, HEADER, HEADER_BYTES
from kcpg.core.units import MASK32, add32, diff32
from kcpg.engine import Code

# A parity shard is longer than the longest block of its group by this.
SHARD = Struct(">IB")
PARITY = Struct(">IBI")
PREFIX_BYTES = 2
OVERHEAD_BYTES = PARITY.size + PREFIX_BYTES

# Groups a receiver keeps. kcptube keeps four, which reordering on one path hardly exceeds; a hop does.
GROUPS = 8


class ShardSender:
    """Makes the shards of one conversation; `data` and `parity` shards to a group."""

    def __init__(self, data: int, parity: int, number: int) -> None:
        self.groups = self.parity_bytes = 0
        self.data, self.parity = data, parity
        self._code = Code(data, parity)
        self._number = number
        self._group = 0
        self._blocks: list[bytes] = []

    def frames(self, block: bytes) -> list[bytes]:
        """The shard of a block, and the parity if it completes a group of equally long ones."""
        index = len(self._blocks)
        found = [SHARD.pack(self._group, index) + block]
        self._blocks.append(len(block).to_bytes(PREFIX_BYTES, "big") + block)
        if len(self._blocks) == self._code.data:
            if len({len(block) for block in self._blocks}) == 1:
                for row, parity in enumerate(self._code.encode(self._blocks), self._code.data):
                    found.append(PARITY.pack(self._group, row, self._number) + parity)
                    self.parity_bytes += len(parity)
                self.groups += 1
            self._blocks.clear()
            self._group = add32(self._group, 1)
        return found


class ShardReceiver:
    """Rebuilds the blocks that are missing of a conversation's groups."""

    def __init__(self, data: int, parity: int, number: int) -> None:
        self.rebuilt = self.untrusted = 0
        self._code = Code(data, parity)
        self._number = number
        self._newest: int | None = None
        self._groups: dict[int, dict[int, bytes] | None] = {}

    @property
    def held(self) -> int:
        """Shards kept."""
        return sum(len(shards) for shards in self._groups.values() if shards)

    def take(self, group: int, index: int, contents: bytes) -> list[bytes]:
        """The blocks that this shard (a block, or parity) makes it possible to rebuild."""
        if index >= self._code.data + self._code.parity or not self._keeps(group):
            return []
        shards = self._groups.setdefault(group, {})
        if shards is None or index in shards:
            return []
        is_block = index < self._code.data
        shards[index] = len(contents).to_bytes(PREFIX_BYTES, "big") + contents if is_block else contents
        if len(shards) < self._code.data:
            return []
        self._groups[group] = None
        return self._rebuild(shards)

    def _keeps(self, group: int) -> bool:
        """Make room for a group; False: it is too old."""
        if self._newest is None or diff32(group, self._newest) > 0:
            self._newest = group
            self._groups = {
                number: shards
                for number, shards in self._groups.items()
                if 0 <= diff32(group, number) < GROUPS
            }
        return (self._newest - group) & MASK32 < GROUPS

    def _rebuild(self, shards: dict[int, bytes]) -> list[bytes]:
        known = {index: shards[index] for index in sorted(shards)[: self._code.data]}
        if all(index < self._code.data for index in known):
            return []
        shortest = min((len(known[i]) for i in known if i < self._code.data), default=1 << 16) - PREFIX_BYTES
        good = []
        for block in self._code.recover(known).values():
            size = int.from_bytes(block[:PREFIX_BYTES], "big")
            piece = bytes(block[PREFIX_BYTES : PREFIX_BYTES + size])
            if size <= shortest and len(piece) == size and is_segments(piece, self._number):
                good.append(piece)
        self.rebuilt += len(good)
        self.untrusted += sum(index not in known for index in range(self._code.data)) - len(good)
        return good


def is_segments(block: bytes, number: int) -> bool:
    """Whether these are whole segments of that conversation and nothing else."""
    at = 0
    while at + HEADER_BYTES <= len(block):
        conv, command, _, _, _, _, _, size = HEADER.unpack_from(block, at)
        if conv != number or not CMD_PUSH <= command <= CMD_TELL:
            return False
        at += HEADER_BYTES + size
    return at == len(block) > 0
