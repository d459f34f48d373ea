"""kcptun's FEC: what a link sends is made shards of groups of D, and P parity shards follow each.

    data shard    number u32 | 0xf1 u16 | size u16 | body     integers are little-endian; size counts itself
    parity shard  number u32 | 0xf2 u16 | parity

Numbers count data and parity shards alike, so a shard's place in its group is its number modulo D + P. Parity
covers `size | body`, with zeros behind the shorter ones. The code is Reed-Solomon by interpolation, as of
`kcpg.core.fec.code`, but shard i is the value at the point i itself. A receiver finds D and P out.

A kcptun does that too, but rebuilds with its own D and P until then. What it gets out of shards that are
not so has the conversation's number and a command (each is the same in all shards, and so in every sum by
this code), and it takes it for data. So it must get no parity of other groups than its own: an end sends
none before it knows the peer's D and P. Only a peer that has sent no parity where every kcptun would have
leaves them to the dialer.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from kcpg import engine
from kcpg.core.fec.code import coefficients, point_index, weights
from kcpg.core.kcptube.fec import is_segments
from kcpg.core.units import MASK32

_combine = engine.module("kcpg.core.fec.code").combine

DATA, PARITY = 0xF1, 0xF2
KINDS = (DATA.to_bytes(2, "little"), PARITY.to_bytes(2, "little"))
HEADER = Struct("<IH")
SHARD_BYTES = HEADER.size
SIZE_BYTES = 2
OVERHEAD_BYTES = SHARD_BYTES + SIZE_BYTES
MAX_SHARDS = 256  # D + P: the field has no more points

# Data shards after which a peer that has sent no parity is no kcptun: more than anybody has in a group.
WITHOUT_PARITY = 64

GROUPS = 8  # Groups a receiver keeps; kcptun keeps three

# Numbers kept to find D and P from; kcptun takes 258, one period more than the longest.
SAMPLES = 2 * MAX_SHARDS + 2


@lru_cache(maxsize=64)
def parity_rows(data: int, parity: int) -> list[bytes]:
    """The D coefficients of each of the P parity shards."""
    shards = [point_index(i) for i in range(data)]
    weights_of_data = weights(shards)
    return [coefficients(shards, weights_of_data, point_index(data + r)) for r in range(parity)]


def recover(data: int, shards: dict[int, bytes]) -> dict[int, bytes]:
    """The data blocks that `shards` (by place, D of them or more) lacks, as long as its longest."""
    places = sorted(shards)[:data]
    known = [point_index(place) for place in places]
    blocks = [shards[place] for place in places]
    length = max(map(len, blocks))
    weights_of_known = weights(known)
    return {
        i: _combine(coefficients(known, weights_of_known, point_index(i)), blocks, length)
        for i in range(data)
        if i not in shards
    }


class ShardSender:
    """Makes the shards of one link. Without D and P they are data alone."""

    def __init__(self, data: int = 0, parity: int = 0) -> None:
        self.groups = self.parity_bytes = 0
        self.number = 0
        self._blocks: list[bytes] = []
        self.use(data, parity)

    def use(self, data: int, parity: int) -> None:
        """Begin groups of this shape; numbers go on."""
        self.data, self.parity = data, parity
        length = max(data + parity, 1)
        self._end = MASK32 // length * length
        self.number = -(-self.number // length) * length % self._end
        self._blocks.clear()

    def frames(self, body: bytes) -> list[bytes]:
        """The shard of a body, and the parity if it completes a group."""
        block = (len(body) + SIZE_BYTES).to_bytes(SIZE_BYTES, "little") + body
        found = [self._header(DATA) + block]
        if not self.data:
            return found
        self._blocks.append(block)
        if len(self._blocks) == self.data:
            length = max(map(len, self._blocks))
            for row in parity_rows(self.data, self.parity):
                parity = _combine(row, self._blocks, length)
                found.append(self._header(PARITY) + parity)
                self.parity_bytes += len(parity)
            self.groups += 1
            self._blocks.clear()
        return found

    def _header(self, kind: int) -> bytes:
        number = self.number
        self.number = number + 1 if number + 1 < self._end else 0
        return HEADER.pack(number, kind)


class Shape:
    """Finds D and P of the peer from which numbers are data and which are parity."""

    def __init__(self) -> None:
        self.data = self.parity = 0  # 0: not known yet
        self.without_parity = 0  # Data shards before the first that was none
        self._seen_parity = False
        self._kinds: dict[int, bool] = {}

    def learn(self, number: int, is_data: bool) -> bool:
        """Take a number in; whether D and P are known and agree with it."""
        if self.data and (number % (self.data + self.parity) < self.data) == is_data:
            return True
        if self.data:
            self.data = self.parity = 0
            self._kinds.clear()
        if not is_data:
            self._seen_parity = True
        elif not self._seen_parity:
            self.without_parity += 1
        self._kinds[number] = is_data
        if len(self._kinds) > SAMPLES:
            del self._kinds[next(iter(self._kinds))]
        if not is_data:
            return False
        self._find(number)
        return self.data > 0

    def _find(self, number: int) -> None:
        """Take the shape of the group before this data shard, if it is there in full."""
        kinds, at = self._kinds, number - 1
        while kinds.get(at) is False:
            at -= 1
        parity, end = number - 1 - at, at
        if parity == 0:
            return
        while kinds.get(at) is True:
            at -= 1
        data, start = end - at, at + 1
        length = data + parity
        whole = start == 0 or kinds.get(at) is False  # else more data may stand before it, lost
        if not (data and whole) or length > MAX_SHARDS or start % length:
            return
        self.data, self.parity = data, parity
        self._kinds.clear()


class ShardReceiver:
    """Rebuilds the bodies that are missing of a link's groups. `number`: the conversation's."""

    def __init__(self, number: int) -> None:
        self.rebuilt = self.untrusted = 0
        self.shape = Shape()
        self._number = number
        self._newest = 0
        self._groups: dict[int, dict[int, bytes] | None] = {}

    @property
    def held(self) -> int:
        """Shards kept."""
        return sum(len(shards) for shards in self._groups.values() if shards)

    def take(self, number: int, is_data: bool, block: bytes) -> list[bytes]:
        """The bodies that this shard makes it possible to rebuild. `block`: what parity covers."""
        shape = self.shape
        before = shape.data, shape.parity
        if not shape.learn(number, is_data):
            self._groups.clear()
            return []
        if (shape.data, shape.parity) != before:
            self._groups.clear()
            self._newest = number // (shape.data + shape.parity)
        group, place = divmod(number, shape.data + shape.parity)
        if not self._keeps(group):
            return []
        shards = self._groups.setdefault(group, {})
        if shards is None or place in shards:
            return []
        shards[place] = block
        if len(shards) < shape.data:
            return []
        self._groups[group] = None
        good, lost = rebuild(shape.data, shards, self._number)
        self.rebuilt += len(good)
        self.untrusted += lost - len(good)
        return good

    def _keeps(self, group: int) -> bool:
        """Make room for a group; False: it is too old. One far below is that of a peer that began anew."""
        if group > self._newest or self._newest - group > MASK32 // (2 * MAX_SHARDS):
            self._newest = group
            for old in [old for old in self._groups if not 0 <= group - old < GROUPS]:
                del self._groups[old]
        return self._newest - group < GROUPS


def rebuild(data: int, shards: dict[int, bytes], number: int) -> tuple[list[bytes], int]:
    """The bodies that a group lacks, as far as they can be conversation `number`'s; how many it lacks."""
    if all(place in shards for place in range(data)):
        return [], 0
    good = []
    lost = recover(data, shards)
    for block in lost.values():
        size = int.from_bytes(block[:SIZE_BYTES], "little")
        body = bytes(block[SIZE_BYTES:size])
        if len(body) == size - SIZE_BYTES and is_segments(body, number):
            good.append(body)
    return good, len(lost)
