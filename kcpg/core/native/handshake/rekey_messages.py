"""The next epoch of a living link: the same key agreement, in two REKEY frames, under a psk from the session
secret.

Only the dialer starts one, so two never cross. A lost frame is sent again unchanged; its repetition gets the
same answer. The old epoch stays accepted until the link retires it.
"""

from __future__ import annotations

from dataclasses import dataclass

from kcpg.core.native.handshake import noise
from kcpg.core.native.handshake.envelope import Entropy
from kcpg.core.native.handshake.keys import EpochKeys, expand

PROLOGUE = b"kcpg/1 rekey"


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """A new epoch: its keys, the CID the peer receives by, and the secret for resuming and the next rekey."""

    epoch: EpochKeys
    peer_cid: int
    session_secret: bytes


class RekeyInitiator:
    """The dialer's side of one rekey. `cid`: what we will receive by, non-zero and not in use by this leg."""

    def __init__(self, session_secret: bytes, algorithm: str, cid: int, entropy: Entropy) -> None:
        assert 0 < cid < 1 << 32
        # Goes into a REKEY frame (`frames.pack_rekey`), again and again until the answer comes.
        self._algorithm = algorithm
        self._noise = noise.Initiator(_psk(session_secret), PROLOGUE, entropy(32))
        self.message = self._noise.write(cid.to_bytes(4, "big"))

    def receive(self, message: bytes) -> Rekeyed | None:
        """Take the contents of the listener's REKEY frame. None: not the answer to ours."""
        opened = self._noise.read(message)
        return None if opened is None else _finish(self._algorithm, *opened)


class RekeyResponder:
    """The listener's side of all rekeys of one link, one after another."""

    def __init__(self, session_secret: bytes, algorithm: str, entropy: Entropy) -> None:
        self._algorithm = algorithm
        self._entropy = entropy
        self._secret = session_secret
        self._former: bytes | None = None
        self._answered: tuple[bytes, bytes] | None = None  # the newest message and its answer

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The session secrets the dialer may hold now, newest first: a RESUME is proved with one of them."""
        return (self._secret,) if self._former is None else (self._secret, self._former)

    def receive(self, message: bytes, cid: int) -> tuple[bytes, Rekeyed | None] | None:
        """Take the contents of the dialer's REKEY frame: (our REKEY frame's contents, the new epoch).

        The epoch is None for a repeated message, for which nothing new is to be installed. None: not
        authentic. `cid`: what we will receive by, non-zero and not in use by this leg.
        """
        assert 0 < cid < 1 << 32
        if self._answered is not None and message == self._answered[0]:
            return self._answered[1], None
        side = noise.Responder(_psk(self._secret), PROLOGUE)
        payload = side.read(message)
        if payload is None:
            return None
        written = side.write(cid.to_bytes(4, "big"), self._entropy(32))
        rekeyed = _finish(self._algorithm, payload, written[1]) if written is not None else None
        if written is None or rekeyed is None:
            return None
        self._answered = (message, written[0])
        self._former, self._secret = self._secret, rekeyed.session_secret
        return written[0], rekeyed

    def confirm(self) -> None:
        """A datagram under the newest epoch came: the dialer has the newest secret, forget the former."""
        self._former = None


def _psk(session_secret: bytes) -> bytes:
    return expand(session_secret, b"rekey psk")


def _finish(algorithm: str, payload: bytes, keys: noise.Keys) -> Rekeyed | None:
    cid = int.from_bytes(payload[:4], "big")
    if len(payload) < 4 or not cid:
        return None
    return Rekeyed(EpochKeys.derive(algorithm, keys.c2s, keys.s2c), cid, keys.secret)
