"""The states of a dialed link, and what changes them."""

from __future__ import annotations

from enum import Enum


class DialState(Enum):
    """What is being done about the link."""

    STOPPED = "stopped"
    CALLING = "calling"  # There is no link; an attempt runs
    UP = "up"
    RESUMING = "resuming"  # The link is silent; an attempt runs
    CLOSED = "closed"


class DialInput(Enum):
    """What changes that."""

    START = "start"
    ACCEPTED = "accepted"
    HEARD = "heard"
    SILENT = "silent"
    LOST = "lost"
    CLOSE = "close"


# Every other input changes nothing.
NEXT_STATE = {
    (DialState.STOPPED, DialInput.START): DialState.CALLING,
    (DialState.CALLING, DialInput.ACCEPTED): DialState.UP,
    (DialState.UP, DialInput.SILENT): DialState.RESUMING,
    (DialState.UP, DialInput.LOST): DialState.CALLING,
    (DialState.RESUMING, DialInput.ACCEPTED): DialState.UP,
    (DialState.RESUMING, DialInput.HEARD): DialState.UP,
    (DialState.RESUMING, DialInput.LOST): DialState.CALLING,
    (DialState.STOPPED, DialInput.CLOSE): DialState.CLOSED,
    (DialState.CALLING, DialInput.CLOSE): DialState.CLOSED,
    (DialState.UP, DialInput.CLOSE): DialState.CLOSED,
    (DialState.RESUMING, DialInput.CLOSE): DialState.CLOSED,
}
