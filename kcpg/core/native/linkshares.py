"""Links by where they came from first: who has most of them gives way when there are too many."""

from __future__ import annotations

from itertools import islice
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Place(NamedTuple):
    """Where a link came from: a site that has many addresses (/48 of IPv6), and a customer or network in it
    (/64). One IPv4 address is both."""

    site: bytes
    source: bytes


class LinkShares(Generic[T]):
    """Each of these, oldest first, by its place."""

    def __init__(self) -> None:
        self._places: dict[T, Place] = {}
        self._of: dict[bytes, dict[bytes, dict[T, None]]] = {}  # by site, by source
        self._counts: dict[bytes, int] = {}  # of sites

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, one: T) -> bool:
        return one in self._places

    def enter(self, one: T, place: Place) -> None:
        """One more."""
        self._places[one] = place
        self._of.setdefault(place.site, {}).setdefault(place.source, {})[one] = None
        self._counts[place.site] = self._counts.get(place.site, 0) + 1

    def leave(self, one: T) -> None:
        """It is over, if it is here at all."""
        place = self._places.pop(one, None)
        if place is None:
            return
        sources = self._of[place.site]
        del sources[place.source][one]
        if not sources[place.source]:
            del sources[place.source]
        self._counts[place.site] -= 1
        if not sources:
            del self._of[place.site], self._counts[place.site]

    def counts(self, place: Place) -> tuple[int, int]:
        """How many this site has, and this source."""
        return self._counts.get(place.site, 0), len(self._of.get(place.site, {}).get(place.source, ()))

    def most(self) -> Place:
        """The site that has most, and in it the source that does. There must be some."""
        site = max(self._counts, key=self._counts.__getitem__)
        sources = self._of[site]
        return Place(site, max(sources, key=lambda source: len(sources[source])))

    def next(self, place: Place, count: int) -> list[T]:
        """So many: of this source if it has half of what the site has, else one of each of its sources.

        Whoever was given is the last to be given again.
        """
        site, source = self.counts(place)
        sources = self._of[place.site]
        if 2 * source >= site:
            chosen = list(islice(sources[place.source], count))
        else:
            chosen = [next(iter(links)) for links in islice(sources.values(), count)]
        for one in chosen:
            source_of = self._places[one].source
            links = sources.pop(source_of)
            links[one] = links.pop(one)
            sources[source_of] = links
        return chosen
