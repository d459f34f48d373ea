"""Native tunnel legs that keep what their links have carried once these are over, and report it."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

from kcpg.app.metrics import link_totals
from kcpg.app.wording import duration, size
from kcpg.core.env import Event
from kcpg.core.native.dial.dialer import TunnelDialer
from kcpg.core.native.leg import NativeLeg
from kcpg.core.native.link.state import LinkState
from kcpg.core.native.listener import TunnelListener

if TYPE_CHECKING:
    from kcpg.core.flow import Reset
    from kcpg.core.native.link.link import Link

LINK_SUMMARY = "link_summary"  # An event kind besides the core's (`EventKind`)


def summary(link: Link, now_ms: int) -> str:
    """`flows carried 3 in 5 min 2 s, in 3.1 MB, out 3.4 MB, rtt 20 ms, flows reset 0, …`."""
    counters, link_wire = link.counters, link.link_wire
    rtt = f", rtt {link.rtt_ms} ms" if link.rtt_ms >= 0 else ""
    return (
        f"flows carried {counters.flows_opened} in {duration((now_ms - link.since_ms) / 1000)},"
        f" in {size(link_wire.rx_bytes)}, out {size(link_wire.tx_bytes)}{rtt},"
        f" flows reset {counters.flows_reset}, rekeys {counters.rekeys}, resumes {counters.resumes}"
    )


class _Summarizing(NativeLeg):
    """A leg that reports LINK_SUMMARY after the end of a link."""

    def user_of(self, link: Link) -> str:
        """The name of the user whose link it is; a leg that dials has no users."""
        return ""

    @cached_property
    def ended(self) -> Counter[str]:
        """The totals (`metrics.link_totals`) of the links that are over."""
        return Counter()

    def link_closed(self, link: Link, reason: Reset, by_peer: bool) -> None:
        """Report a link, unless nobody used it after its handshake."""
        self.ended.update(link_totals(link))
        used = link.counters.flows_opened or link.since_ms + _WORTH_MS < self.now_ms
        user = f"user {name}: " if (name := self.user_of(link)) else ""
        super().link_closed(link, reason, by_peer)
        if used and link.state is LinkState.CLOSED:
            self.env.report(Event(LINK_SUMMARY, self.name, link.peer, user + summary(link, self.now_ms)))


# A link without flows is worth a line if it outlived the time that a listener waits for its first use.
_WORTH_MS = 10_000


class SummarizingDialer(_Summarizing, TunnelDialer):
    """A TunnelDialer that reports LINK_SUMMARY."""


class SummarizingListener(_Summarizing, TunnelListener):
    """A TunnelListener that reports LINK_SUMMARY."""

    def user_of(self, link: Link) -> str:
        return TunnelListener.user_of(self, link)
