"""Groups of shards on a lossy path, sans-IO, in plain Python: the readable twin of `_fec`'s two classes.

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

from collections import deque
from struct import Struct

from kcpg.core.fec import code as fec
from kcpg.core.fec.plan import OFF, Plan
from kcpg.core.units import Bytes, add32, diff32

GROUP_WAIT_MS = 8
"""Default age at which a group closes, as UDPspeeder has it: a tenth of a retransmission on a long line."""

GROUPS = 32
"""Groups a receiver knows: so far may shards of a group fall behind, as may happen when paths change."""

LATE_IN_A_ROW = 256
"""So many shards of forgotten groups and none of a current one: the peer counts anew, it is followed."""

HEADER = Struct(">IBBB")
HEADER_BYTES = 7
PARITY_HEADER_BYTES = 8
PREFIX_BYTES = 2
PARITY_OVERHEAD_BYTES = PARITY_HEADER_BYTES + PREFIX_BYTES
"""A parity shard is longer than the longest payload of its group by this."""


class GroupSender:
    """Makes shards of payloads of at most `max_payload` bytes. Off until `use()` gave it a plan.

    `max_shards`: parity shards it may hold, in the open group and ready to leave; without room for
    another one a group has fewer of them (`short` counts these groups).
    """

    def __init__(self, max_payload: int, max_shards: int = 256) -> None:
        self.max_payload = max_payload
        self.short = 0
        self.group = 0  # number of the open group, or of the next one
        self._max_shards = max_shards
        self._plan = OFF
        self._wait_ms = GROUP_WAIT_MS
        self._columns: list[bytes] = []  # per data shard: its coefficient in each parity shard
        self._count = 0
        self._sums: list[int] = []
        self._longest = 0
        self._opened_ms = 0
        self._ready: deque[bytes] = deque()

    @property
    def on(self) -> bool:
        """Whether payloads have to go through `protect`."""
        return self._plan.data > 0

    @property
    def deadline(self) -> int | None:
        """When `expire` has to be called, None while no group is open."""
        return self._opened_ms + self._wait_ms if self._count else None

    def use(self, plan: Plan, wait_ms: int = GROUP_WAIT_MS) -> None:
        """From the next payload on. Closes the open group if the plan is another one."""
        if plan != self._plan:
            self.close()
            self._plan = plan
            rows = fec.rows(plan.data, plan.parity[-1]) if plan.data else []
            self._columns = [bytes(row[i] for row in rows) for i in range(plan.data)]
        self._wait_ms = wait_ms

    def protect(self, payload: Bytes, now_ms: int) -> bytes:
        """The contents of the FEC_DATA frame that carries `payload`. Afterwards `parity()` may have some."""
        assert self.on and len(payload) <= self.max_payload
        if not self._count:
            self._open(now_ms)
        header = HEADER.pack(self.group, self._count, self._plan.data, self._plan.parity[-1])
        block = len(payload).to_bytes(PREFIX_BYTES, "big") + bytes(payload)
        for row in range(len(self._sums)):
            self._sums[row] ^= fec.times(self._columns[self._count][row], block)
        self._longest = max(self._longest, len(block))
        self._count += 1
        if self._count == self._plan.data:
            self.close()
        return header + block[PREFIX_BYTES:]

    def expire(self, now_ms: int) -> None:
        """Close the open group if its time has come."""
        if self._count and now_ms >= self._opened_ms + self._wait_ms:
            self.close()

    def close(self) -> None:
        """Close the open group, if there is one: its parity is ready."""
        if not self._count:
            return
        parity = min(self._plan.parity[self._count], len(self._sums))
        for row in range(parity):
            head = HEADER.pack(self.group, self._plan.data + row, self._plan.data, parity)
            block = self._sums[row].to_bytes(self._longest, "little")
            self._ready.append(head + bytes((self._count,)) + block)
        self.group = add32(self.group, 1)
        self._count = self._longest = 0
        self._sums.clear()

    def parity(self) -> bytes | None:
        """The contents of the next FEC_PARITY frame that is to be sent, None when there is none."""
        return self._ready.popleft() if self._ready else None

    @property
    def parity_bytes(self) -> int:
        """How long what `parity` gives next is; 0: nothing."""
        return len(self._ready[0]) if self._ready else 0

    def _open(self, now_ms: int) -> None:
        self._opened_ms = now_ms
        wanted = self._plan.parity[-1]
        rows = min(wanted, max(0, self._max_shards - len(self._ready)))
        self.short += rows < wanted
        self._sums = [0] * rows


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
        if not _sane(data, parity) or index >= data or len(payload) > self.max_payload:
            return self._refuse()
        if self._is_late(number):
            return [payload]
        group = self._group(number, data)
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
        right = _sane(data, parity) and data <= index < data + parity and 1 <= count <= data
        if not right or len(block) > self.max_payload + PREFIX_BYTES:
            return self._refuse()
        if self._is_late(number):
            return []
        group = self._group(number, data)
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

    def _group(self, number: int, data: int) -> _Group | None:
        """The group, made if need be; None if its shards disagree about the code."""
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
        """The payloads the group lacked, if enough of it is there."""
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
            payload = _payload(fec.combine(factors, blocks, group.block_bytes))
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
        self.held -= self._rebuilt
        self._rebuilt = 0

    def _close(self, group: _Group) -> None:
        self.held -= len(group.shards)
        group.shards.clear()
        group.closed = True

    def _forget(self, at: int) -> None:
        group = self._groups[at]
        if group is not None:
            self.lost += max(0, group.count - group.have_data())
            self._close(group)
            self._groups[at] = None


def _sane(data: int, parity: int) -> bool:
    return data >= 1 and data + parity <= fec.MAX_SHARDS


def _payload(block: bytes) -> bytes | None:
    """The payload in a rebuilt block; None: the shards it was made of did not belong together."""
    end = PREFIX_BYTES + int.from_bytes(block[:PREFIX_BYTES], "big")
    if end > len(block) or any(block[end:]):
        return None
    return block[PREFIX_BYTES:end]
