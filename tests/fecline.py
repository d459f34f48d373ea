"""A lossy line with FEC over it, in virtual time: payloads at a rate, shards through `netem.impair`.

No retransmission: what is missing at the end is the residual loss. Run as a program it prints the table of
profiles, settings and traffic: `python -m tests.fecline`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from kcpg.core.fec.adaptive import Adaptive
from kcpg.core.fec.plan import OFF, Plan, plan_fixed
from kcpg.core.seal.replay import ReplayWindow
from netem.profile import Impair, load
from tests.engines import twin
from tests.line import MS, Line

OVERHEAD_BYTES = 25  # of a datagram of the native protocol around a frame's contents
REPORT_MS = 100  # the receiver reports what it lost this often


@dataclass(frozen=True)
class Traffic:
    """Payloads of a size at even intervals."""

    name: str
    payload_bytes: int
    interval_us: int


BULK = Traffic("10 Mbit/s", 1250, 1000)
FAST = Traffic("100 Mbit/s", 1250, 100)
SPARSE = Traffic("50 small/s", 100, 20_000)


@dataclass
class Outcome:
    """What a run measured."""

    sent: int = 0
    lost_on_the_way: int = 0  # data shards
    missing: int = 0  # payloads that never became available
    payload_bytes: int = 0
    wire_bytes: int = 0
    rebuilt_ms: list[float] | None = None  # beyond the line's delay, of the payloads that were rebuilt
    plan: Plan = OFF

    @property
    def residual(self) -> float:
        return self.missing / self.sent

    @property
    def wire_ratio(self) -> float:
        return self.wire_bytes / self.payload_bytes


class FecLine:
    """One direction: `plan` None lets `Adaptive` choose from reports that take as long as the shards."""

    def __init__(
        self, engine: str, impair: Impair, seed: str, traffic: Traffic, plan: Plan | None, wait_ms: int = 8
    ) -> None:
        self.traffic = traffic
        self.impair = impair
        self._line: Line[tuple[int, int, bytes]] = Line(impair, seed)  # packet number, kind, contents
        self.sender = twin(engine, "GroupSender")(traffic.payload_bytes)
        self.receiver = twin(engine, "GroupReceiver")(traffic.payload_bytes)
        self.losses = twin(engine, "LossCounter")()
        self.window: ReplayWindow = twin(engine, "ReplayWindow")()
        self.adaptive = Adaptive() if plan is None else None
        self.outcome = Outcome(rebuilt_ms=[])
        self._left_ns: dict[bytes, int] = {}
        self._rng = random.Random(f"{seed}:payloads")
        self._pn = 0
        if plan is not None:
            self.sender.use(plan, wait_ms)

    def run(self, payloads: int, warm_up: int = 0) -> Outcome:
        """Send so many, after `warm_up` that do not count, and let everything arrive."""
        now_ns = 0
        next_report_ns = REPORT_MS * MS
        for n in range(warm_up + payloads):
            if n == warm_up:
                self._start_over()
            now_ns += self.traffic.interval_us * 1000
            while self.adaptive is not None and next_report_ns <= now_ns:
                self._arrivals(next_report_ns)
                self._report(next_report_ns)
                next_report_ns += REPORT_MS * MS
            self._expire(now_ns)
            self._arrivals(now_ns)
            self._send(now_ns)
        self._expire(now_ns + 10**10)
        self._arrivals(now_ns + 10**11)
        outcome = self.outcome
        outcome.missing = len(self._left_ns)
        return outcome

    def _start_over(self) -> None:
        self.outcome = Outcome(rebuilt_ms=[], plan=self.outcome.plan)
        self._left_ns.clear()

    def _report(self, now_ns: int) -> None:
        """What the receiver knew one delay ago."""
        assert self.adaptive is not None
        self.losses.scan(self.window)
        counters = self.losses.expected, self.losses.lost, self.losses.bursts
        self.adaptive.report(*counters, (now_ns + self.impair.delay_ns) // MS)
        choice = self.adaptive.choose(2 * self.impair.delay_ns // MS)
        self.outcome.plan = choice.plan
        self.sender.use(*choice)
        self._parity(now_ns)

    def _expire(self, now_ns: int) -> None:
        deadline = self.sender.deadline
        if deadline is not None and deadline * MS <= now_ns:
            self.sender.expire(deadline)
            self._parity(deadline * MS)

    def _send(self, now_ns: int) -> None:
        payload = self.outcome.sent.to_bytes(8, "big") + self._rng.randbytes(self.traffic.payload_bytes - 8)
        self._left_ns[payload] = now_ns
        self.outcome.sent += 1
        self.outcome.payload_bytes += len(payload)
        if self.sender.on:
            contents = self.sender.protect(payload, now_ns // MS)
            self.outcome.lost_on_the_way += not self._leave(now_ns, 1, contents)
            self._parity(now_ns)
        else:
            self.outcome.lost_on_the_way += not self._leave(now_ns, 0, payload)

    def _parity(self, now_ns: int) -> None:
        while (contents := self.sender.parity()) is not None:
            self._leave(now_ns, 2, contents)

    def _leave(self, now_ns: int, kind: int, contents: bytes) -> bool:
        self.outcome.wire_bytes += len(contents) + OVERHEAD_BYTES
        copies = self._line.put((self._pn, kind, contents), len(contents) + OVERHEAD_BYTES, now_ns)
        self._pn += 1
        return copies > 0

    def _arrivals(self, now_ns: int) -> None:
        for due_ns, _, _, (pn, kind, contents) in self._line.take(now_ns):
            if not self.window.check(pn):
                continue
            self.window.commit(pn)
            if self._pn & 1023 == 0:
                self.losses.scan(self.window)
            self._arrive(due_ns, kind, contents)

    def _arrive(self, now_ns: int, kind: int, contents: bytes) -> None:
        receive: Any = self.receiver.receive_data if kind == 1 else self.receiver.receive_parity
        payloads = [contents] if kind == 0 else receive(contents)
        for payload in payloads:
            left_ns = self._left_ns.pop(payload, None)
            rebuilt = kind == 2 or payload is not payloads[0]
            if left_ns is not None and rebuilt and self.outcome.rebuilt_ms is not None:
                self.outcome.rebuilt_ms.append((now_ns - left_ns - self.impair.delay_ns) / MS)


def impair_of(profile: str) -> Impair:
    """The upward direction of a profile, with room for a fast sender's packets in flight."""
    return replace(load(profile).up, limit=100_000)


