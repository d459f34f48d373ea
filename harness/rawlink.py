"""A link of somebody who has the key and obeys nothing: a handshake, then datagrams as its owner likes."""

from __future__ import annotations

import os
import random
import socket
import struct
import time

from kcpg.core.native.handshake.handshake import Initiator
from kcpg.core.native.handshake.keys import EpochKeys, RootKeys
from kcpg.core.native.handshake.outcomes import Accepted, Refused
from kcpg.core.native.handshake.params import LinkParams
from kcpg.core.native.handshake.rekey_messages import RekeyInitiator
from kcpg.core.native.wire import frames
from kcpg.core.seal.seal import HeaderMask, Sealer, xor

SEGMENT = struct.Struct("<IBBHIIII")  # KCP's: conv, cmd, frg, wnd, ts, sn, una, length of the data behind it
PUSH, ACK = 81, 82

HEADER_BYTES = 8
LEAST_PLAIN_BYTES = frames.MIN_PAYLOAD_BYTES + 1

ANSWER_S = 1.0  # For a message of a handshake on this machine or in this network; then it is sent again
TRIES = 5


class RawLink:
    """One link. `shake` makes it; `send` seals a frame and sends it, from another socket if one is given."""

    def __init__(self, where: tuple[str, int], key: RootKeys, algorithm: str, rng: random.Random) -> None:
        self.where, self.key, self.rng = where, key, rng
        self.params = LinkParams(algorithm=algorithm, datagram_bytes=1400)
        self.sock = open_socket(where[0])
        self.sent_bytes = self.sent_datagrams = 0
        self._mask_tx, self._mask_rx = HeaderMask(key.mask_c2s), HeaderMask(key.mask_s2c)
        self._cid = rng.randrange(1, 1 << 32)
        self._peer_cid = self._number = 0
        self._secret = b""
        self._tx: Sealer | None = None
        self._rx: dict[int, Sealer] = {}

    def first(self) -> bytes:
        """An INIT as an honest dialer sends it."""
        self._initiator = Initiator(self.key, self.params, self._cid, os.urandom)
        return self._initiator.init(int(time.time()))

    def shake(self) -> Accepted | Refused | None:
        """The handshake; None: no answer."""
        init = self.first()
        for _ in range(TRIES):
            self.post(init)
            if (datagram := self._wait(ANSWER_S)) is not None:
                got = self._initiator.receive(*self._unmask(datagram), int(time.time()))
                if isinstance(got, Accepted):
                    self._use(got.epoch, got.server_cid, self._cid)
                    self._secret = got.session_secret
                if isinstance(got, Accepted | Refused):
                    return got
            init = self._initiator.init(int(time.time()))
        return None

    def send(self, kind: int, payload: bytes = b"", sock: socket.socket | None = None) -> None:
        """A sealed frame."""
        self.post(self.sealed(kind, payload), sock)

    def sealed(self, kind: int, payload: bytes) -> bytes:
        """A datagram with this frame."""
        assert self._tx is not None, "no handshake"
        plain = (bytes((kind,)) + payload).ljust(LEAST_PLAIN_BYTES, b"\0")
        header = struct.pack(">II", self._peer_cid, self._number)
        body = self._tx.seal(self._number, header, plain)
        self._number += 1
        return xor(header, self._mask_tx.mask(body[-16:])) + body

    def post(self, datagram: bytes, sock: socket.socket | None = None) -> None:
        """Send a datagram as it is. What the kernel does not take is lost."""
        self.sent_datagrams, self.sent_bytes = self.sent_datagrams + 1, self.sent_bytes + len(datagram)
        try:
            (sock or self.sock).sendto(datagram, self.where)
        except OSError:
            return

    def drain(self) -> None:
        """Take what came, and look at none of it."""
        while self._wait(0) is not None:
            pass

    def renew(self) -> bool:
        """Renew the keys once; whether the peer took part."""
        cid = self.rng.randrange(1, 1 << 32)
        asked = RekeyInitiator(self._secret, self.params.algorithm, cid, os.urandom)
        self.send(frames.REKEY, frames.pack_rekey(asked.message))
        end_s = time.monotonic() + ANSWER_S
        while (left_s := end_s - time.monotonic()) > 0 and (datagram := self._wait(left_s)) is not None:
            message = self._rekey(datagram)
            done = asked.receive(message) if message is not None else None
            if done is not None:
                self._secret = done.session_secret
                self._use(done.epoch, done.peer_cid, cid)
                return True
        return False

    def _rekey(self, datagram: bytes) -> bytes | None:
        header, body = self._unmask(datagram)
        cid, number = struct.unpack(">II", header)
        plain = self._rx[cid].open(number, header, body) if cid in self._rx else None
        return frames.read_rekey(plain[1:]) if plain and plain[0] == frames.REKEY else None

    def _use(self, epoch: EpochKeys, peer_cid: int, own_cid: int) -> None:
        self._peer_cid, self._number = peer_cid, 0
        self._tx = Sealer(epoch.algorithm, epoch.c2s_key, epoch.c2s_iv)
        self._rx = {own_cid: Sealer(epoch.algorithm, epoch.s2c_key, epoch.s2c_iv)}

    def _unmask(self, datagram: bytes) -> tuple[bytes, bytes]:
        mask = self._mask_rx.mask(datagram[-16:])
        return xor(datagram[:HEADER_BYTES], mask), datagram[HEADER_BYTES:]

    def _wait(self, seconds: float) -> bytes | None:
        """The next datagram that could be one of ours."""
        self.sock.settimeout(seconds)
        try:
            datagram = self.sock.recv(65535)
        except OSError:
            return None
        return datagram if len(datagram) >= HEADER_BYTES + 24 else b""

    def close(self) -> None:
        """Go without a word."""
        self.sock.close()


def open_socket(host: str) -> socket.socket:
    """A UDP socket on a port of the kernel's choice."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", 0))
    return sock


def push(conv: int, sn: int, data: bytes = b"", fragment: int = 0) -> bytes:
    """A KCP segment with data."""
    return SEGMENT.pack(conv, PUSH, fragment, 1024, 0, sn, 0, len(data)) + data


def opening(target: bytes = b"", port: int = 0, source: bytes = b"hostile") -> bytes:
    """An OPEN message of a TCP flow; its texts are sent as they are."""
    return struct.pack(">BBHB", 1, 1, port, len(target)) + target + bytes((len(source),)) + source
