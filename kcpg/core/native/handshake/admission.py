"""Who gets an answer: replayed INITs, return routability, and the rate of each source.

Nothing here remembers a stranger: the listener asks only about datagrams that opened under the password.
Every table is bounded by a number, not by the attacker's patience.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict

from kcpg.core.native.handshake.envelope import COOKIE_BYTES

# An INIT is good for less than 60 s to either side of its time, so a copy is harmless after 120 s.
SALT_MEMORY_MS = 120_000

# About 10 MB, and 546 INITs a second for two minutes; beyond that the listener asks for cookies.
MAX_SALTS = 65_536

COOKIE_PERIOD_MS = 30_000  # A cookie is good for this period and the next: between 30 and 60 s

# Handshakes of one source. One costs about 0.3 ms, so a source gets at most 1.5 % of a core.
MAX_SOURCES = 4096
SOURCE_RATE_PER_S = 50

SOURCE_BURST = 200  # A hundred nodes behind one address may start together, each trying twice

# Datagrams of one source that look like INITs and do not open: changed copies, as one of 2^32 comes by
# accident. Beyond these nothing of that source is opened, so that it costs what noise costs.
FAILURES_PER_S = 10
FAILURES_BURST = 64


class SaltSet:
    """The salts of the INITs of the last two minutes, exactly."""

    def __init__(self, limit: int = MAX_SALTS) -> None:
        self._limit = limit
        self._until: OrderedDict[bytes, int] = OrderedDict()  # in order of arrival

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, salt: bytes) -> bool:
        return salt in self._until

    def add(self, salt: bytes, now_ms: int) -> bool:
        """Remember a salt. False: no room."""
        self._forget(now_ms)
        if len(self._until) >= self._limit:
            return False
        self._until[salt] = now_ms + SALT_MEMORY_MS
        return True

    def full(self, now_ms: int) -> bool:
        """No room for another salt now."""
        self._forget(now_ms)
        return len(self._until) >= self._limit

    def _forget(self, now_ms: int) -> None:
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now_ms:
                return
            self._until.popitem(last=False)


class Cookies:
    """Proves that a source receives at the address it sends from, without remembering it. `secret`: 32
    bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, source: bytes, client_cid: int, now_ms: int) -> bytes:
        """The cookie for this source and dialer, never all zeros (which stands for none)."""
        return self._make(source, client_cid, now_ms // COOKIE_PERIOD_MS)

    def valid(self, cookie: bytes, source: bytes, client_cid: int, now_ms: int) -> bool:
        """Was this cookie made for this source at most one period ago?"""
        period = now_ms // COOKIE_PERIOD_MS
        older, newer = (self._make(source, client_cid, period - back) for back in (1, 0))
        return hmac.compare_digest(cookie, newer) | hmac.compare_digest(cookie, older)

    def _make(self, source: bytes, client_cid: int, period: int) -> bytes:
        bound = period.to_bytes(16, "big", signed=True) + client_cid.to_bytes(4, "big") + source
        cookie = hmac.digest(self._secret, bound, "sha256")[:COOKIE_BYTES]
        return cookie if any(cookie) else b"\x01" * COOKIE_BYTES


class Sources:
    """A token bucket for each source address (a /32 or a /64), of the sources seen last."""

    def __init__(
        self, limit: int = MAX_SOURCES, rate_per_s: int = SOURCE_RATE_PER_S, burst: int = SOURCE_BURST
    ) -> None:
        self._limit = limit
        self._rate_per_s = rate_per_s
        self._burst = burst
        # Key -> tokens, when; in order of last use. A dict would look for its first among those that left.
        self._buckets: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: bytes, now_ms: int) -> bool:
        """May this source have one more handshake now?"""
        buckets = self._buckets
        bucket = buckets.get(key)
        if bucket is None:
            buckets[key] = (float(self._burst - 1), now_ms)
            if len(buckets) > self._limit:
                buckets.popitem(last=False)
            return True
        tokens = min(self._burst, bucket[0] + (now_ms - bucket[1]) * self._rate_per_s / 1000)
        granted = tokens >= 1
        buckets[key] = (tokens - 1 if granted else tokens, now_ms)
        buckets.move_to_end(key)
        return granted

    def spent(self, key: bytes, now_ms: int) -> bool:
        """Has this source nothing left?"""
        bucket = self._buckets.get(key)
        return bucket is not None and bucket[0] + (now_ms - bucket[1]) * self._rate_per_s / 1000 < 1
