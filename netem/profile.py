"""The description of a network: a TOML file in tc-netem's words, as dataclasses, with its expected values.

    name = "…"; summary = "…"; sources = ["where each number comes from", …]
    [netem]                     # both directions; [up] and [down] override single keys
    delay = "25ms"  jitter = "8ms"  correlation = "25%"  distribution = "uniform|normal|pareto|paretonormal"
    loss = { model = "random", percent = "0.5%", correlation = "0%" }
    loss = { model = "gemodel", p = "0.5%", r = "25%", 1-h = "100%", 1-k = "0%" }
    loss = { model = "state", p13 = "1%", p31 = "30%", p32 = "0%", p23 = "100%", p14 = "0%" }
    duplicate = { percent = "1%", correlation = "0%" }     corrupt = { percent = "0.1%", correlation = "0%" }
    reorder = { percent = "2%", correlation = "50%", gap = 5 }
    rate = "20mbit"  packetoverhead = 0  limit = 200  droplist = [1, 3, 4]
    trace = { file = "cell.down" }      # instead of a rate: delivery opportunities, in mahimahi's form
    trace = { mean = "8mbit", seed = 1, spread = "50%", memory = "2s", outage = "500ms", every = "20s",
              length = "120s" }         # a generated one
    steps = [{ at = "5s", rate = "4mbit" }, { at = "9s", delay = "90ms" }]      # changes at these times
    steps_every = "20s"                 # and begins again; without this the last step stays
    swing = { delay = "40ms", period = "4s" }       # the delay grows by so much and falls back, as a sine
    police = { rate = "10mbit", burst = "200kb" }   # a token bucket before everything: no tokens, no packet
    cross = { cubic = 1, bbr = 1, rtt = "50ms" }    # modelled TCP flows that fill the same queue
    limit = "1mb"                       # of what waits for the rate or the trace alone, in bytes
    port = { rate = "2mbit", burst = "1mb", limit = 50 }    # each UDP or TCP port of the far side by itself
    [outage]                    # nothing passes for `off` after every `on`
    on = "10s"  off = "3s"

Up is what the client's side sends. tc has no `droplist` (packet numbers, from 0), `outage`, `trace`, `steps`,
`swing`, `police`, `cross` or limit in bytes: only the simulator and the user-space link do. `port` is a token
bucket after the rest, for every port of the server's side: `burst` bytes pass unhindered, then `rate`
applies. A change of ports escapes it. netem/trace.py says what a trace is, netem/cross.py what the flows are.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from netem import cross as crossing
from netem import quantity
from netem import timeline as times
from netem import trace as traces
from netem.cross import Cross
from netem.reader import Reader
from netem.timeline import Step, Swing, Timeline
from netem.trace import Trace

PROFILES = Path(__file__).parent / "profiles"

DISTRIBUTIONS = ("uniform", "normal", "pareto", "paretonormal")
LIMIT_PACKETS = 1000  # tc's default
FULL_FRAME_BYTES = 1514  # Ethernet frame with an MTU of 1500, to check whether `limit` holds rate x delay


class ProfileError(ValueError):
    """An unusable profile; `problems` lists every reason, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Chance:
    """A probability per packet (0 to 1), and how much each draw depends on the last one (0 to 1)."""

    fraction: float = 0.0
    correlation: float = 0.0


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Two states, good and bad: `p` good to bad, `r` bad to good, and the loss while in each."""

    p: float
    r: float
    loss_bad: float = 1.0  # tc: 1-h
    loss_good: float = 0.0  # tc: 1-k


@dataclass(frozen=True, slots=True)
class FourState:
    """1 received in a gap, 2 received in a burst, 3 lost in a burst, 4 lost alone; `pXY`: X to Y."""

    p13: float
    p31: float
    p32: float
    p23: float
    p14: float


@dataclass(frozen=True, slots=True)
class Reorder:
    """This share of packets leaves without delay. With `gap`, only every gap-th packet may."""

    fraction: float = 0.0
    correlation: float = 0.0
    gap: int = 1


@dataclass(frozen=True, slots=True)
class PortThrottle:
    """Each port's own token bucket, full at first: `limit` packets may wait for its tokens."""

    rate_bps: int
    burst_bytes: int
    limit: int


@dataclass(frozen=True, slots=True)
class Police:
    """A token bucket, full at first, without a queue: a packet that finds too few tokens is dropped."""

    rate_bps: int
    burst_bytes: int


