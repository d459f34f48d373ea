"""The native tunnel legs, saying at the end of each link what it carried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcpg.app.status_report import duration, size
from kcpg.core.env import Event
from kcpg.core.native.dial.dialer import TunnelDialer
from kcpg.core.native.leg import NativeLeg
from kcpg.core.native.link.link import LinkState
from kcpg.core.native.listener import TunnelListener

if TYPE_CHECKING:
    from kcpg.core.flow import Reset
    from kcpg.core.native.link.link import Link

LINK_SUMMARY = "link_summary"  # Kind of the event; the others are the core's (`EventKind`)


def summary(link: Link, now_ms: int) -> str:
    """`flows carried 3 in 5 min 2 s, in 3.1 MB, out 3.4 MB, rtt 20 ms, flows reset 0, …`."""
    counters, bundle = link.counters, link.bundle
    rtt = f", rtt {link.rtt_ms} ms" if link.rtt_ms >= 0 else ""
    return (
        f"flows carried {counters.flows_opened} in {duration((now_ms - link.since_ms) / 1000)},"
        f" in {size(bundle.rx_bytes)}, out {size(bundle.tx_bytes)}{rtt},"
        f" flows reset {counters.flows_reset}, rekeys {counters.rekeys}, resumes {counters.resumes}"
    )


class _Summarizing(NativeLeg):
    """Reports LINK_SUMMARY after a link has ended."""

    def link_closed(self, link: Link, reason: Reset, by_peer: bool) -> None:
        """See `LinkOwner`. A link that a handshake made and nobody used has nothing to tell."""
        used = link.counters.flows_opened or link.since_ms + _WORTH_MS < self.now_ms
        super().link_closed(link, reason, by_peer)
        if used and link.state is LinkState.CLOSED:
            self.env.report(Event(LINK_SUMMARY, self.name, link.peer, summary(link, self.now_ms)))


# A link without flows is worth a line if it lived longer than the listener waits for a first sign of use.
_WORTH_MS = 10_000


class SummarizingDialer(_Summarizing, TunnelDialer):
    """A TunnelDialer that reports LINK_SUMMARY."""


class SummarizingListener(_Summarizing, TunnelListener):
    """A TunnelListener that reports LINK_SUMMARY."""
