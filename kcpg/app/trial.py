"""`kcpg --try`: opens a tunnel to every configured destination, carries nothing, and reports the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import gevent
import gevent.event
from gevent.pool import Pool

from kcpg.app import foreignlegs, legsettings, legsettings_native
from kcpg.app.config.model import LegConfig, LegKind, NodeConfig
from kcpg.app.diagnosis import CLOSED, Diagnosis, is_closed
from kcpg.app.rootkeys import Secret, secret
from kcpg.app.run import KeyRing, derive_keys, make_env
from kcpg.app.wording import rate
from kcpg.core.env import Event, EventKind
from kcpg.core.flow import Flow, Open
from kcpg.core.native.dial.dialer import TunnelDialer
from kcpg.core.native.handshake.params import LinkParams
from kcpg.core.native.link.link import Link
from kcpg.core.node import Leg, Node
from kcpg.errors import EXIT_FAILURE, EXIT_OK, UsageError
from kcpg.net import Notice, dnstxt, title
from kcpg.net.addr import to_tuple
from kcpg.net.clock import now_ms
from kcpg.net.driver import Driver
from kcpg.net.resolve import Resolver
from kcpg.net.tunnelsockets import TunnelSockets
from kcpg.net.txtpeer import parse

# For one destination: long enough for five handshake attempts, so one lost datagram does not matter.
LIMIT_S = 5.0

# Destinations tried in parallel. Each needs a socket and a few datagrams; 1,000 silent ports take under 3
# minutes.
AT_ONCE = 32

OTHER_LIMIT_S = 3.0  # For the trial whether a kcptube or a kcptun answers instead

PING_LIMIT_S = 1.0  # How long the answer to a PING may take
LOOK_S = 0.002  # Interval for checking for it. This adds no error: the link itself measures the time

_FINAL = frozenset({EventKind.REFUSED, EventKind.UNRESOLVED})  # Events after which no link can come


@dataclass(frozen=True)
class Outcome:
    """The result of one destination."""

    host: str
    port: int
    ok: bool
    text: str  # Why it failed, or what was agreed on
    handshake_ms: float = 0.0
    measured: str = ""  # The round trip, where it was measured

    def __str__(self) -> str:
        return in_words([self])


def in_words(outcomes: Sequence[Outcome]) -> str:
    """One line for the outcomes of consecutive ports of a host, which have the same text."""
    first, last = outcomes[0], outcomes[-1]
    host = f"[{first.host}]" if ":" in first.host else first.host
    ports = f"{first.port}" if first.port == last.port else f"{first.port}-{last.port}"
    if not first.ok:
        return f"{host}:{ports}: failed, {first.text}"
    times = sorted(outcome.handshake_ms for outcome in outcomes)
    taken = f"{times[0]:.1f}" if len(times) == 1 else f"{times[0]:.1f} to {times[-1]:.1f}"
    measured = f", {first.measured}" if first.measured and len(times) == 1 else ""
    return f"{host}:{ports}: ok, handshake {taken} ms{measured}, {first.text}"


def summed_up(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """A line for each run of consecutive ports of a host with the same result, as soon as it is over."""
    run: list[Outcome] = []
    for outcome in outcomes:
        if run and (
            (outcome.host, outcome.ok, outcome.text) != (run[-1].host, run[-1].ok, run[-1].text)
            or outcome.port != run[-1].port + 1
        ):
            yield in_words(run)
            run = []
        run.append(outcome)
    if run:
        yield in_words(run)


class NoIngress(Leg):
    """An ingress leg through which no flow ever comes."""

    on_flow: Callable[[Flow, Open, int], None]

    def start(self, now_ms: int) -> None:
        pass

    def advance(self, now_ms: int) -> None:
        pass

    def deadline(self) -> int | None:
        return None

    def advance_deadline(self) -> int | None:
        return None

    def close(self, now_ms: int, reason: str) -> None:
        pass


def try_all(configs: Sequence[NodeConfig], say: Callable[[str], None]) -> int:
    """Try every address and port of clients and relays, and `say` a line for each; 0 if all answered."""
    wanted = [config for config in configs if config.egress.kind is LegKind.TUNNEL]
    if not wanted:
        raise UsageError("nothing to try: none of these files is that of a client or a relay")
    keys = derive_keys(wanted)
    code = EXIT_OK
    for config in wanted:
        leg = config.egress
        pool = Pool(AT_ONCE)
        destinations = _destinations(leg)
        if isinstance(destinations, str):
            say(f"{config.file}: {destinations}")
            code = EXIT_FAILURE
            continue
        answered = 0

        def counted(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
            nonlocal answered
            for outcome in outcomes:
                answered += outcome.ok
                yield outcome

        diagnosis = Diagnosis(partial(_somebody_answers, keys))
        for line in summed_up(counted(pool.imap(partial(try_one, keys, leg, diagnosis), destinations))):
            say(f"{config.file}: {line}")
        say(f"{config.file}: {answered} of {len(destinations)} destinations answered")
        if answered < len(destinations):
            code = EXIT_FAILURE
    return code


def _destinations(leg: LegConfig) -> list[tuple[str, int]] | str:
    """The next node's addresses and ports, or why there are none."""
    if not leg.dnstxt:
        return [(host, port) for host in leg.addresses for port in leg.ports]
    found = dnstxt.look_up(leg.dnstxt)
    if isinstance(found, dnstxt.NoRecords):
        return f"{title(leg.dnstxt)}: {found.text}"
    destinations = [destination for destination in map(parse, found.texts) if destination is not None]
    if not destinations:
        return f"{title(leg.dnstxt)}: holds no IPv4:port and no [IPv6]:port"
    return [to_tuple(destination)[:2] for destination in destinations]


