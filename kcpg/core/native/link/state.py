"""The states of a link, and what changes them."""

from __future__ import annotations

from enum import Enum


class LinkState(Enum):
    """What is known about the peer."""

    FRESH = "fresh"  # Keys are agreed, but the peer was not heard under them
    UP = "up"
    SILENT = "silent"  # The peer owes an answer and does not give it
    CLOSED = "closed"


class LinkInput(Enum):
    """What changes that."""

    HEARD = "heard"
    SILENCE = "silence"
    END = "end"


# Every other input changes nothing.
NEXT_STATE = {
    (LinkState.FRESH, LinkInput.HEARD): LinkState.UP,
    (LinkState.FRESH, LinkInput.SILENCE): LinkState.SILENT,
    (LinkState.UP, LinkInput.SILENCE): LinkState.SILENT,
    (LinkState.SILENT, LinkInput.HEARD): LinkState.UP,
    (LinkState.FRESH, LinkInput.END): LinkState.CLOSED,
    (LinkState.UP, LinkInput.END): LinkState.CLOSED,
    (LinkState.SILENT, LinkInput.END): LinkState.CLOSED,
}

FRESH, UP, SILENT, CLOSED = LinkState  # looking them up in their class is slow
