"""Trace lines: what the congestion control of each link believes, for plotting (`log_level=trace`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import gevent

from kcpg.app.logs import TRACE, NodeLog
from kcpg.app.metrics import Measured, Snapshot, congestion_snapshot
from kcpg.app.status_report import congestion_words
from kcpg.core.native.leg import NativeLeg
from kcpg.net.addr import text as address_text

if TYPE_CHECKING:
    from kcpg.core.native.link.link import Link

# Two or three times in a round of usual paths; a line of 300 bytes for each is 6 kB a second and link.
INSPECT_S = 0.05

LINK_CONGESTION = "link_congestion"  # The kind of these lines


class CongestionTracer:
    """Looks at every link, and writes what has changed; costs nothing where nobody hears it."""

    def __init__(self, running: Measured, log: NodeLog) -> None:
        self._running, self._log = running, log
        self._told: dict[Link, Snapshot] = {}
        self._inspecting: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begin, if the node's log has such lines."""
        if self._log.hears(TRACE):
            self._inspecting = gevent.spawn(self._inspect_on)

    def stop(self) -> None:
        """End. Idempotent."""
        if self._inspecting is not None:
            self._inspecting.kill()
            self._inspecting = None

    def inspect(self, now_s: float) -> None:
        """Write a line for each link whose beliefs have changed; `now_s`: monotonic, written with them."""
        told: dict[Link, Snapshot] = {}
        for leg, link in self._links():
            found = congestion_snapshot(link)
            if found is None:
                continue
            told[link] = found
            if found == self._told.get(link):
                continue
            peer = address_text(link.peer) if link.peer else ""
            traffic = {"rx_bytes": link.link_wire.rx_bytes, "tx_bytes": link.link_wire.tx_bytes}
            fields = {"monotonic_s": round(now_s, 4), "leg": leg, "srtt_ms": link.rtt_ms, **traffic, **found}
            words = f"{leg} {peer}: {congestion_words(found)}"
            self._log.say(TRACE, words, LINK_CONGESTION, peer, fields=fields)
        self._told = told

    def _links(self) -> Iterator[tuple[str, Link]]:
        node = self._running.node
        if node is None:
            return
        for name, leg in (("ingress", node.ingress), ("egress", node.egress)):
            if isinstance(leg, NativeLeg):
                yield from ((name, link) for link in leg.links)

    def _inspect_on(self) -> None:
        while True:
            gevent.sleep(INSPECT_S)
            self.inspect(time.monotonic())
