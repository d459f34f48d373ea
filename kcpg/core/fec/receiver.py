"""The receiver of groups of shards, sans-IO; `group` says what they are."""

from __future__ import annotations

from kcpg.core.fec import code as fec
from kcpg.core.fec.group import HEADER, HEADER_BYTES, PARITY_HEADER_BYTES, PARITY_OVERHEAD_BYTES, PREFIX_BYTES
from kcpg.core.units import Bytes, diff32

GROUPS = 32  # known at a time: how far shards may fall behind, as they do when paths change
LATE_IN_A_ROW = 256  # shards of forgotten groups and none of a current one: the peer counts anew, follow it


class _Group:
    """What a receiver knows of one group."""

    __slots__ = ("block_bytes", "closed", "count", "data", "have", "number", "shards")

    def __init__(self, number: int, data: int) -> None:
        self.number = number
        self.data = data
        self.count = 0  # data shards the sender put into it; 0: no parity shard has told yet
        self.block_bytes = 0  # length of its parity
        self.have: set[int] = set()  # data shards handed on, parity shards taken
        self.shards: dict[int, bytes] = {}  # blocks kept, by index
        self.closed = False  # complete or given up: nothing more is kept

    def have_data(self) -> int:
        """Data shards handed on."""
        return sum(index < self.data for index in self.have)


