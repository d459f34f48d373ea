"""What is counted per link and per leg; everything only grows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kcpg.core.kcp.kcp import Kcp

# What a conversation counts, by the names it has there; its link wire keeps the sums.
SEGMENTS = (
    "segments_sent",
    "segments_resent_fast",
    "segments_resent_rto",
    "segments_resent_tail",
    "resends_spurious",
    "segments_received",
    "duplicates_received",
    "bytes_sent",
)


def add_segments(total: Counter[str], conv: Kcp) -> None:
    """Add what a conversation has counted so far."""
    for name in SEGMENTS:
        total[name] += getattr(conv, name)


@dataclass(slots=True)
class LinkCounters:
    """One link's life in numbers. Its link wire counts datagrams and bytes, the leg's wire drops."""

    flows_opened: int = 0
    flows_finished: int = 0
    flows_reset: int = 0  # Aborted by either side, or with the link
    flows_refused: int = 0  # More conversations than the limit
    opens_malformed: int = 0
    opens_crowded: int = 0  # Segments of new conversations while too many were not opened yet
    opens_late: int = 0  # Conversations whose OPEN message did not come in time
    resets_sent: int = 0  # RESET frames, repetitions included
    resets_received: int = 0
    unknown_convs: int = 0  # Segments of conversations that are over or never were
    frames_malformed: int = 0
    pings_sent: int = 0
    pongs_received: int = 0
    silences: int = 0  # Times the peer was not heard though it owed an answer
    resumes: int = 0
    rekeys: int = 0
    mtu_probes: int = 0
    mtu_shrinks: int = 0  # Times datagrams of the size in use did not pass any more
    moves: int = 0  # Changes of the peer's address that were followed
    hops: int = 0  # Changes of the path that this side made (dialer)
    hops_urgent: int = 0  # Of these: away from a path that was losing much
    hops_failed: int = 0  # Candidate paths that did not answer, or were not taken


@dataclass(slots=True)
class LegCounters:
    """What happens before there is a link, and to links as a whole."""

    inits_sent: int = 0
    inits_received: int = 0
    no_answer: int = 0  # Handshake attempts that ran out of time (dialer)
    answers_sent: int = 0  # RESP datagrams, repetitions included (listener)
    retries: int = 0  # RETRY datagrams sent (listener) or obeyed (dialer)
    refused: int = 0  # Handshakes that ended in a refusal, on either side
    strangers: int = 0  # Datagrams that belong to no link and are no handshake under our password
    handed_over: int = 0  # Datagrams given to the process that has their link (listener)
    links_opened: int = 0
    links_closed: int = 0
    links_full: int = 0  # Handshakes declined because of max_links
    draining: int = 0  # Handshakes left unanswered because this node is about to end (listener)
    half_open_full: int = 0  # Handshakes declined because too many were not confirmed yet (listener)
    half_open_expired: int = 0  # Links that a handshake made and nobody used (listener)
    flows_unreachable: int = 0  # Flows that waited for a link in vain (dialer)
    sockets_missing: int = 0  # Times that the system had no socket for a further link (dialer)
    unresolved: int = 0
