"""A segment in flight, and how it is put into a datagram."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Mark(IntEnum):
    """Why a segment is to be resent whatever the acknowledgements say."""

    NONE = 0
    TAIL = 1  # to hear of it sooner
    LATE = 2  # its time is over


@dataclass(slots=True)
class Sent:
    """A segment in flight."""

    frg: int
    payload: bytes | bytearray
    first_ts: int
    ts: int  # of the last transmission
    rto: int = 0  # after time-outs, backed off; 0: the conversation's
    skips: int = 0  # datagrams that acknowledged later segments, sent no earlier than `ts`
    mark: Mark = Mark.NONE
    copy: bool = False  # a resend that is to be followed by a copy


class Push(Protocol):
    """Puts one push segment into a datagram: DONE; MORE or PACED: what forbids it, nothing was done."""

    def __call__(self, sn: int, frg: int, payload: bytes | bytearray) -> int: ...
