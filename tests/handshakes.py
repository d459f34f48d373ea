"""Two parties of a handshake and the wire between them, for tests: seeded, and with every clock an
argument.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from kcpg.core.native.handshake.handshake import Initiator, InitRequest, Responder
from kcpg.core.native.handshake.keys import KeyPair, RootKeys
from kcpg.core.native.handshake.outcomes import Accepted, Refused, Reply, Resume, Retry
from kcpg.core.native.handshake.pace import Pace
from kcpg.core.native.handshake.params import LinkParams, negotiate
from kcpg.core.seal.seal import HeaderMask, xor

KEYS = RootKeys.from_key(bytes(range(32)))
OTHER_KEYS = RootKeys.from_key(bytes(32))
SOURCE = b"192.0.2.1:40000"
WALL_S = 1_800_000_000

# A listener with users, and those who dial it.
LISTENER = KeyPair(b"l" * 32)
ALICE, BOB, MALLORY = (KeyPair(name * 32, LISTENER.own.public) for name in (b"a", b"b", b"m"))
LISTENER_KEYS = RootKeys.from_pair(LISTENER)


def unmask(mask_key: bytes, datagram: bytes) -> tuple[bytes, bytes]:
    """(clear header, body), as a wire hands strangers out."""
    body = datagram[8:]
    return xor(datagram[:8], HeaderMask(mask_key).mask(body[-16:])), body


class Unhurried(Pace):
    """Of a listener that has time for everybody."""

    def admit(self, who: bytes, now_ms: int) -> bool:
        return True

    def promise(self, who: bytes, now_ms: int) -> int:
        return 0


class HandshakePair:
    """A dialer and a listener. `wall_s` and `now_ms` are the listener's clocks, `skew_s` is the dialer's
    error.
    """

    def __init__(
        self,
        seed: int = 1,
        offer: LinkParams | None = None,
        mine: LinkParams | None = None,
        resume: Resume | None = None,
        skew_s: int = 0,
        max_salts: int | None = None,
        keys: RootKeys = KEYS,
        dialer_keys: RootKeys | None = None,
        admits: Callable[[bytes, int], bool] | None = None,
    ) -> None:
        self.keys, self.dialer_keys = keys, dialer_keys or keys
        self.random = random.Random(seed)
        self.mine = mine or LinkParams()
        self.offer = offer or LinkParams()
        self.wall_s, self.now_ms, self.skew_s, self.load = WALL_S, 5_000_000_000, skew_s, False
        self.listener = Responder(keys, self.random.randbytes, max_salts, admits=admits)
        self.listener.pace = Unhurried()
        self.dialer = self.another(resume)

    def another(self, resume: Resume | None = None, keys: RootKeys | None = None) -> Initiator:
        """One more dialer for the same listener."""
        cid = self.random.randrange(1, 1 << 32)
        return Initiator(keys or self.dialer_keys, self.offer, cid, self.random.randbytes, resume)

    def init(self) -> bytes:
        """An INIT of the dialer, by its own clock."""
        return self.dialer.init(self.wall_s + self.skew_s)

    def to_listener(
        self, datagram: bytes, source: bytes = SOURCE, key: bytes = b"192.0.2.1"
    ) -> InitRequest | Reply | None:
        """What the listener makes of a datagram."""
        header, body = unmask(self.keys.mask_c2s, datagram)
        return self.listener.receive(header, body, source, key, self.wall_s, self.now_ms, self.load)

    def to_dialer(self, datagram: bytes) -> Accepted | Refused | Retry | None:
        """What the dialer makes of a datagram."""
        header, body = unmask(self.dialer_keys.mask_s2c, datagram)
        return self.dialer.receive(header, body, self.wall_s + self.skew_s)

    def accept(self, request: InitRequest) -> tuple[bytes, Accepted]:
        """Let the listener take the link: (RESP, its half)."""
        params, verdict = negotiate(request.params, self.mine)
        done = request.accept(params, verdict, self.random.randrange(1, 1 << 32))
        assert done is not None
        return done

    def meet(self) -> tuple[Accepted, Accepted, int]:
        """The whole handshake: both halves, and how many INITs it took."""
        for tries in range(1, 5):
            got = self.to_listener(self.init())
            if isinstance(got, InitRequest):
                datagram, theirs = self.accept(got)
                ours = self.to_dialer(datagram)
                assert isinstance(ours, Accepted)
                return ours, theirs, tries
            assert isinstance(got, Reply) and isinstance(self.to_dialer(got.datagram), Retry)
        raise AssertionError("four INITs and no link")
