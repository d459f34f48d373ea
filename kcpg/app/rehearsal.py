"""A handshake with ourselves before any socket is open.

What is done for the first time imports modules and proves the ciphers by known answers, which takes tenths of
a second. In the middle of the first handshakes others would wait for that, and in the event loop's own
greenlet an import may meet the lock of another one, for which nothing there can wait.
"""

from __future__ import annotations

import os

from kcpg import engine
from kcpg.core.native.handshake.handshake import Initiator, InitRequest, Responder
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.core.native.handshake.params import LinkParams, Verdict
from kcpg.core.seal.seal import KEY_BYTES, HeaderMask, iv_bytes, xor

HEADER_BYTES = 8
SAMPLE_BYTES = 16
CID = 1


def rehearse(algorithm: str) -> None:
    """Do all that a handshake and the first datagram of a link do, with this data cipher."""
    keys = RootKeys.from_key(os.urandom(KEY_BYTES))
    params = LinkParams(algorithm=algorithm)
    dialer = Initiator(keys, params, CID, os.urandom)
    listener = Responder(keys, os.urandom)
    request = listener.receive(*_unmasked(keys.mask_c2s, dialer.init(0)), b"", b"", 0, 0)
    if isinstance(request, InitRequest):
        done = request.accept(params, Verdict(True), CID)
        if done is not None:
            dialer.receive(*_unmasked(keys.mask_s2c, done[0]), 0)
    engine.Sealer(algorithm, bytes(KEY_BYTES), bytes(iv_bytes(algorithm))).seal(0, b"", b"")


def _unmasked(key: bytes, datagram: bytes) -> tuple[bytes, bytes]:
    mask = HeaderMask(key).mask(datagram[-SAMPLE_BYTES:])
    return xor(datagram[:HEADER_BYTES], mask), datagram[HEADER_BYTES:]
