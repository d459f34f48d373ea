"""What a speed test found, in words: a table, and sentences that say what limits it and what to do."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kcpg.app.wording import rate, share
from kcpg.core.speedtest.asker import Phase
from kcpg.core.speedtest.messages import Answerer, Place, What

# From here on a figure is worth a sentence.
LOSS = 0.01  # TCP without a tunnel feels it
QUEUE_MS = 100  # Calls and games feel it
AT_LIMIT = 0.85  # Of a limit: headers and resends take the rest
BUSY = 0.85  # Of a processor core
SLOWER = 0.7  # To the end, beside to the next node
SMALL_BYTES = 1200  # What kcpg starts with; less than every ordinary line carries


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the measurement."""

    kcp: str  # Preset
    window_segments: tuple[int, int]  # (out, in); 0: measured, not configured
    limits_bps: tuple[int, int]  # Agreed bandwidths (out, in); 0: none
    datagram_bytes: int
    fec: bool
    slow_engine: bool
    busy: float  # Highest share of a processor core that this process took in a phase
    resent: float  # Share of the segments that this end sent again


@dataclass(frozen=True, slots=True)
class Way:
    """The measurement to one node."""

    place: Place
    rest: Phase
    down: Phase
    up: Phase

    @property
    def answerer(self) -> Answerer | None:
        return self.down.answerer or self.up.answerer

    @property
    def round_trip_ms(self) -> float | None:
        """At rest."""
        return middle(self.rest)

    @property
    def title(self) -> str:
        who = "the server" if self.answerer is Answerer.SERVER else "a relay"
        return f"to the next node, {who}" if self.place is Place.NEXT else f"to the end, {who}"

    def queue_ms(self, phase: Phase) -> float | None:
        """What the round trip is longer by than at rest."""
        loaded, rest = middle(phase), self.round_trip_ms
        return None if loaded is None or rest is None else max(loaded - rest, 0.0)


def middle(phase: Phase) -> float | None:
    """The median round trip; None: no probe came back."""
    return statistics.median(phase.round_trips_ms) if phase.round_trips_ms else None


def loss(phase: Phase) -> float:
    """Share of the probes lost on the way that the phase loads; at rest on both."""
    if phase.what is What.SEND:
        return phase.lost_back
    if phase.what is What.RECEIVE:
        return phase.lost_there
    return 1 - len(phase.round_trips_ms) / phase.sent if phase.sent else 0.0


def table(way: Way) -> list[str]:
    """The figures to one node."""
    lines = [f"{way.title}:", f"  {'':10}{'rate':>14}{'round trip':>14}{'queue':>10}{'loss':>8}"]
    for name, phase in (("at rest", way.rest), ("download", way.down), ("upload", way.up)):
        moves = rate(round(phase.bps)) if phase.what is not None else ""
        queue = "" if phase.what is None else _ms(way.queue_ms(phase))
        lines.append(f"  {name:10}{moves:>14}{_ms(middle(phase)):>14}{queue:>10}{share(loss(phase)):>8}")
    return lines


def _ms(value: float | None) -> str:
    return "-" if value is None else "under 1 ms" if value < 1 else f"{value:.0f} ms"


def verdict(ways: Sequence[Way], facts: Facts) -> list[str]:
    """Sentences, the summary first."""
    last = ways[-1]
    summary = f"the tunnel carries {rate(round(last.down.bps))} down and {rate(round(last.up.bps))} up"
    found = [*_limits(last, facts), *_path(last, facts), *_where(ways), *_machine(facts)]
    return [f"{summary}; {'nothing holds it up but the path' if not found else 'what holds it up:'}", *found]