def try_one(
    keys: KeyRing, config: LegConfig, diagnosis: Diagnosis | None, destination: tuple[str, int]
) -> Outcome:
    """Open this leg's tunnel to one address and port, measure it, close it. Never raises. Takes LIMIT_S and
    PING_LIMIT_S at most; where nobody answers, the time of a `diagnosis` as well."""
    host, port = destination
    single = replace(config, addresses=(host,), ports=(port,), dnstxt="", mux_tunnels=1)
    try:
        outcome = _Trial(single, LIMIT_S).run(keys, secret(config))
    except OSError as error:
        return Outcome(host, port, False, error.strerror or str(error))
    if not outcome.ok and not outcome.text:
        text = diagnosis.explain(single) if diagnosis is not None else "no answer"
        return replace(outcome, text=text)
    return outcome


def _somebody_answers(keys: KeyRing, config: LegConfig) -> bool:
    """Whether the destination of another dialect answers."""
    try:
        return _Trial(config, OTHER_LIMIT_S).run(keys, secret(config)).ok
    except OSError:
        return False


class _Trial:
    """The trial of one destination."""

    def __init__(self, config: LegConfig, limit_s: float) -> None:
        self._config = config
        self._limit_s = limit_s
        self._told = gevent.event.Event()
        self._reason = ""
        self._notice = ""
        self._remark = ""

    def run(self, keys: KeyRing, of: Secret) -> Outcome:
        """A failure without a text: nobody answers."""
        config = self._config
        (host,), (port,) = config.addresses, config.ports
        ports = TunnelSockets(
            Resolver(), ipv4_only=config.ipv4_only, ipv6_only=config.ipv6_only, report=self._on_notice,
            options=legsettings.socket_options(config),
        )  # fmt: skip
        env = make_env(ports, self._on_event)
        leg: TunnelDialer | foreignlegs.ForeignDialer
        if not config.is_native:
            leg = foreignlegs.dialer(config, env)
        else:
            leg = TunnelDialer(legsettings_native.dial_settings(config, max_flows=1), keys[of], env)
        driver = Driver(Node(NoIngress(), leg), {leg: ports}, self._on_notice)
        began_s = time.monotonic()
        driver.start()
        asking = gevent.spawn(self._ask_if_closed, host, port)
        try:
            self._told.wait(self._limit_s)
            taken_ms = (time.monotonic() - began_s) * 1000
            if not any(foreignlegs.answers(config, link) for link in leg.links):
                return Outcome(host, port, False, self._reason or self._notice)
            link = leg.links[0]
            if not isinstance(link, Link):
                return Outcome(host, port, True, foreignlegs.in_words(config), taken_ms)
            measured = _measure(link, driver)
            return Outcome(host, port, True, agreed(link.params) + self._remark, taken_ms, measured)
        finally:
            asking.kill()
            driver.stop("this was only a test")

    def _ask_if_closed(self, host: str, port: int) -> None:
        """A port that the machine itself calls closed needs no waiting."""
        if is_closed(host, port):
            self._reason = CLOSED
            self._told.set()

    def _on_event(self, event: Event) -> None:
        if event.kind == EventKind.CLOCK_OFF:
            self._remark = f"; {event.text}"
        if event.kind in _FINAL:
            self._reason = event.text
        if event.kind in _FINAL or event.kind == EventKind.LINK_UP:
            self._told.set()

    def _on_notice(self, notice: Notice) -> None:
        self._notice = notice.text


def agreed(params: LinkParams) -> str:
    """The link parameters that both ends agreed on, as this end sees them."""
    words = [
        params.algorithm,
        f"datagrams of at most {params.datagram_bytes} bytes",
        f"windows {params.snd_wnd} out {params.rcv_wnd} in",
        f"{rate(params.outbound_bps)} out",
        f"{rate(params.inbound_bps)} in",
    ]
    return ", ".join(words)


def _measure(link: Link, driver: Driver) -> str:
    """The round-trip time of one PING in the tunnel."""
    before = link.counters.pongs_received
    link.liveness.ping(now_ms())
    driver.serve()
    until_s = time.monotonic() + PING_LIMIT_S
    while link.counters.pongs_received == before and time.monotonic() < until_s:
        gevent.sleep(LOOK_S)
    if link.counters.pongs_received == before:
        return "no answer to a ping"
    rtt_ms = link.liveness.rtt_ms
    return f"round trip {rtt_ms} ms" if rtt_ms else "round trip under 1 ms"
