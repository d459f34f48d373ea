"""The workloads: kinds of traffic, each with its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from harness.bench.systems.base import BULK, IDLE, LATENCY, LOSSY, MOBILE, PACED, SHORT, UDP
from netem import profile as profiles
from netem.profile import Profile

LOOPBACK, VETH, LINE = "loopback", "veth", "line"
PLACES = (LOOPBACK, VETH, LINE)

REQUEST_BYTES = 64
EVERY_10_MS = {"size_bytes": REQUEST_BYTES, "interval_s": 0.01}
PACED_RTT_MS = 50
MOBILE_LONGER = 10.0  # A cell is good and bad for seconds
# A full Ethernet frame, and the payload that TCP with its usual options carries in it.
FRAME_BYTES, TCP_PAYLOAD_BYTES = 1514, 1448


@dataclass(frozen=True)
class Line:
    """An emulated line; both directions are alike."""

    rate_bps: int
    rtt_ms: int
    loss: float
    limit: int = 1000  # packets, waiting or under way; tc's unless told otherwise

    def profile(self) -> Profile:
        """As a profile of netem."""
        return profiles.parse(
            f'name = "bench"\nsummary = "{self.text}"\nsources = ["a case: the figures are chosen"]\n'
            f'[netem]\ndelay = "{self.rtt_ms / 2:g}ms"\nrate = "{self.rate_bps}bit"\nlimit = {self.limit}\n'
            f'loss = {{ model = "random", percent = "{self.loss * 100:g}%" }}\n'
        )

    @property
    def text(self) -> str:
        """`100 Mbit/s, 50 ms, 5 % loss`."""
        return f"{self.rate_bps / 1e6:g} Mbit/s, {self.rtt_ms} ms, {self.loss:.0%} loss".replace("%", " %")

    @property
    def limit_mbit_s(self) -> float | None:
        """The most payload that the line can carry if each lost byte is sent once more, in full TCP
        frames."""
        return self.rate_bps / 1e6 * (1 - self.loss) * TCP_PAYLOAD_BYTES / FRAME_BYTES


@dataclass(frozen=True)
class Cell:
    """An emulated radio cell: the tables `trace` of a profile, or a recorded trace instead of them."""

    text: str
    up: str
    down: str
    recorded: str = ""

    limit_mbit_s = None  # What it can carry depends on the seconds in which it is used

    def profile(self) -> Profile:
        """As a profile of netem: a round trip of 40 ms, a queue of a megabyte. Raises ProfileError."""
        generated = profiles.parse(
            f'name = "bench"\nsummary = "{self.text}"\nsources = ["a case: the figures are chosen"]\n'
            f'[netem]\ndelay = "20ms"\nlimit = "1000000b"\n'
            f"[up]\ntrace = {{ {self.up} }}\n[down]\ntrace = {{ {self.down} }}\n"
        )
        return profiles.traced(generated, self.recorded) if self.recorded else generated


@dataclass(frozen=True)
class Workload:
    """One kind of traffic. `program` is its name in the load generator."""

    name: str
    group: str
    program: str
    about: str
    places: tuple[str, ...] = (LOOPBACK,)
    protocol: str = "tcp"
    options: Mapping[str, float] = field(default_factory=dict)
    line: Line | Cell | None = None
    beside: str = ""  # With this workload's flow beside it
    longer: float = 1.0  # Factor on the usual duration
    quick: bool = False  # Part of QUICK=1


def _bulk(direction: str, flows: int, places: tuple[str, ...], *, quick: bool = False) -> Workload:
    name = f"bulk-{direction}" + (f"-{flows}" if flows > 1 else "")
    way = "user to target" if direction == "up" else "target to user"
    about = f"as much as goes, {way}, {flows} flow{'s' * (flows > 1)}"
    return Workload(name, BULK, f"bulk-{direction}", about, places, options={"flows": flows}, quick=quick)


def _idle(count: int) -> Workload:
    options = {"count": count, "flows": 64, "size_bytes": REQUEST_BYTES}
    return Workload(f"idle-{count}", IDLE, "idle", f"{count:,} connections that say nothing", options=options)


def _packets(size: int, *, quick: bool = False) -> Workload:
    about = f"as many packets of {size} bytes as arrive, user to target"
    options = {"size_bytes": size}
    return Workload(f"packets-{size}", UDP, "packets", about, protocol="udp", options=options, quick=quick)


def _lossy(name: str, line: Line, *, quick: bool = False) -> Workload:
    about = f"one flow, user to target; {line.text}"
    return Workload(name, LOSSY, "bulk-up", about, (LINE,), line=line, longer=2, quick=quick)


def _requests(name: str, line: Line, beside: str) -> Workload:
    about = f"64 bytes every 10 ms and back{', a bulk flow beside it' * bool(beside)}; {line.text}"
    return Workload(
        name, LOSSY, "tcp-requests", about, (LINE,), options=EVERY_10_MS, line=line, beside=beside, longer=2
    )


def _paced(mbit_s: int) -> Workload:
    """What a byte costs at the rates that people have. The queue holds a round trip, or tc's 1000 packets."""
    packets = mbit_s * 10**6 * PACED_RTT_MS // (8000 * FRAME_BYTES)
    line = Line(mbit_s * 10**6, PACED_RTT_MS, 0.0, max(2 * packets, 1000))
    about = f"one flow, target to user; {line.text}"
    return Workload(f"paced-{mbit_s}", PACED, "bulk-down", about, (LINE,), line=line, longer=2)


