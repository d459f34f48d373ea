"""The connection ids a leg receives by, and whose they are."""

from __future__ import annotations

from typing import Generic, TypeVar

from kcpg.core.native.handshake.envelope import Entropy
from kcpg.core.workerslot import marked

Owner = TypeVar("Owner")


class Cids(Generic[Owner]):
    """Draws unused ids. 0 is never one: it marks an INIT. `worker`: the number to put into every one."""

    def __init__(self, entropy: Entropy, worker: int | None = None) -> None:
        self._entropy = entropy
        self._worker = worker
        self._owners: dict[int, Owner] = {}

    def draw(self) -> int:
        """An id that nobody has; `give` it to keep it."""
        while True:
            cid = int.from_bytes(self._entropy(4), "big")
            if self._worker is not None:
                cid = marked(cid, self._worker)
            if cid and cid not in self._owners:
                return cid

    def give(self, cid: int, owner: Owner) -> None:
        """From now on `cid` is in use."""
        self._owners[cid] = owner

    def owner(self, cid: int) -> Owner | None:
        """The owner that receives by `cid`; None: nobody."""
        return self._owners.get(cid)

    def release(self, cid: int) -> None:
        """`cid` may be drawn again."""
        self._owners.pop(cid, None)