@dataclass(frozen=True, slots=True)
class Outage:
    """Nothing passes during `off_ns` after every `on_ns`."""

    on_ns: int
    off_ns: int


@dataclass(frozen=True, slots=True)
class Impair:
    """The impairments of one direction. `rate_bps` 0: unlimited, or as the trace says.

    `limit`: all waiting or delayed packets; `limit_bytes`: instead, what waits for the rate or the trace.
    """

    delay_ns: int = 0
    jitter_ns: int = 0
    correlation: float = 0.0
    distribution: str = "uniform"
    loss: Chance | GilbertElliott | FourState = Chance()
    duplicate: Chance = Chance()
    corrupt: Chance = Chance()
    reorder: Reorder = Reorder()
    rate_bps: int = 0
    trace: Trace | None = None
    steps: tuple[Step, ...] = ()
    steps_every_ns: int = 0  # 0: the last step stays
    swing: Swing | None = None
    police: Police | None = None
    cross: Cross | None = None
    packetoverhead: int = 0
    limit: int = LIMIT_PACKETS
    limit_bytes: int = 0
    port: PortThrottle | None = None
    droplist: tuple[int, ...] = ()
    outage: Outage | None = None

    @property
    def mean_bps(self) -> int:
        """The rate, at first, or the trace's in the mean; 0: unlimited."""
        return self.rate_bps if self.trace is None else traces.mean_bps(self.trace)

    def timeline(self, epoch_ns: int) -> Timeline:
        """Rate and delay over time; it begins at `epoch_ns`."""
        return Timeline(self.rate_bps, self.delay_ns, self.steps, self.steps_every_ns, epoch_ns)


@dataclass(frozen=True, slots=True)
class Theory:
    """What a light load of small packets meets, for comparison in tests. `loss` None: no closed form."""

    delay_ms: float
    loss: float | None
    duplicate: float
    rate_bps: int


@dataclass(frozen=True, slots=True)
class Profile:
    """A network between two nodes."""

    name: str
    summary: str
    sources: tuple[str, ...]
    up: Impair
    down: Impair


def theory(impair: Impair) -> Theory:
    """Expected values without outages and droplist, which depend on time and traffic.

    A correlated reorder has no closed form; the delay is an upper bound then.
    """
    reorder = impair.reorder
    overtaking = 1 / (reorder.gap - 1 + 1 / reorder.fraction) if reorder.fraction else 0.0
    waiting = 1.0 if reorder.correlation else 1 - overtaking
    loss = impair.loss
    lost: float | None
    if isinstance(loss, GilbertElliott):
        bad = loss.p / (loss.p + loss.r) if loss.p + loss.r else 0.0
        lost = bad * loss.loss_bad + (1 - bad) * loss.loss_good
    elif isinstance(loss, FourState):
        lost = _four_state_loss(loss)
    else:
        lost = None if loss.correlation else loss.fraction
    return Theory(waiting * impair.delay_ns / 1e6, lost, impair.duplicate.fraction, impair.mean_bps)


def _four_state_loss(chain: FourState) -> float:
    """The share of steps that enter a lost state, by following the chain until it has settled."""
    one, two, three, four = 1.0, 0.0, 0.0, 0.0
    for _ in range(10_000):
        one, two, three, four = (
            one * (1 - chain.p13 - chain.p14) + three * chain.p31 + four,
            two * (1 - chain.p23) + three * chain.p32,
            one * chain.p13 + two * chain.p23 + three * (1 - chain.p31 - chain.p32),
            one * chain.p14,
        )
    return three + four


# -- Reading --


def load(name: str) -> Profile:
    """The profile with this name in netem/profiles. Raises ProfileError."""
    path = PROFILES / f"{name}.toml"
    if not path.is_file():
        names = ", ".join(known_profiles())
        raise ProfileError([f"there is no profile {name!r} (there are: {names})"])
    return read(path)


def read(path: Path) -> Profile:
    """The profile in a file. Raises ProfileError or OSError."""
    return parse(path.read_text(encoding="utf-8"), path.name, path.parent)


