"""Events in words: here and nowhere else, a node's events become log lines."""

from __future__ import annotations

import logging
from collections.abc import Callable

from kcpg.app.linksummary import LINK_SUMMARY
from kcpg.app.logs import NodeLog
from kcpg.app.troubles import Troubles
from kcpg.core.env import Event, EventKind
from kcpg.core.flow import Kind, ResetCode
from kcpg.core.node import FlowOpened, FlowOver
from kcpg.net import Notice
from kcpg.net.addr import text as address_text

# Log level of each event of a tunnel leg; an unlisted kind is a warning.
_LEVELS = {
    EventKind.LINK_UP: logging.INFO,
    EventKind.LINK_DOWN: logging.INFO,
    EventKind.LINK_RESUMED: logging.INFO,
    EventKind.LINK_MOVED: logging.INFO,
    EventKind.LINK_HOPPED: logging.INFO,
    EventKind.LINK_LEAVING: logging.INFO,
    EventKind.HOPS_FAILED: logging.WARNING,
    EventKind.LINK_SILENT: logging.WARNING,
    EventKind.NO_ANSWER: logging.WARNING,
    EventKind.REFUSED: logging.WARNING,
    EventKind.UNRESOLVED: logging.WARNING,
    EventKind.CLOCK_OFF: logging.WARNING,
    EventKind.LINKS_FULL: logging.WARNING,
    EventKind.STRANGER: logging.WARNING,
    EventKind.MEMORY_SHORT: logging.WARNING,
    LINK_SUMMARY: logging.INFO,
}

# Events of a dialing leg that are over once it has a link.
_OVER_WITH_LINK = (EventKind.NO_ANSWER, EventKind.REFUSED, EventKind.UNRESOLVED, EventKind.LINK_SILENT)

_LINK_COMES = frozenset({EventKind.LINK_UP, EventKind.LINK_RESUMED})

# Applications abort connections every day: that is of interest only to an operator who asks for details.
_ORDINARY_ENDS = frozenset({ResetCode.FINISHED, ResetCode.RESET_BY_APPLICATION, ResetCode.SHUTDOWN})


class Reporter:
    """Writes the events of one node, its legs and its sockets to its log."""

    def __init__(self, log: NodeLog, now_s: Callable[[], float], dialing: str | None = None) -> None:
        """`now_s`: returns monotonic seconds, for the limit on repeated lines. `dialing`: the name of the
        tunnel leg that dials, if the node has one."""
        self.troubles = Troubles(now_s)
        self._log = log
        self._now_s = now_s
        self._dialing = dialing

    def event(self, event: Event) -> None:
        """An event of a link. Repeats of the same kind and peer are counted."""
        peer = address_text(event.peer) if event.peer else ""
        where = " ".join(part for part in (event.leg, peer) if part)
        message = f"{where}: {event.text}" if where else event.text
        level = _LEVELS.get(event.kind, logging.WARNING)
        if level >= logging.WARNING:
            self.troubles.note(event.leg, event.kind, peer, event.text)
        elif event.kind in _LINK_COMES and event.leg == self._dialing:
            self.troubles.over(event.leg, _OVER_WITH_LINK)
        self._log.say(level, message, event.kind, f"{event.leg} {peer}", self._now_s())

    def flow(self, event: FlowOpened | FlowOver) -> None:
        """The beginning or the end of a flow: failures are logged, the rest only at `log_level=debug`."""
        ordinary = (
            isinstance(event, FlowOpened) or event.reason is None or event.reason.code in _ORDINARY_ENDS
        )
        if ordinary and not self._log.hears(logging.DEBUG):
            return
        open = event.open
        where = f" for {open.target}" if open.target else ""
        what = f"{open.kind.name} flow of {open.source or 'unknown source'}{where}"
        if isinstance(event, FlowOpened):
            self._log.say(logging.DEBUG, f"{what}: opened")
            return
        unit = "bytes" if open.kind is Kind.TCP else "packets"
        carried = f"{event.up} {unit} up, {event.down} down"
        if event.dropped:
            carried += f", {event.dropped} dropped"
        if event.reason is None:
            self._log.say(logging.DEBUG, f"{what}: finished, {carried}")
            return
        level = logging.DEBUG if ordinary else logging.WARNING
        kind = f"flow_{event.reason.code.name.lower()}"
        if not ordinary:
            self.troubles.note("", kind, "", f"{what}: {event.reason}")
        # Every flow has a new source port, so the limit on repeats goes by the failure, not by the source.
        self._log.say(level, f"{what}: {event.reason} ({carried})", kind, event.reason.text, self._now_s())

    def notice(self, notice: Notice) -> None:
        """A notice about a local socket or the driver."""
        self.troubles.note("", notice.key or "socket", "", notice.text)
        self._log.say(logging.WARNING, notice.text, notice.key, "", self._now_s())
