"""What may be sent to an address at which nobody has shown yet that the peer receives; in plain Python.

Whoever has the key may say that it moved to an address of somebody else, who would then get what was meant
for it. So such an address gets little until it answers (RFC 9000, 8.1 and 9.3).
"""

from __future__ import annotations

UNLIMITED = (1 << 63) - 1  # bytes: the address is known to be the peer's

PATH_CREDIT = 3  # times the bytes that came from an address may be sent to it, until it has answered


class PathCredit:
    """Of one link, for the path that it sends by.

    `is_limited`: that path has not answered. All that the link sends counts, to whichever address.
    """

    def __init__(self) -> None:
        self.is_limited = False
        self._came = 0  # bytes, since they come from where they come from now
        self._sent_before = 0

    def came(self, size: int, is_new: bool) -> None:
        """A datagram, in order, from where the last one came from too, or from another path."""
        self._came = size if is_new else self._came + size

    def limit(self, sent_bytes: int) -> None:
        """From now on the link sends to where its newest datagrams came from. It has sent so much so far."""
        self.is_limited = True
        self._sent_before = sent_bytes

    def left(self, sent_bytes: int) -> int:
        """How many bytes may leave now; the link has sent so many so far."""
        if not self.is_limited:
            return UNLIMITED
        return PATH_CREDIT * self._came - (sent_bytes - self._sent_before)

    def datagrams(self, sent_bytes: int, datagram_bytes: int, longest: int) -> int:
        """How many datagrams of a turn that is; 0 or less: none. `longest`: of one that may have to leave in
        pieces, which count as two of them."""
        return self.left(sent_bytes) // (2 * longest if longest > datagram_bytes else datagram_bytes)