def traced(profile: Profile, path: str) -> Profile:
    """The profile with recorded traces instead of its rates. Raises ProfileError.

    `path`: of `path`.up and `path`.down, of one of these two, or of a file for both directions.
    """
    stem = Path(path).with_suffix("") if Path(path).suffix in (".up", ".down") else Path(path)
    pair = [Path(f"{stem}.{way}") for way in ("up", "down")]
    files = pair if all(file.is_file() for file in pair) else [Path(path)] * 2
    problems: list[str] = []
    ways = []
    for way, file, impair in zip(("up", "down"), files, (profile.up, profile.down), strict=True):
        trace = traces.read(Reader(f"trace {way}", {"file": str(file)}, problems), Path())
        ways.append(replace(impair, trace=trace, rate_bps=0))
        _check(f"{profile.name}[{way}]", ways[-1], problems)
    if problems:
        raise ProfileError(list(dict.fromkeys(problems)))
    return replace(profile, up=ways[0], down=ways[1])


def known_profiles() -> list[str]:
    """Names of the profiles that come with netem."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def parse(text: str, where: str = "profile", directory: Path = Path()) -> Profile:
    """Read a profile from TOML text, whose files are in `directory`.

    Raises ProfileError with every problem, named by `where` and key.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError([f"{where}: {error}"]) from None
    problems: list[str] = []
    top = Reader(where, table, problems)
    name = top.need("name", quantity.text, "")
    summary = top.need("summary", quantity.text, "")
    sources = top.need("sources", quantity.texts, ())
    outage = _outage(top.sub("outage"))
    both, up, down = (top.sub(key) for key in ("netem", "up", "down"))
    top.finish()
    base = both.table if both else {}
    directions = [
        _impair(
            Reader(f"{where}[{key}]", {**base, **(own.table if own else {})}, problems), outage, directory
        )
        for key, own in (("up", up), ("down", down))
    ]
    if problems:
        raise ProfileError(list(dict.fromkeys(problems)))
    return Profile(name, summary, sources, *directions)


def _impair(reader: Reader, outage: Outage | None, directory: Path) -> Impair:
    limit = reader.take("limit", quantity.count_or_bytes, LIMIT_PACKETS)
    in_bytes = isinstance(limit, quantity.Bytes)
    impair = Impair(
        delay_ns=reader.take("delay", quantity.time_ns, 0),
        jitter_ns=reader.take("jitter", quantity.time_ns, 0),
        correlation=reader.take("correlation", quantity.fraction, 0.0),
        distribution=reader.take("distribution", quantity.one_of(DISTRIBUTIONS), "uniform"),
        loss=_loss(reader.sub("loss")),
        duplicate=_chance(reader.sub("duplicate")),
        corrupt=_chance(reader.sub("corrupt")),
        reorder=_reorder(reader.sub("reorder")),
        rate_bps=reader.take("rate", quantity.rate_bps, 0),
        trace=traces.read(reader.sub("trace"), directory),
        steps=times.read_steps(reader, "steps"),
        steps_every_ns=reader.take("steps_every", quantity.time_ns, 0),
        swing=times.read_swing(reader.sub("swing")),
        police=_police(reader.sub("police")),
        cross=crossing.read(reader.sub("cross")),
        packetoverhead=reader.take("packetoverhead", quantity.whole, 0),
        limit=LIMIT_PACKETS if in_bytes else limit,
        limit_bytes=int(limit) if in_bytes else 0,
        port=_port(reader.sub("port")),
        droplist=reader.take("droplist", quantity.wholes, ()),
        outage=outage,
    )
    reader.finish()
    _check(reader.where, impair, reader.problems)
    return impair


def _check(where: str, impair: Impair, problems: list[str]) -> None:
    """Combinations that tc refuses, or that would measure the queue instead of the network."""
    if impair.jitter_ns > impair.delay_ns and impair.distribution == "uniform":
        problems.append(f"{where}.jitter: larger than delay: packets would leave before they arrive")
    if impair.reorder.fraction and not impair.delay_ns:
        problems.append(f"{where}.reorder: requires delay (a packet can only overtake others that wait)")
    if impair.rate_bps and impair.trace is not None:
        problems.append(f"{where}.trace: is the line's rate already; leave rate out")
    if impair.trace is not None and any(step.rate_bps for step in impair.steps):
        problems.append(f"{where}.steps: the line's rate is that of the trace; leave rate out")
    if not impair.rate_bps and not impair.trace and any(step.rate_bps for step in impair.steps):
        problems.append(f"{where}.steps: a line with a rate at times has one at first, too: add rate")
    if impair.steps_every_ns and impair.steps_every_ns <= max(
        (step.at_ns for step in impair.steps), default=0
    ):
        problems.append(f"{where}.steps_every: the last step comes later than that")
    if impair.limit_bytes and not (impair.rate_bps or impair.trace):
        problems.append(
            f"{where}.limit: in bytes it is of what waits for a rate or a trace, and there is none"
        )
    if impair.cross is not None and not impair.limit_bytes:
        problems.append(f"{where}.cross: requires a limit in bytes, that of the queue which all share")
    needed = _delayed_packets(impair)
    if impair.limit < needed and not impair.limit_bytes:
        problems.append(
            f"{where}.limit: {impair.limit} packets are fewer than rate x delay holds ({needed}); "
            "the queue would cut the rate"
        )


