"""The sender of groups of shards, sans-IO; `group` says what they are."""

from __future__ import annotations

from collections import deque

from kcpg.core.fec import code as fec
from kcpg.core.fec.group import GROUP_WAIT_MS, HEADER, PREFIX_BYTES
from kcpg.core.fec.plan import OFF, Plan
from kcpg.core.units import Bytes, add32


class GroupSender:
    """Makes shards of payloads of at most `max_payload` bytes. Off until `use()` gives it a plan.

    `max_shards`: parity shards it may hold, in the open group and ready to leave. A group that finds no
    room for another one has fewer of them; `short` counts such groups.
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
        if not self.on or len(payload) > self.max_payload:
            raise ValueError(f"{len(payload)} bytes are no shard of at most {self.max_payload}")
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
        """Length of what `parity` gives next; 0: nothing."""
        return len(self._ready[0]) if self._ready else 0

    def _open(self, now_ms: int) -> None:
        """Begin a group; without room for all of its parity it has fewer parity shards."""
        self._opened_ms = now_ms
        wanted = self._plan.parity[-1]
        rows = min(wanted, max(0, self._max_shards - len(self._ready)))
        self.short += rows < wanted
        self._sums = [0] * rows
