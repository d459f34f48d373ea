"""The compiled wire and the plain one, told the same, do the same: every datagram, drop, event and fact."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kcpg.core.fec.plan import OFF, Plan, plan_for
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.wire import frames
from tests.lockstep import OTHER_PATH, SIDES, LockStep
from tests.wires import PATH_A, PATH_B

PATH_OF = {"a": PATH_A, "b": PATH_B}


class Course:
    """A random course of a `LockStep`, drawn from `rng`. `loss`, `chaos`: rates of lost, and of delayed and
    doubled, datagrams; `noise`: of datagrams that are nobody's."""

    def __init__(self, rng: random.Random, step: LockStep, convs: int, write_bytes: int, **rates: float):
        self.rng, self.step, self.convs, self.write_bytes = rng, step, convs, write_bytes
        self.rates = {"loss": 0.0, "chaos": 0.0, "noise": 0.0, "packets": 0.0, "control": 0.0} | rates
        self.flying: dict[str, list[tuple[int, int, tuple[int, bytes], bytes]]] = {"a": [], "b": []}
        self.count = 0
        self.epochs = [0] * len(step.rigs[0].link_wires["a"])

    def run(self, steps: int) -> None:
        """So many random acts, with the network's between them."""
        for _ in range(steps):
            self.act()
            self.network()
            for side in SIDES:
                self.step.do(f"news {side}", lambda rig, side=side: rig.news(side), side)
            self.step.now_ms += self.rng.choice([0, 0, 1, 1, 2, 5, 10, 40, 40, 300])

    def network(self) -> None:
        """Both sides send, what is due arrives."""
        for side, other in SIDES.items():
            for _sock, _addr, datagram in self.step.transmit(side):
                moved = side == "a" and self.rng.random() < self.rates["chaos"] / 10
                self.fly(other, OTHER_PATH if moved else PATH_OF[side], datagram)
            self.arrive(side)

    def fly(self, to: str, path: tuple[int, bytes], datagram: bytes) -> None:
        rng = self.rng
        copies = 0 if rng.random() < self.rates["loss"] else 1 + (rng.random() < self.rates["chaos"])
        for _ in range(copies):
            late = rng.choice([0, 3, 30, 90]) if rng.random() < self.rates["chaos"] else 0
            self.count += 1
            self.flying[to].append((self.step.now_ms + 10 + late, self.count, path, datagram))

    def arrive(self, side: str) -> None:
        due = sorted(each for each in self.flying[side] if each[0] <= self.step.now_ms)
        self.flying[side] = [each for each in self.flying[side] if each[0] > self.step.now_ms]
        for _, _, path, datagram in due:
            if self.rng.random() < self.rates["noise"]:
                self.step.receive(side, path, self.noise(datagram))
            self.step.receive(side, path, datagram)

    def noise(self, datagram: bytes) -> bytes:
        """Something that is none of ours, or was."""
        rng = self.rng
        cut = datagram[: rng.randrange(len(datagram))]
        at = rng.randrange(len(datagram))
        damaged = datagram[:at] + bytes((datagram[at] ^ 1 << rng.randrange(8),)) + datagram[at + 1 :]
        return rng.choice([cut, damaged, datagram, rng.randbytes(rng.choice([0, 31, 32, 100, 1500, 9500]))])

    # What users do.

    def act(self) -> None:
        """Several small things of users, or one of the link's."""
        for _ in range(self.rng.choice([1, 1, 2, 6])):
            if self.rng.random() < self.rates["control"]:
                self.control()
            else:
                self.use()

    def use(self) -> None:
        """One call of a random conversation's."""
        rng = self.rng
        side, number = rng.choice("ab"), rng.randrange(len(self.epochs))
        conv = rng.randrange(1, self.convs + 1)
        if self.step.rigs[0].conv(side, number, conv) is None:
            self.step.do("open", lambda rig: bool(rig.link_wires[side][number].open(conv, rig.params).conv))
        name, arguments = self.call()
        self.step.do(name, lambda rig: getattr(rig.conv(side, number, conv), name)(*arguments))

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """A method of a conversation, with its arguments."""
        rng = self.rng
        data = rng.randbytes(rng.choice([0, 1, 40, rng.randint(0, self.write_bytes), self.write_bytes]))
        if rng.random() < self.rates["packets"]:
            packets = [
                rng.randbytes(rng.choice([2, 3, 90, 1300, 1371, 1400])) for _ in range(rng.randint(0, 9))
            ]
            return rng.choice(
                [
                    ("send_datagram", (data[:1400],)),
                    ("recv_datagram", ()),
                    ("send_packets", (packets, rng.random() < 0.7)),
                    ("recv_packets", (rng.choice([1, 5, 100]),)),
                    ("send", (data[:20_000],)),
                ]
            )
        return rng.choice(
            [
                ("write", (data,)),
                ("write", (data,)),
                ("read", (rng.choice([1, 2000, 1 << 20]),)),
                ("read", (1 << 20,)),
                ("recv", ()),
            ]
        )

    # What links do.

    def control(self) -> None:
        """Something that a link or its leg does."""
        rng, step = self.rng, self.step
        side, number = rng.choice("ab"), rng.randrange(len(self.epochs))
        link_wire = lambda rig: rig.link_wires[side][number]  # noqa: E731
        conv = rng.randrange(1, self.convs + 1)
        match rng.randrange(15):
            case 0:
                frame = rng.choice([frames.PING, frames.PATH_CHALLENGE, frames.RESET, frames.PAD, 200])
                path = rng.choice([None, None, PATH_A if side == "b" else PATH_B])
                payload = rng.randbytes(rng.choice([0, 8, 500]))
                step.do("frame", lambda rig: link_wire(rig).send(frame, payload, path))
            case 1 if self.epochs[number] < 60:
                self.epochs[number] += 1
                step.do("rekey", lambda rig: rig.rekey(number, self.epochs[number]))
            case 2:
                size = rng.choice([600, 1280, 1400, 1400, 1472])
                step.do("size", lambda rig: setattr(link_wire(rig), "datagram_bytes", size))
            case 3:
                step.do("close", lambda rig: link_wire(rig).close(conv))
            case 4:
                step.do("hurry", lambda rig: link_wire(rig).hurry(step.now_ms))
            case 5:
                step.do("losses", lambda rig: tuple(link_wire(rig).losses()))
            case 6:
                step.do("count", lambda rig: setattr(link_wire(rig), "counts_losses", True))
            case 7:
                watched = rng.random() < 0.5
                step.do("watch", lambda rig: setattr(link_wire(rig), "watched", watched))
            case 8:
                path = rng.choice([PATH_OF[SIDES[side]], OTHER_PATH])
                step.do("path", lambda rig: link_wire(rig).set_path(*path))
            case 13:
                step.do("limit", lambda rig: link_wire(rig).limit_path())
            case 14:
                step.do("prove", lambda rig: link_wire(rig).prove_path())
            case 9:
                step.do("post", lambda rig: rig.wires[side].post(3, b"somewhere", b"d" * 400))
            case 10:
                wants = ("want_room", True) if rng.random() < 0.5 else ("want_drained", True)
                self.with_conv("wait", side, number, conv, lambda one: setattr(one, *wants))
            case 11:
                self.relay(side, number, conv)
            case 12:
                self.change(side, number, conv)

    def with_conv(self, what: str, side: str, number: int, conv: int, act: Any) -> None:
        """Let both do something with a conversation, if it is open."""
        if self.step.rigs[0].conv(side, number, conv) is not None:
            self.step.do(what, lambda rig: act(rig.conv(side, number, conv)))

    def relay(self, side: str, number: int, conv: int) -> None:
        """Move what came on into another conversation, as a relay does."""
        onward, packets = 1 + conv % self.convs, self.rng.random() < 0.5
        if onward != conv and self.step.rigs[0].conv(side, number, onward) is not None:
            self.with_conv(
                "move_to", side, number, conv, lambda one: one.move_to(one.link_wire.convs[onward], packets)
            )

    def change(self, side: str, number: int, conv: int) -> None:
        """A conversation's own settings."""
        name, value = self.rng.choice([("mark_first", True), ("unordered", True), ("windows", (9, 9))])
        if name == "windows":
            self.with_conv(name, side, number, conv, lambda one: one.set_windows(*value))
        else:
            self.with_conv(name, side, number, conv, lambda one: setattr(one, name, value))


