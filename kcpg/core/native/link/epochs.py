"""Which keys a link uses: the current epoch, one on trial, and old ones that may still be heard.

The dialer takes a new epoch into use at once, because the answer that gave it proves that the listener has
it.
The listener hears it at once, but sends by it only when it has heard the dialer under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from kcpg.core.native.handshake.keys import EpochKeys
from kcpg.core.native.link.cids import Cids, Owner

if TYPE_CHECKING:
    from kcpg.core.native.wire.wire import LinkWire

RETIRE_MS = 30_000  # An old epoch is heard for this long: far longer than any network keeps a datagram

# An epoch the dialer never used is dropped; until then a repeated INIT is answered with it (handshake.py).
TRIAL_MS = 120_000

# Old epochs that are heard. With the current one and one on trial a link hears three: the oldest gives way.
MOST_RETIRED = 1

# An epoch is renewed after these. 2^22 is far below every cipher's limit (RFC 9001, 6.6: 2^23 for GCM).
WORN_MS = 120_000
WORN_DATAGRAMS = 1 << 22

# A link whose keys are not renewed sends no more than this under them: it ends. Below the cipher's limit by
# what may leave before that is noticed.
LAST_DATAGRAMS = 7_340_032  # 2^23 - 2^20


@dataclass(frozen=True, slots=True)
class NewEpoch:
    """What a handshake or a rekey gives: the keys, what we and what the peer receive by, the new secret."""

    keys: EpochKeys
    own_cid: int
    peer_cid: int
    secret: bytes


class Epochs(Generic[Owner]):
    """The epochs of one link, which is the owner of their CIDs."""

    def __init__(self, link: Owner, link_wire: LinkWire, cids: Cids[Owner], dials: bool) -> None:
        self.own_cid = 0
        self.peer_cid = 0
        self._link: Owner | None = link
        self._link_wire = link_wire
        self._cids = cids
        self._dials = dials
        self._trial: tuple[NewEpoch, int] | None = None
        self._retired: list[tuple[int, int]] = []
        self._since_ms = 0
        self._rx_before = 0

    def begin(self, epoch: NewEpoch, now_ms: int) -> None:
        """The link's first epoch."""
        self._hear(epoch)
        self._use(epoch, now_ms)

    def renew(self, epoch: NewEpoch, now_ms: int) -> None:
        """A later epoch."""
        self._hear(epoch)
        if self._dials:
            self._retire(self.own_cid, now_ms)
            self._use(epoch, now_ms)
            return
        if self._trial is not None:
            self._retire(self._trial[0].own_cid, now_ms)
        self._trial = (epoch, now_ms + TRIAL_MS)

    @property
    def on_trial(self) -> bool:
        """Waiting to hear the dialer under a new epoch: call `confirmed` when datagrams came."""
        return self._trial is not None

    def confirmed(self, now_ms: int) -> bool:
        """Whether the trial has just succeeded; its epoch is then in use."""
        if self._trial is None or self._link_wire.rx_cid != self._trial[0].own_cid:
            return False
        epoch, self._trial = self._trial[0], None
        self._retire(self.own_cid, now_ms)
        self._use(epoch, now_ms)
        return True

    @property
    def worn(self) -> bool:
        """This epoch has sealed or opened so many datagrams that it must be renewed."""
        received = self._link_wire.rx_datagrams - self._rx_before
        return max(self._link_wire.tx_pn, received) >= WORN_DATAGRAMS

    @property
    def used_up(self) -> bool:
        """Nothing may be sent under this epoch any more."""
        return self._link_wire.tx_pn >= LAST_DATAGRAMS

    @property
    def worn_at_ms(self) -> int:
        """When this epoch is too old."""
        return self._since_ms + WORN_MS

    def advance(self, now_ms: int) -> None:
        """Forget what is too old."""
        while self._retired and self._retired[0][0] <= now_ms:
            self._forget(self._retired.pop(0)[1])
        if self._trial is not None and self._trial[1] <= now_ms:
            self._forget(self._trial[0].own_cid)
            self._trial = None

    def deadline(self) -> int | None:
        """When `advance` has something to do."""
        times = [at for at, _ in self._retired[:1]]
        if self._trial is not None:
            times.append(self._trial[1])
        return min(times, default=None)

    def free(self) -> None:
        """The link is gone. (Its link wire forgets the keys.)"""
        trial = [self._trial[0].own_cid] if self._trial is not None else []
        for cid in (self.own_cid, *trial, *(cid for _, cid in self._retired)):
            self._cids.release(cid)
        self._retired.clear()
        self._trial = None
        self._link = None  # whose these are: as a cycle both would stay for long

    def _hear(self, epoch: NewEpoch) -> None:
        keys = epoch.keys
        key, iv = (keys.s2c_key, keys.s2c_iv) if self._dials else (keys.c2s_key, keys.c2s_iv)
        assert self._link is not None, "a link that is gone has no new epoch"
        self._cids.give(epoch.own_cid, self._link)
        self._link_wire.install_rx(epoch.own_cid, keys.algorithm, key, iv)

    def _use(self, epoch: NewEpoch, now_ms: int) -> None:
        keys = epoch.keys
        key, iv = (keys.c2s_key, keys.c2s_iv) if self._dials else (keys.s2c_key, keys.s2c_iv)
        self.own_cid, self.peer_cid = epoch.own_cid, epoch.peer_cid
        self._since_ms = now_ms
        self._rx_before = self._link_wire.rx_datagrams
        self._link_wire.install_tx(epoch.peer_cid, keys.algorithm, key, iv)

    def _retire(self, cid: int, now_ms: int) -> None:
        self._retired.append((now_ms + RETIRE_MS, cid))
        while len(self._retired) > MOST_RETIRED:
            self._forget(self._retired.pop(0)[1])

    def _forget(self, cid: int) -> None:
        self._link_wire.remove_rx(cid)
        self._cids.release(cid)
