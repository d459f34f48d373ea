"""What a link sends under, in plain Python: its peer's CID, a key, and the number of the next datagram."""

from __future__ import annotations

from kcpg.core.native.wire.headers import pack
from kcpg.core.seal.seal import Sealer


class TxEpoch:
    """What seals datagrams for one CID of the peer, and the packet number of the next one."""

    __slots__ = ("cid", "pn", "sealer")

    def __init__(self, cid: int, sealer: Sealer) -> None:
        self.cid = cid
        self.sealer = sealer
        self.pn = 0

    def seal(self, plaintext: bytes) -> tuple[bytes, bytes]:
        """The clear header and the sealed body of the next datagram."""
        header = pack(self.cid, self.pn)
        body = self.sealer.seal(self.pn, header, plaintext)
        self.pn += 1
        return header, body
