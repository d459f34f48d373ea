"""`kcpg speedtest`: a link of its own, flows that the nodes answer themselves, and what that says."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TextIO

import gevent.event

from kcpg import engine
from kcpg.app import legsettings, legsettings_native, speedverdict
from kcpg.app.config.model import LegConfig, LegKind, NodeConfig, UdpDelivery
from kcpg.app.rootkeys import secret
from kcpg.app.run import KeyRing, derive_keys, make_env
from kcpg.app.speedverdict import Facts, Way
from kcpg.app.wording import rate
from kcpg.core.env import Event, EventKind
from kcpg.core.flow import Reset, ResetCode
from kcpg.core.native.dial.dialer import TunnelDialer
from kcpg.core.native.link.link import Link
from kcpg.core.node import Node
from kcpg.core.speedtest.answers import OFF
from kcpg.core.speedtest.asker import Asker, Phase
from kcpg.core.speedtest.messages import Answerer, Place, What
from kcpg.errors import EXIT_FAILURE, EXIT_OK, UsageError
from kcpg.net import Notice
from kcpg.net.addr import text as address_text
from kcpg.net.driver import Driver
from kcpg.net.resolve import Resolver
from kcpg.net.tunnelsockets import TunnelSockets

LINK_LIMIT_S = 10.0  # For the link to come up: as long as some lost handshakes take

REST_MS = 1000  # For the round trip without load: 50 probes

BAR_WIDTH = 24
REDRAW_S = 0.1

MAX_FLOWS = 8

# How an older node refuses the reserved target: it lets nobody choose, or finds no such name.
_LACKS = frozenset({ResetCode.FORBIDDEN, ResetCode.NO_ROUTE, ResetCode.UNREACHABLE, ResetCode.REFUSED})

Say = Callable[[str], None]


def run(configs: Sequence[NodeConfig], seconds: float, say: Say, machine: bool = False) -> int:
    """Test the tunnels of these clients and relays, one after the other; 0 if all could be measured.

    `machine`: say JSON.
    """
    wanted = [config for config in configs if config.egress.kind is LegKind.TUNNEL]
    if not wanted:
        raise UsageError("nothing to test: none of these files is that of a client or a relay")
    for config in wanted:
        if not config.egress.is_native:
            text = f"{config.file}: dialect={config.egress.dialect.value} has no speed test"
            raise UsageError(text, "iperf3 through the tunnel measures any of them")
    keys = derive_keys(wanted)
    code = EXIT_OK
    for config in wanted:
        test = _Test(config, keys, seconds)
        failure = test.run()
        if failure:
            code = EXIT_FAILURE
        if machine:
            say(json.dumps({"schema": 1, "file": str(config.file), **test.as_json(failure)}))
            continue
        for line in test.lines(failure):
            say(line)
    return code


class _Test:
    """The test of one tunnel."""

    def __init__(self, config: NodeConfig, keys: KeyRing, seconds: float) -> None:
        leg = config.egress
        # One path, as one flow has it; and probes that are not sent again, or nothing would be lost.
        self._leg = replace(leg, mux_tunnels=1, udp_delivery=UdpDelivery.DATAGRAM)
        self._config = config
        self._keys = keys
        self._ms = round(seconds * 1000)
        self._told = gevent.event.Event()
        self._up = False
        self._reason = ""
        self._bar = Bar(sys.stderr)
        self._ways: list[Way] = []
        self._facts: Facts | None = None
        self._peer = ""
        self._began: tuple[Phase, float, float] | None = None
        self._busy = 0.0

    def run(self) -> str:
        """Measure; why not, or nothing."""
        config = self._leg
        ports = TunnelSockets(
            Resolver(), ipv4_only=config.ipv4_only, ipv6_only=config.ipv6_only, report=self._on_notice,
            options=legsettings.socket_options(config),
        )  # fmt: skip
        root = self._keys[secret(config)]
        leg = TunnelDialer(
            legsettings_native.dial_settings(config, MAX_FLOWS), root, make_env(ports, self._on_event)
        )
        asker = Asker(self._on_progress, self._told.set)
        driver = Driver(Node(asker, leg), {leg: ports}, self._on_notice)
        driver.start()
        try:
            self._told.wait(LINK_LIMIT_S)
            if not self._up:
                why = self._reason or f"no link within {LINK_LIMIT_S:.0f} s"
                return f"{why}; kcpg --try {self._config.file} finds out more"
            return self._measure(asker, leg, driver)
        finally:
            self._bar.clear()
            driver.stop("the speed test is over")

    def lines(self, failure: str) -> list[str]:
        """The result for people."""
        head = f"{self._config.file}: {self._peer}" if self._peer else str(self._config.file)
        found = [head]
        for way in self._ways:
            found += speedverdict.table(way)
        if self._facts is not None:
            found.append(f"datagrams of {self._facts.datagram_bytes} bytes, kcp={self._facts.kcp}")
            first, *others = speedverdict.verdict(self._ways, self._facts)
            found += [first, *(f"- {line}" for line in others)]
        if failure:
            found.append(f"failed: {failure}")
        return found

    def as_json(self, failure: str) -> dict[str, object]:
        """The result for programs."""
        found = speedverdict.as_json(self._ways, self._facts) if self._facts is not None else {}
        return {"peer": self._peer, "failure": failure or None, **found}

    def _measure(self, asker: Asker, leg: TunnelDialer, driver: Driver) -> str:
        for place in Place:
            phases = [Phase(place, None, REST_MS), Phase(place, What.SEND, self._ms),
                      Phase(place, What.RECEIVE, self._ms)]  # fmt: skip
            self._told.clear()
            asker.begin(phases)
            driver.request_advance()
            self._told.wait()
            for phase in phases:
                if phase.failed is not None:
                    return explain(phase.failed, place)
            link = leg.link
            if link is None:
                return self._reason or "the link was lost"
            self._peer = address_text(link.peer) if link.peer else ""
            self._ways.append(Way(place, *phases))
            self._facts = _facts(self._leg, link, self._busy)
            if self._ways[-1].answerer is Answerer.SERVER:
                return ""
        return ""

    # -- what happens meanwhile --

    def _on_progress(self, phase: Phase, passed_ms: int) -> None:
        if self._began is None or self._began[0] is not phase:
            self._began = (phase, time.process_time(), time.monotonic())
        _, cpu_s, began_s = self._began
        taken_s = time.monotonic() - began_s
        if phase.what is not None and taken_s > 0.5 * self._ms / 1000:
            self._busy = max(self._busy, (time.process_time() - cpu_s) / taken_s)
        self._bar.draw(phase, passed_ms)

    def _on_event(self, event: Event) -> None:
        if event.kind == EventKind.LINK_UP:
            self._up = True
            self._told.set()
        elif event.kind in (EventKind.REFUSED, EventKind.UNRESOLVED):
            self._reason = event.text
            self._told.set()

    def _on_notice(self, notice: Notice) -> None:
        self._reason = notice.text


def _facts(config: LegConfig, link: Link, busy: float) -> Facts:
    segments = link.link_wire.segment_counts()
    sent = segments["segments_sent"]
    resent = sum(segments[f"segments_resent_{why}"] for why in ("fast", "rto", "tail"))
    params = link.params
    return Facts(
        kcp=config.kcp,
        window_segments=(0, 0) if config.kcp_auto else (params.snd_wnd, params.rcv_wnd),
        limits_bps=(params.outbound_bps, params.inbound_bps),
        datagram_bytes=link.link_wire.datagram_bytes,
        fec=config.fec is not None,
        slow_engine=engine.is_slow(),
        busy=busy,
        resent=resent / (sent + resent) if sent else 0.0,
    )


def explain(reason: Reset, place: Place) -> str:
    """Why a phase failed. A node that has speed tests says so itself when it refuses one."""
    who = "the next node" if place is Place.NEXT else "the last node"
    if reason.code in _LACKS and "speed test" not in reason.text:
        return f"{who} answers no speed tests: it is of an older version ({reason})"
    return f"{who} says: {OFF.text}" if reason == OFF else f"{who}: {reason}"


class Bar:
    """A progress bar, where somebody looks at it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._shown = file.isatty()
        self._drawn_s = 0.0
        self._width = 0

    def draw(self, phase: Phase, passed_ms: int) -> None:
        """Show how far it is."""
        now_s = time.monotonic()
        if not self._shown or now_s - self._drawn_s < REDRAW_S:
            return
        self._drawn_s = now_s
        line = picture(phase, passed_ms)
        self._put(f"\r{line.ljust(self._width)}")
        self._width = len(line)

    def clear(self) -> None:
        """Take it away."""
        if self._width:
            self._put(f"\r{' ' * self._width}\r")
            self._width = 0

    def _put(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except OSError:  # the terminal is gone; the result may go elsewhere
            self._shown = False


def picture(phase: Phase, passed_ms: int) -> str:
    """One line: what is measured, how far it is, how fast it was so far."""
    where = "next node" if phase.place is Place.NEXT else "end"
    what = {None: "round trip", What.SEND: "download", What.RECEIVE: "upload"}[phase.what]
    full = round(BAR_WIDTH * min(passed_ms / phase.ms, 1.0))
    speed = f" {rate(round(phase.bps))}" if phase.bps else ""
    return f"{where}, {what:10} [{'#' * full}{'-' * (BAR_WIDTH - full)}]{speed}"
