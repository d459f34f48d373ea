"""What a handshake comes to: a link, a refusal, another INIT, or an answer that is sent at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from kcpg.core.native.handshake.keys import EpochKeys
from kcpg.core.native.handshake.params import LinkParams, Verdict


class RetryReason(IntEnum):
    """Why the listener wants another INIT."""

    CLOCK = 1  # the INIT's time is 60 s or more from the listener's
    COOKIE = 2  # under load: show that you receive at your address


@dataclass(frozen=True, slots=True)
class Resume:
    """The link to resume: the CID its listener receives by, and the newest secret both sides have."""

    server_cid: int
    session_secret: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """A link's first epoch. The dialer receives by `client_cid` under the s2c key, the listener by
    `server_cid` under c2s. `params` are the agreed ones as the dialer sees them (`mirrored()` for the
    listener).
    """

    epoch: EpochKeys
    client_cid: int
    server_cid: int
    params: LinkParams
    verdict: Verdict
    session_secret: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The listener does not take the link, and says why in `verdict.text`."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Retry:
    """The listener wants another INIT, in `wait_ms`; the Initiator has taken note of the cookie and of the
    clock.
    """

    reason: int
    server_time_s: int
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A datagram to send back to where the INIT came from. `kind`: "retry" or "repeat" (of a RESP)."""

    datagram: bytes
    kind: str
