"""What a listener sends, divided among its users, and each user's part among his links: who wants less than
his part leaves the rest to those who want more.

Each link keeps its rate by its own pacer, so this costs nothing per datagram; here the rates are set anew a
few times a second, by what each link has sent since the last time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kcpg.core.native.link.link import Link

SHAPE_MS = 100  # How long somebody may wait for what others leave, and have more than there is

# A link that has lately sent this part of its rate would take more. At 300 kbit/s it sends some 12 datagrams
# in the time that counts, so what it sends is known to within a twelfth.
HUNGRY = 0.75

# What one that is not hungry is thought to want next, and the least.
GROWTH = 1.5
LEAST_BPS = 64_000  # Keys of a terminal, and a handshake of TLS

SMOOTHING = 4  # The rate of a link is that of the last four times or so

# What was sent beyond a limit, by who took at once what others had borrowed, is made up for within this time.
REPAY_MS = 500

# ... at the price of no more than this part of the limit.
REPAY_MOST = 0.5


def divide(capacity: float, wants: Sequence[float]) -> list[float]:
    """Parts of `capacity`: nobody gets more than he wants, and whoever gets less gets as much as any."""
    parts = [0.0] * len(wants)
    left, open_ = capacity, len(wants)
    for place in sorted(range(len(wants)), key=lambda place: wants[place]):
        parts[place] = min(wants[place], left / open_)
        left -= parts[place]
        open_ -= 1
    return parts


class _Usage:
    """What was sent under one limit."""

    __slots__ = ("debt_bits", "rate_bps", "sent_bytes")

    def __init__(self, sent_bytes: int) -> None:
        self.sent_bytes = sent_bytes
        self.rate_bps = 0.0
        self.debt_bits = 0.0

    def keep(self, limit_bps: float, sent_bps: float, for_ms: int) -> float:
        """The limit for the next time, less what was sent beyond it."""
        self.debt_bits = max(self.debt_bits + (sent_bps - limit_bps) * for_ms / 1000, 0.0)
        self.debt_bits = min(self.debt_bits, limit_bps * REPAY_MS / 1000)
        return max(limit_bps - self.debt_bits * 1000 / REPAY_MS, limit_bps * REPAY_MOST)


class Shaper:
    """`total_bps`: for all users together; 0: no limit."""

    def __init__(self, total_bps: int = 0) -> None:
        self.total_bps = total_bps
        self._links: dict[Link, _Usage] = {}
        self._users: dict[bytes, _Usage] = {}
        self._total = _Usage(0)
        self._shaped_ms = 0

    def forget(self, link: Link) -> None:
        """The link is over."""
        self._links.pop(link, None)

    def forget_user(self, key: bytes) -> None:
        """He has no link any more."""
        self._users.pop(key, None)

    def shape(self, users: Iterable[tuple[bytes, int, list[Link]]], now_ms: int) -> None:
        """Set the rates of these users' links: key, limit in bit/s (0: none), links that carry flows."""
        for_ms = max(now_ms - self._shaped_ms, 1)
        self._shaped_ms = now_ms
        rows = []
        for key, limit_bps, links in users:
            sent = [self._measure(link, for_ms) for link in links]
            wants = [self._wants(link, one) for link, one in zip(links, sent, strict=True)]
            rows.append((key, limit_bps, links, sum(one for one in sent), wants))
        if not rows:
            return
        limits = [float(limit_bps or self.total_bps) for _, limit_bps, _, _, _ in rows]
        if self.total_bps:
            total = self._total.keep(self.total_bps, sum(row[3] for row in rows), for_ms)
            wanted = [min(limit, sum(row[4])) for limit, row in zip(limits, rows, strict=True)]
            fair = total / len(rows)
            limits = [
                min(max(part, fair), limit) for part, limit in zip(divide(total, wanted), limits, strict=True)
            ]
        for (key, own_bps, links, sent_bps, wants), limit in zip(rows, limits, strict=True):
            if own_bps:
                usage = self._users.setdefault(key, _Usage(0))
                limit = min(limit, usage.keep(own_bps, sent_bps, for_ms))
            self._set(links, wants, limit)

    def _measure(self, link: Link, for_ms: int) -> float:
        """What it has sent since the last time, in bit/s."""
        sent_bytes = link.link_wire.tx_bytes
        usage = self._links.get(link)
        if usage is None:
            self._links[link] = _Usage(sent_bytes)
            return 0.0
        sent_bps = (sent_bytes - usage.sent_bytes) * 8000 / for_ms
        usage.sent_bytes = sent_bytes
        usage.rate_bps += (sent_bps - usage.rate_bps) / SMOOTHING
        return sent_bps

    def _wants(self, link: Link, sent_bps: float) -> float:
        rate_bps = link.link_wire.rate_bps
        lately_bps = max(self._links[link].rate_bps, sent_bps)
        if not rate_bps or self._links[link].rate_bps >= HUNGRY * rate_bps:
            return float("inf")
        return max(lately_bps * GROWTH, LEAST_BPS)

    @staticmethod
    def _set(links: list[Link], wants: list[float], limit_bps: float) -> None:
        fair = limit_bps / len(links)
        for link, part in zip(links, divide(limit_bps, wants), strict=True):
            link.share(1, max(int(max(part, fair)), 1))