PLANS = (Plan(5, (0, 1, 1, 2, 2, 3)), plan_for(0.1, 1.0, 20), plan_for(0.02, 2.0, 8), OFF)
USES = {
    "stream": {},
    "packets": {"packets": 0.6},
    "chaos": {"packets": 0.3, "loss": 0.1, "chaos": 0.3},
    "hostile": {"packets": 0.3, "loss": 0.05, "chaos": 0.2, "noise": 0.2},
    "control": {"packets": 0.3, "loss": 0.05, "chaos": 0.1, "control": 0.3},
}


def run(seed: int, convs: int, use: dict[str, float], **options: Any) -> None:
    """One course; a failure says its seed."""
    rng = random.Random(seed)
    params = KcpParams(
        nodelay=rng.randint(0, 2),
        interval_ms=rng.choice([1, 10, 30]),
        resend=rng.randint(0, 2),
        nc=rng.random() < 0.7,
        snd_wnd=rng.choice([4, 64, 1024, 2048]),
        rcv_wnd=rng.choice([4, 64, 1024, 2048]),
        auto=options.get("control", False),
    )
    step = LockStep(
        params=params,
        links=options.get("links", 1),
        control=options.get("control", False),
        max_datagram=options.get("max_datagram", 1500),
    )
    try:
        prepare(rng, step, options)
        Course(rng, step, convs, rng.choice([200, 5000, 400_000]), **use).run(options.get("steps", 60))
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, {convs} conversations, {use}, {options}: {error}") from error