def _limits(way: Way, facts: Facts) -> Iterator[str]:
    for name, phase, side in (("upload", way.up, 0), ("download", way.down, 1)):
        limit = facts.limits_bps[side]
        key = ("outbound", "inbound")[side]
        other = ("inbound", "outbound")[side]
        if limit and phase.bps >= AT_LIMIT * limit:
            yield (
                f"{name}: it is at the limit of {rate(limit)} that {key}_bandwidth here or "
                f"{other}_bandwidth at the next node sets"
            )
        trip_ms = middle(phase)
        window = facts.window_segments[side]
        if window and trip_ms:
            most_bps = window * facts.datagram_bytes * 8000 / trip_ms
            if phase.bps >= SLOWER * most_bps:
                whose = "kcp_sndwnd" if side == 0 else "kcp_rcvwnd, and the peer's kcp_sndwnd,"
                yield (
                    f"{name}: the window of {window} segments (kcp={facts.kcp}; {whose}) allows no more "
                    f"over a round trip of {trip_ms:.0f} ms; kcp=auto at both ends finds it by itself"
                )


def _path(way: Way, facts: Facts) -> Iterator[str]:
    for name, phase in (("upload", way.up), ("download", way.down)):
        lost, queue_ms = loss(phase), way.queue_ms(phase)
        auto = facts.kcp == "auto"
        if lost >= LOSS:
            cure = (
                "that is what kcp=auto and fec=auto are for" if not (auto and facts.fec) else "fec=auto is on"
            )
            yield f"{name}: {share(lost)} of the packets are lost; {cure}"
        if queue_ms is not None and queue_ms >= QUEUE_MS:
            end = "at both ends" if name == "upload" else "at the other end"
            cure = f"kcp=auto {end} keeps queues short"
            if auto:
                key = "outbound_bandwidth" if name == "upload" else "inbound_bandwidth"
                cure = f"others fill the queue, too; if not, set {key} a little below the line's rate"
            yield f"{name}: packets wait {queue_ms:.0f} ms in a queue; {cure}"
    if facts.resent >= LOSS and not any(loss(phase) >= LOSS for phase in (way.up, way.down)):
        yield f"{share(facts.resent)} of what this end sent was sent again"
    if facts.datagram_bytes < SMALL_BYTES:
        size = facts.datagram_bytes
        yield f"the path, mtu or kcp_mtu allow datagrams of {size} bytes only: more of each is headers"


def _where(ways: Sequence[Way]) -> Iterator[str]:
    if len(ways) < 2:
        return
    near, far = ways[0], ways[-1]
    for name in ("download", "upload"):
        first, second = (way.down if name == "download" else way.up for way in (near, far))
        if second.bps < SLOWER * first.bps:
            yield (
                f"{name}: {rate(round(first.bps))} to the next node, {rate(round(second.bps))} to the end: "
                "what is slow is beyond the next node"
            )


def _machine(facts: Facts) -> Iterator[str]:
    if facts.busy >= BUSY:
        yield "this machine's processor: one core has no time left"
    if facts.slow_engine:
        yield "the plain-Python engine: kcpg --version says why; with a C compiler it is many times as fast"


def as_json(ways: Sequence[Way], facts: Facts) -> dict[str, Any]:
    """The same for programs."""
    return {
        "datagram_bytes": facts.datagram_bytes,
        "processor": round(facts.busy, 3),
        "resent": round(facts.resent, 4),
        "ways": [
            {
                "to": "next" if way.place is Place.NEXT else "end",
                "answered_by": way.answerer.name.lower() if way.answerer is not None else None,
                "round_trip_ms": way.round_trip_ms,
                **{name: _phase(way, phase) for name, phase in (("download", way.down), ("upload", way.up))},
            }
            for way in ways
        ],
        "verdict": verdict(ways, facts),
    }


def _phase(way: Way, phase: Phase) -> dict[str, Any]:
    return {
        "bps": round(phase.bps),
        "bytes": phase.moved_bytes,
        "round_trip_ms": middle(phase),
        "queue_ms": way.queue_ms(phase),
        "loss": round(loss(phase), 4),
    }