def _row(profile: str, name: str, plan: Plan | None, traffic: Traffic, payloads: int, wait_ms: int) -> str:
    line = FecLine("compiled", impair_of(profile), "table", traffic, plan, wait_ms)
    result = line.run(payloads, warm_up=payloads // 4)
    delays = sorted(result.rebuilt_ms or [0.0])
    return (
        f"{profile:8} {traffic.name:10} {name:10} lost {result.lost_on_the_way / result.sent:8.4%}"
        f"  residual {result.residual:8.4%}  wire/payload {result.wire_ratio:5.3f}"
        f"  rebuilt after {fmean(delays):5.1f} ms mean {delays[len(delays) * 99 // 100]:5.1f} p99"
        f"  {result.plan if plan is None else plan}"
    )


def main() -> None:
    """Print the table."""
    settings = [("off", OFF), ("10:3", plan_fixed(10, 3)), ("20:4", plan_fixed(20, 4)), ("auto", None)]
    for profile in ("lossy1", "lossy5", "lossy10", "bursty"):
        for traffic, payloads in ((SPARSE, 20_000), (BULK, 60_000), (FAST, 60_000)):
            for name, plan in settings:
                print(_row(profile, name, plan, traffic, payloads, 8), flush=True)


if __name__ == "__main__":
    main()
