"""Accepts each packet number of an epoch once: the sliding window of RFC 6479."""

from __future__ import annotations

WINDOW = 8192  # packets that may overtake one another: 90 ms of a full 1 Gbit/s link of 1,400-byte datagrams

PN_LIMIT = (1 << 64) - 1  # never accepted, so that the number after the highest always exists
_HALF = 1 << 31
_M32 = (1 << 32) - 1


class ReplayWindow:
    """`check` before a packet is opened, `commit` after it proved authentic: a forgery moves nothing."""

    def __init__(self) -> None:
        self.next = 0  # highest committed number + 1
        self._seen = 0  # bit i: next - 1 - i was committed

    def check(self, pn: int) -> bool:
        """May a packet with this number still be accepted? False: seen already, or too old to know."""
        if pn >= self.next:
            return pn < PN_LIMIT
        age = self.next - 1 - pn
        return age < WINDOW and not self._seen >> age & 1

    def commit(self, pn: int) -> None:
        """This number's packet was authentic (and `check` said yes)."""
        if pn >= self.next:
            ahead = min(pn + 1 - self.next, WINDOW)
            self._seen = (self._seen << ahead | 1) & ((1 << WINDOW) - 1)
            self.next = pn + 1
        else:
            self._seen |= 1 << (self.next - 1 - pn)

    def expand(self, pn32: int) -> int:
        """The number with these low 32 bits that is nearest to the one expected next (RFC 9000, A.3)."""
        pn = (self.next & ~_M32) | pn32
        if pn + _HALF <= self.next and pn < PN_LIMIT - _M32:
            return pn + _M32 + 1
        if pn > self.next + _HALF and pn > _M32:
            return pn - _M32 - 1
        return pn