class GroupReceiver:
    """Takes shards in any order and gives payloads, each at most once as far as GROUPS groups back.

    Counters: `recovered` payloads rebuilt; `lost` payloads that groups with parity lacked when they were
    forgotten; `duplicates`; `late` shards of forgotten groups (data is handed on, as it may be new);
    `malformed`; `unkept` shards that found no room (data is handed on). `max_shards` bounds what is kept: the
    oldest group gives way.
    """

    def __init__(self, max_payload: int, max_shards: int = 1024) -> None:
        self.max_payload = max_payload
        self.recovered = self.lost = self.duplicates = self.late = self.malformed = self.unkept = 0
        self.held = 0  # shards kept, and payloads rebuilt by the last call
        self._max_shards = max_shards
        self._rebuilt = 0
        self._newest: int | None = None
        self._late_in_a_row = 0
        self._groups: list[_Group | None] = [None] * GROUPS

    def receive_data(self, contents: Bytes) -> list[bytes]:
        """Payloads that became available by a FEC_DATA frame: its own first, then rebuilt ones."""
        self._release_rebuilt()
        contents = bytes(contents)
        if len(contents) < HEADER_BYTES:
            return self._refuse()
        number, index, data, parity = HEADER.unpack_from(contents)
        payload = contents[HEADER_BYTES:]
        if not _is_code(data, parity) or index >= data or len(payload) > self.max_payload:
            return self._refuse()
        if self._is_late(number):
            return [payload]
        group = self._find_group(number, data)
        length = len(payload) + PREFIX_BYTES
        if group is None or (group.count and (index >= group.count or length > group.block_bytes)):
            return self._refuse()
        if index in group.have:
            self.duplicates += 1
            return []
        group.have.add(index)
        if group.closed:
            return [payload]
        if group.have_data() == (group.count or group.data):
            self._close(group)
            return [payload]
        self._keep(group, index, len(payload).to_bytes(PREFIX_BYTES, "big") + payload)
        return [payload, *self._rebuild(group)]

    def receive_parity(self, contents: Bytes) -> list[bytes]:
        """Payloads that became available by a FEC_PARITY frame."""
        self._release_rebuilt()
        contents = bytes(contents)
        if len(contents) < PARITY_OVERHEAD_BYTES:
            return self._refuse()
        number, index, data, parity = HEADER.unpack_from(contents)
        count, block = contents[HEADER_BYTES], contents[PARITY_HEADER_BYTES:]
        right = _is_code(data, parity) and data <= index < data + parity and 1 <= count <= data
        if not right or len(block) > self.max_payload + PREFIX_BYTES:
            return self._refuse()
        if self._is_late(number):
            return []
        group = self._find_group(number, data)
        if group is None or not self._agrees(group, count, len(block)):
            return self._refuse()
        if index in group.have:
            self.duplicates += 1
            return []
        group.have.add(index)
        if group.closed:
            return []
        if group.have_data() == count:
            self._close(group)
            return []
        self._keep(group, index, block)
        return self._rebuild(group)

    def forget(self) -> None:
        """Give up every group and the memory it holds, as when nothing came for a while."""
        for at in range(GROUPS):
            self._forget(at)
        self._release_rebuilt()

    def _refuse(self) -> list[bytes]:
        """Count a malformed shard."""
        self.malformed += 1
        return []

    def _is_late(self, number: int) -> bool:
        """Whether the group is forgotten already; otherwise the window moves so that it holds the group."""
        if self._newest is None:
            self._newest = number
        ahead = diff32(number, self._newest)
        if ahead <= -GROUPS:
            self.late += 1
            self._late_in_a_row += 1
            if self._late_in_a_row < LATE_IN_A_ROW:
                return True
            self.forget()
            self._newest = number
        self._late_in_a_row = 0
        for step in range(1, min(ahead, GROUPS) + 1):
            self._forget((self._newest + step) % GROUPS)
        if ahead > 0:
            self._newest = number
        return False

    def _find_group(self, number: int, data: int) -> _Group | None:
        """The group, begun if it is new; None if its shards disagree about the code."""
        group = self._groups[number % GROUPS]
        if group is None:
            group = self._groups[number % GROUPS] = _Group(number, data)
        return group if group.data == data else None

    def _agrees(self, group: _Group, count: int, length: int) -> bool:
        """Whether a parity shard fits what came before; the first one tells the group's size."""
        if group.count:
            return count == group.count and length == group.block_bytes
        known = [index for index in group.have if index < group.data]
        longest = max((len(block) for index, block in group.shards.items()), default=0)
        if any(index >= count for index in known) or longest > length:
            return False
        group.count, group.block_bytes = count, length
        return True

    def _keep(self, group: _Group, index: int, block: bytes) -> None:
        """Store a block of the group if there is room."""
        if self._make_room(group):
            group.shards[index] = block
            self.held += 1
        else:
            self.unkept += 1

    def _make_room(self, group: _Group) -> bool:
        """Room for one more shard of `group`, if need be by giving up the oldest other group."""
        assert self._newest is not None
        if self.held < self._max_shards:
            return True
        for age in range(GROUPS - 1, -1, -1):
            other = self._groups[(self._newest - age) % GROUPS]
            if other is not None and other is not group and other.shards:
                self._close(other)
                return True
        return False

    def _rebuild(self, group: _Group) -> list[bytes]:
        """Rebuild the payloads the group lacks, if enough of it is there."""
        padding = range(group.count, group.data)  # blocks of zeros that never travelled
        if not group.count or len(group.shards) + len(padding) < group.data:
            return []
        known = sorted([*group.shards, *padding])[: group.data]
        blocks = [group.shards.get(i, b"") for i in known]
        weights = fec.weights(known)
        payloads = []
        for index in range(group.count):
            if index in group.have:
                continue
            if not self._make_room(group):
                self.unkept += 1
                break
            factors = fec.coefficients(known, weights, index)
            payload = _payload_of(fec.combine(factors, blocks, group.block_bytes))
            if payload is None:
                self.malformed += 1
                continue
            self.held += 1
            self._rebuilt += 1
            self.recovered += 1
            group.have.add(index)
            payloads.append(payload)
        self._close(group)
        return payloads

    def _release_rebuilt(self) -> None:
        """What the last call rebuilt was handed on."""
        self.held -= self._rebuilt
        self._rebuilt = 0

    def _close(self, group: _Group) -> None:
        """A group is complete or given up: keep nothing more of it."""
        self.held -= len(group.shards)
        group.shards.clear()
        group.closed = True

    def _forget(self, at: int) -> None:
        """A group leaves the window; count what it lacked."""
        group = self._groups[at]
        if group is not None:
            self.lost += max(0, group.count - group.have_data())
            self._close(group)
            self._groups[at] = None


def _is_code(data: int, parity: int) -> bool:
    """Whether the D and R of a header can be."""
    return data >= 1 and data + parity <= fec.MAX_SHARDS


def _payload_of(block: bytes) -> bytes | None:
    """The payload in a rebuilt block; None: the shards it was made of did not belong together."""
    end = PREFIX_BYTES + int.from_bytes(block[:PREFIX_BYTES], "big")
    if end > len(block) or any(block[end:]):
        return None
    return block[PREFIX_BYTES:end]
