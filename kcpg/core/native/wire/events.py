"""What a wire tells its leg, in the order in which it happened: tuples of one of these and its operands."""

from __future__ import annotations

from typing import Any, Protocol

READY = 0  # conv: it has events of its own, see `Conv.take_events`
HEARD = 1  # link wire: something authentic came, once however much
DRAINED = 2  # conv: nothing is owed any more, which it was to say
FRAME = 3  # link wire, type, payload, path: a control frame, or an unknown conversation's number
BEGUN = 4  # link wire: data is under way and was not before, so from now on silence means something
MOVED = 5  # link wire: its newest authentic datagram came from another path than it sends by, see `source`
STRANGER = 6  # path, cid, clear header, body: a datagram under no known CID, a handshake perhaps

FRAMES_LIMIT = 1024
FRAMES_SHARE = 512  # of one link
STRANGERS_LIMIT = 256

Event = tuple[Any, ...]


class Watched(Protocol):
    """A link wire. `watched`: that it was heard is urgent."""

    watched: bool


class Events:
    """The events since they were last taken. `urgent`: links or flows have to act on some of them now."""

    def __init__(self) -> None:
        self.urgent = False
        self._waiting: list[Event] = []
        self._told: set[tuple[int, Watched]] = set()  # those of them that are told once
        self._frames = self._strangers = 0
        self._of_link: dict[Watched, int] = {}  # frames

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> list[Event]:
        """All of them, in order, but for those of conversations that are closed by now."""
        taken, self._waiting, self.urgent = self._waiting, [], False
        self._told.clear()
        self._of_link.clear()
        self._frames = self._strangers = 0
        return [event for event in taken if event[0] not in (READY, DRAINED) or not event[1].closed]

    def ready(self, conv: object) -> None:
        """A conversation has its first event."""
        self._tell(READY, conv)

    def drained(self, conv: object) -> None:
        """A conversation that waits for its end owes nothing any more."""
        self._waiting.append((DRAINED, conv))

    def heard(self, link_wire: Watched) -> None:
        """An authentic datagram came."""
        self._tell_once(HEARD, link_wire)
        self.urgent |= link_wire.watched

    def begun(self, link_wire: Watched) -> None:
        """Data is under way, the first for a while."""
        self._tell_once(BEGUN, link_wire)

    def moved(self, link_wire: Watched) -> None:
        """The newest datagram came by another path."""
        self._tell_once(MOVED, link_wire)
        self.urgent = True

    def frame(self, link_wire: Watched, frame_type: int, payload: bytes, path: tuple[int, bytes]) -> bool:
        """A control frame came; False: there are too many."""
        of_link = self._of_link.get(link_wire, 0)
        if self._frames >= FRAMES_LIMIT or of_link >= FRAMES_SHARE:
            return False
        self._frames += 1
        self._of_link[link_wire] = of_link + 1
        self._tell(FRAME, link_wire, frame_type, payload, path)
        return True

    def stranger(self, path: tuple[int, bytes], cid: int, header: bytes, body: bytes) -> bool:
        """A datagram under no known CID came; False: there are too many."""
        if self._strangers >= STRANGERS_LIMIT:
            return False
        self._strangers += 1
        self._tell(STRANGER, path, cid, header, body)
        return True

    def _tell(self, *event: Any) -> None:
        self._waiting.append(event)
        self.urgent = True

    def _tell_once(self, kind: int, link_wire: Watched) -> None:
        if (kind, link_wire) not in self._told:
            self._told.add((kind, link_wire))
            self._waiting.append((kind, link_wire))
