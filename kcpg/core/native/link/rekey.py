"""Renewing the keys of a living link: the exchange of REKEY frames, as seen from either side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kcpg.core.native.handshake.rekey_messages import RekeyInitiator, RekeyResponder
from kcpg.core.native.link.epochs import NewEpoch
from kcpg.core.native.wire import frames

if TYPE_CHECKING:
    from kcpg.core.native.handshake.envelope import Entropy
    from kcpg.core.native.link.cids import Cids
    from kcpg.core.native.wire.wire import LinkWire

# A REKEY frame is repeated with doubled waits between these, as the listener may have taken it already, and
# then only its answer leads on. A peer that is gone is noticed by the link's silence.
FIRST_WAIT_MS = 250
MOST_WAIT_MS = 5000

# A peer that is there and answers none of these does not renew the keys: WireGuard stops to use keys of 180 s
# (REJECT_AFTER_TIME), a minute after they are to be renewed. Here that minute is spent asking, fifteen times.
MOST_TRIES = 15


class DialerRekey:
    """The side that starts a rekey. `secret` is the newest session secret."""

    def __init__(
        self, link_wire: LinkWire, algorithm: str, secret: bytes, cids: Cids[Any], entropy: Entropy
    ) -> None:
        self.secret = secret
        self._link_wire = link_wire
        self._algorithm = algorithm
        self._cids = cids
        self._entropy = entropy
        self._initiator: RekeyInitiator | None = None
        self._own_cid = 0
        self._due_ms = 0
        self._wait_ms = 0
        self._tries = 0

    @property
    def running(self) -> bool:
        """An answer is awaited."""
        return self._initiator is not None

    @property
    def is_vain(self) -> bool:
        """The peer had time enough to answer, and does not."""
        return self.running and self._tries > MOST_TRIES

    def start(self, now_ms: int) -> None:
        """Ask for a new epoch."""
        self._own_cid = self._cids.draw()
        self._initiator = RekeyInitiator(self.secret, self._algorithm, self._own_cid, self._entropy)
        self._wait_ms = FIRST_WAIT_MS
        self._tries = 0
        self._send(now_ms)

    def restart(self, secret: bytes) -> None:
        """A handshake gave new keys: what was asked before is void."""
        self.secret = secret
        self._initiator = None

    def advance(self, now_ms: int) -> None:
        """Ask again when it is time."""
        if self._initiator is not None and self._due_ms <= now_ms:
            self._send(now_ms)

    def deadline(self) -> int | None:
        """When `advance` has something to do."""
        return self._due_ms if self._initiator is not None else None

    def receive(self, message: bytes, now_ms: int) -> NewEpoch | None:
        """Take the answer: the new epoch, or None if this is none."""
        rekeyed = self._initiator.receive(message) if self._initiator is not None else None
        if rekeyed is None or self._cids.owner(self._own_cid) is not None:
            return None
        self._initiator = None
        self.secret = rekeyed.session_secret
        return NewEpoch(rekeyed.epoch, self._own_cid, rekeyed.peer_cid, rekeyed.session_secret)

    def _send(self, now_ms: int) -> None:
        assert self._initiator is not None
        self._link_wire.send(frames.REKEY, frames.pack_rekey(self._initiator.message))
        self._tries += 1
        self._due_ms = now_ms + self._wait_ms
        self._wait_ms = min(2 * self._wait_ms, MOST_WAIT_MS)


# What a dialer may hold that got none of the answers to its attempts to resume: the secrets under which it
# was heard last (a rekey leaves two), or one of the latest offered since.
CONFIRMED_SECRETS = 2
UNCONFIRMED_SECRETS = 6


# A listener takes part in at most one rekey in this time: a dialer starts one in two minutes, or in four
# million datagrams. Each costs two key agreements and an epoch.
REKEY_EVERY_MS = 250


class ListenerRekey:
    """The side that answers."""

    def __init__(
        self, link_wire: LinkWire, algorithm: str, secret: bytes, cids: Cids[Any], entropy: Entropy
    ) -> None:
        self._link_wire = link_wire
        self._algorithm = algorithm
        self._cids = cids
        self._entropy = entropy
        self._responder = RekeyResponder(secret, algorithm, entropy)
        self._former: tuple[bytes, ...] = ()
        self._newest = b""  # the dialer's newest message, which may be repeated
        self._next_ms = 0  # none other is taken before

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The session secrets that the dialer may hold, by one of which it may resume the link."""
        return self._responder.secrets + self._former

    def restart(self, secret: bytes) -> None:
        """A handshake gave new keys, though the dialer may not have got our answer, nor those before it."""
        unconfirmed = self._former[CONFIRMED_SECRETS:] + self._responder.secrets
        self._former = self._former[:CONFIRMED_SECRETS] + unconfirmed[-UNCONFIRMED_SECRETS:]
        self._responder = RekeyResponder(secret, self._algorithm, self._entropy)

    def confirm(self) -> None:
        """The dialer was heard under the newest epoch."""
        self._responder.confirm()
        self._former = ()

    def receive(self, message: bytes, now_ms: int) -> NewEpoch | None:
        """Answer the dialer's message: the new epoch, or None if there is nothing new, or too much."""
        if message != self._newest and now_ms < self._next_ms:
            return None
        own_cid = self._cids.draw()
        answer = self._responder.receive(message, own_cid)
        if answer is None:
            return None
        reply, rekeyed = answer
        self._link_wire.send(frames.REKEY, frames.pack_rekey(reply))
        if rekeyed is None:
            return None
        self._newest, self._next_ms = message, now_ms + REKEY_EVERY_MS
        return NewEpoch(rekeyed.epoch, own_cid, rekeyed.peer_cid, rekeyed.session_secret)