def _mobile(name: str, cell: Cell) -> Workload:
    """A download, and small requests beside it, over a radio cell."""
    about = f"64 bytes every 10 ms and back, a download beside it; {cell.text}, 40 ms, a queue of 1 MB"
    return Workload(
        name,
        MOBILE,
        "tcp-requests",
        about,
        (LINE,),
        options=EVERY_10_MS,
        line=cell,
        beside="bulk-down",
        longer=MOBILE_LONGER,
    )


LOSSY1, LOSSY5, LOSSY10 = (Line(100_000_000, 50, share) for share in (0.01, 0.05, 0.10))
LONG3 = Line(50_000_000, 150, 0.03)
LTE = Cell(
    "a cell of 8 Mbit/s in the mean", 'mean = "4mbit", seed = 2', 'mean = "8mbit", outage = "200ms", seed = 1'
)
UMTS = Cell(
    "a cell of 1.5 Mbit/s in the mean, with outages",
    'mean = "1mbit", seed = 4',
    'mean = "1500kbit", spread = "80%", outage = "1s", every = "10s", seed = 3',
)
RECORDED = "mobile-trace"  # The workload whose line TRACE= names

ALL = (
    _bulk("up", 1, (LOOPBACK, VETH), quick=True),
    _bulk("up", 32, (LOOPBACK,)),
    _bulk("down", 1, (LOOPBACK, VETH)),
    _bulk("down", 32, (LOOPBACK,)),
    Workload(
        "tcp-requests",
        LATENCY,
        "tcp-requests",
        "64 bytes and back, one at a time, over one connection",
        (LOOPBACK, VETH),
        options={"size_bytes": REQUEST_BYTES},
        quick=True,
    ),
    Workload(
        "udp-requests",
        LATENCY,
        "udp-requests",
        "packets of 64 bytes and back, one at a time",
        (LOOPBACK, VETH),
        "udp",
        {"size_bytes": REQUEST_BYTES},
    ),
    Workload(
        "short",
        SHORT,
        "short",
        "2,000 connections, 64 at a time: connect, 1 KB there and back, close",
        options={"count": 2000, "flows": 64, "size_bytes": 1024},
        quick=True,
    ),
    _idle(1000),
    _idle(10000),
    _packets(64, quick=True),
    _packets(1200),
    _lossy("lossy1", LOSSY1),
    _lossy("lossy5", LOSSY5, quick=True),
    _lossy("lossy10", LOSSY10),
    _lossy("long3", LONG3),
    _requests("requests-lossy5", LOSSY5, ""),
    _requests("requests-beside-bulk", LOSSY5, "bulk-up"),
    _paced(20),
    _paced(100),
    _paced(500),
    _mobile("mobile-lte", LTE),
    _mobile("mobile-umts", UMTS),
    _mobile(RECORDED, replace(LTE, text="a recorded cell")),
)

WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in ALL}