def prepare(rng: random.Random, step: LockStep, options: dict[str, Any]) -> None:
    """Rate, FEC and size of datagrams."""
    for rig in step.rigs:
        for link_wire in (each for side in SIDES for each in rig.link_wires[side]):
            link_wire.datagram_bytes = options.get("datagram_bytes", 1400)
            if "rate_bps" in options:
                link_wire.rate_bps = options["rate_bps"]
            if "fec" in options:
                link_wire.fec_use(PLANS[options["fec"]], 8, options.get("bulk", False))
            link_wire.counts_losses = "fec" in options


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("convs", [1, 3, 8])
@pytest.mark.parametrize("seed", range(3))
def test_without_a_rate(seed: int, convs: int, use: str) -> None:
    run(seed, convs, USES[use])


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("rate_bps", [80_000, 4_000_000, 300_000_000])
@pytest.mark.parametrize("convs", [1, 5])
def test_with_a_rate(convs: int, rate_bps: int, use: str) -> None:
    run(convs, convs, USES[use], rate_bps=rate_bps)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("fec", range(len(PLANS)))
def test_with_fec(fec: int, bulk: bool, use: str) -> None:
    for seed, convs in ((1, 1), (2, 4)):
        run(seed, convs, USES[use], fec=fec, bulk=bulk)


def test_parity_that_waited_takes_nothing_of_a_turn() -> None:
    run(1106, 1, USES["stream"], fec=2, bulk=True, steps=30)
    run(1133, 3, USES["control"], fec=2, bulk=True, steps=80, links=4)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("rate_bps", [0, 20_000_000])
@pytest.mark.parametrize("links", [1, 3])
def test_with_a_controller(links: int, rate_bps: int, use: str) -> None:
    for seed, options in ((1, {}), (2, {"fec": 1})):
        run(seed, 4, USES[use], control=True, rate_bps=rate_bps, links=links, **options)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("datagram_bytes", [600, 8972])
def test_with_other_datagrams(datagram_bytes: int, use: str) -> None:
    for seed, links in ((1, 1), (2, 4)):
        run(seed, 6, USES[use], max_datagram=9000, datagram_bytes=datagram_bytes, links=links, rate_bps=0)
