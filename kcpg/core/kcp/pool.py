"""Who may hold how much of the memory for segments that all conversations of a leg share.

A slot holds one segment. Nothing is rationed while an eighth of the pool is in use and nobody asks for more
than a sixteenth. Beyond that shares shrink with what is left, so that whoever comes last finds as much as
those before him may have (dynamic thresholds: Choudhury and Hahne, 1998). They shrink with its square, as a
reader that has stopped gives nothing back: after n of those at least 1/(1 + n/8) is left, where with a fixed
part of the rest for each nothing would be.

* A link may hold left * left / all of the pool, for what arrives and for what is sent apart.
* One of its conversations may hold an eighth of what its link has left while it moves; and
  left * left / (8 * link) of what waits for its reader, or in its queue.
"""

from __future__ import annotations

LEAST_LOG = 12  # a conversation has 1/4096 of the slots each way, ...
LEAST = 2  # ... at least this, whatever others hold
SHARE = 32  # and this, or ...
MOVING_LOG = 7  # ... 1/128 of them in flight, while less than three quarters are in use
CALM_LOG = 3  # with less than an eighth in use nothing is rationed ...
CALM_WINDOW_LOG = 4  # ... to who wants a sixteenth at most
SPARE_LOG = 2  # what waits to be sent leaves a quarter for what arrives
PART_LOG = 3  # of what its link has left: what one may hold
LATE_STOPS = 4  # times that of what was under way when its reader stopped


class Pool:
    """`max_slots`: most segments that are held, 0: no limit. `refused`: arrivals that had no share left."""

    __slots__ = ("live", "max_slots", "refused")

    def __init__(self, max_slots: int = 0) -> None:
        self.max_slots = max_slots
        self.live = 0
        self.refused = 0

    def calm(self, wanted: int) -> bool:
        """So little is in use, and wanted, that nobody need look further."""
        little = self.live <= self.max_slots >> CALM_LOG and wanted <= self.max_slots >> CALM_WINDOW_LOG
        return little or not self.max_slots

    @property
    def least(self) -> int:
        """Slots that each direction of a conversation may hold in any case, while there are any."""
        return max(min(self.max_slots >> LEAST_LOG, SHARE), LEAST)

    @property
    def has_spare(self) -> bool:
        """Less than three quarters are in use."""
        return self.live + (self.max_slots >> SPARE_LOG) < self.max_slots

    def moving(self, left: int) -> int:
        """Slots for one that moves, whose link has so many left."""
        least = max(self.max_slots >> MOVING_LOG, SHARE) if self.has_spare else self.least
        return max(left >> PART_LOG, least)

    def link_share(self, spare: int, own: int) -> int:
        """Slots that one link may hold now, with `spare` left free; the asker's `own` do not count."""
        left = max(self.max_slots - (self.live + spare - own), 0)
        return left * left // self.max_slots


class LinkShare:
    """What the conversations of one link hold of a pool."""

    __slots__ = ("pool", "rx_slots", "tx_slots")

    def __init__(self, pool: Pool | None = None) -> None:
        self.pool = pool or Pool()
        self.rx_slots = 0
        self.tx_slots = 0

    def note_received(self, count: int) -> None:
        """So many segments were kept; less than 0: delivered."""
        self.rx_slots += count
        self.pool.live += count

    def note_queued(self, count: int) -> None:
        """So many segments were queued; less than 0: acknowledged."""
        self.tx_slots += count
        self.pool.live += count

    def may_receive(self, own: int) -> tuple[int, int, int]:
        """With `own` of them held already: segments left for its link, for a reader that keeps up, and for
        one that stopped.
        """
        link = self.pool.link_share(0, own)
        left = max(link - (self.rx_slots - own), 0)
        return left, self.pool.moving(left), max(_stopped(link, left), self.pool.least)

    def may_queue(self, held: int, in_flight: int, queued: int, shut: bool, most: int) -> int:
        """Segments for the queue of a sender that holds so many, `queued` of them there. `shut`: the peer
        takes no more.
        """
        pool = self.pool
        if pool.calm(held + most):
            return most
        own = min(held, self.tx_slots)
        link = pool.link_share(pool.max_slots >> SPARE_LOG, own)
        left = max(link - (self.tx_slots - own), 0)
        moving = max(pool.moving(left) - in_flight, 0)
        there = pool.max_slots - pool.live + queued
        least = SHARE if not shut and pool.has_spare else pool.least
        return min(moving, there, max(_stopped(link, left), least), most)


def _stopped(link: int, left: int) -> int:
    """Of a link's share, of which `left` is free: what one may hold that does not move."""
    return left * left // (link << PART_LOG) if link else 0