def _delayed_packets(impair: Impair) -> int:
    """The most full frames that the line's delay holds at its rate."""
    timeline = impair.timeline(0)
    pieces = [timeline.at(at_ns) for at_ns in (0, *(step.at_ns for step in impair.steps))]
    swing_ns = impair.swing.delay_ns if impair.swing is not None else 0
    bits = max((impair.mean_bps if impair.trace else rate) * (delay + swing_ns) for rate, delay, _ in pieces)
    return -(-bits // (8 * 10**9 * FULL_FRAME_BYTES))


def _police(reader: Reader | None) -> Police | None:
    if reader is None:
        return None
    police = Police(
        reader.need("rate", quantity.rate_bps, 1), reader.need("burst", quantity.size_bytes, FULL_FRAME_BYTES)
    )
    reader.finish()
    _check_bucket(reader, police.rate_bps, police.burst_bytes)
    return police


def _loss(reader: Reader | None) -> Chance | GilbertElliott | FourState:
    if reader is None:
        return Chance()
    model = reader.need("model", quantity.one_of(("random", "gemodel", "state")), "random")
    loss: Chance | GilbertElliott | FourState
    if model == "gemodel":
        p = reader.need("p", quantity.fraction, 0.0)
        loss = GilbertElliott(
            p,
            reader.take("r", quantity.fraction, 1 - p),
            reader.take("1-h", quantity.fraction, 1.0),
            reader.take("1-k", quantity.fraction, 0.0),
        )
    elif model == "state":
        p13 = reader.need("p13", quantity.fraction, 0.0)
        loss = FourState(
            p13,
            reader.take("p31", quantity.fraction, 1 - p13),
            reader.take("p32", quantity.fraction, 0.0),
            reader.take("p23", quantity.fraction, 1.0),
            reader.take("p14", quantity.fraction, 0.0),
        )
    else:
        loss = Chance(
            reader.need("percent", quantity.fraction, 0.0), reader.take("correlation", quantity.fraction, 0.0)
        )
    reader.finish()
    return loss


def _chance(reader: Reader | None) -> Chance:
    if reader is None:
        return Chance()
    chance = Chance(
        reader.need("percent", quantity.fraction, 0.0), reader.take("correlation", quantity.fraction, 0.0)
    )
    reader.finish()
    return chance


def _reorder(reader: Reader | None) -> Reorder:
    if reader is None:
        return Reorder()
    reorder = Reorder(
        reader.need("percent", quantity.fraction, 0.0),
        reader.take("correlation", quantity.fraction, 0.0),
        reader.take("gap", quantity.count, 1),
    )
    reader.finish()
    return reorder


def _port(reader: Reader | None) -> PortThrottle | None:
    if reader is None:
        return None
    throttle = PortThrottle(
        reader.need("rate", quantity.rate_bps, 1),
        reader.need("burst", quantity.size_bytes, FULL_FRAME_BYTES),
        reader.need("limit", quantity.count, 1),
    )
    reader.finish()
    _check_bucket(reader, throttle.rate_bps, throttle.burst_bytes)
    return throttle


def _check_bucket(reader: Reader, rate_bps: int, burst_bytes: int) -> None:
    if burst_bytes < FULL_FRAME_BYTES:
        reader.problems.append(
            f"{reader.where}.burst: a full frame of {FULL_FRAME_BYTES} bytes could never pass"
        )
    if rate_bps <= 0:
        reader.problems.append(f"{reader.where}.rate: must be more than 0")


def _outage(reader: Reader | None) -> Outage | None:
    if reader is None:
        return None
    outage = Outage(reader.need("on", quantity.time_ns, 1), reader.need("off", quantity.time_ns, 0))
    reader.finish()
    if outage.on_ns <= 0:
        reader.problems.append(f"{reader.where}.on: must be more than 0")
    return outage
