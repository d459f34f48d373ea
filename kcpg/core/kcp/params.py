"""What a KCP conversation can be told, and KCP's constants."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

HEADER: Final = struct.Struct("<IBBHIIII")  # conv cmd frg wnd ts sn una len
HEADER_BYTES: Final = HEADER.size

CMD_PUSH: Final = 81
CMD_ACK: Final = 82
CMD_ASK: Final = 83
CMD_TELL: Final = 84

QUEUE_SEGMENTS: Final = 256  # segments that write() leaves waiting behind the window at most
MAX_FRAGMENTS: Final = 127  # fragments of one message: ikcp refuses 128 (its least receive window) and more
MAX_PAYLOAD: Final = 0xFFFF  # more than any UDP payload; fits the 16 bits the compiled engine keeps
WINDOW_MAX: Final = 0xFFFF  # the window field has 16 bits
REMOTE_WINDOW_START: Final = 128  # IKCP_WND_RCV, assumed until the peer says
FRG_FIRST: Final = 0x80  # our own mark on the first fragment of a message (unordered conversations)
FRG_REST: Final = 0x7F  # fragments that follow
DONE: Final = 0  # flush() answers: nothing more may be sent now ...
MORE: Final = 1  # ... there was no room for it, or its share is used up ...
PACED: Final = 2  # ... or the pacer's tokens do not suffice for the next push
REBUILT_AGE_MS: Final = 1 << 30  # older than anything in flight, and far from wrapping


@dataclass(frozen=True, slots=True)
class KcpParams:
    """How one conversation retransmits and how much it holds. Windows count as 1 .. 65,535."""

    nodelay: int = 0  # back-off of a segment's RTO: 0 doubles, 1 adds half, 2 adds half of the measured RTO
    interval_ms: int = 30  # least margin between srtt and RTO
    resend: int = 2  # resend a segment after so many datagrams acknowledged later ones; 0: only by time-out
    nc: bool = True  # no congestion window
    snd_wnd: int = 1024  # segments in flight at most
    rcv_wnd: int = 1024  # segments kept for the reader at most
    min_rto_ms: int = 10  # kcptube's floor; ikcp has 100, or 30 with nodelay
    auto: bool = False  # the link finds its rate; windows are limits up to which they grow
