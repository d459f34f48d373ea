"""Two wires joined by a memory network, for tests of the data plane alone."""

from __future__ import annotations

import random
from typing import Any

from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.wire.events import READY
from kcpg.core.seal.seal import iv_bytes
from tests.engines import twin

C2S, S2C = bytes(range(32)), bytes(range(32, 64))
MASKS = {"a": {"mask_rx": S2C, "mask_tx": C2S}, "b": {"mask_rx": C2S, "mask_tx": S2C}}
PATH_A, PATH_B = (1, b"address of a"), (2, b"address of b")
CID_A, CID_B = 0xA0A0A0A0, 0xB0B0B0B0


def key(direction: bytes, number: int = 0) -> bytes:
    """A data key."""
    return bytes(b ^ (0x55 + number) for b in direction)


def make_wire(engine: str, side: str = "a", **options: Any) -> Any:
    """One wire; side "a" dials, "b" listens."""
    return twin(engine, "Wire")(**MASKS[side], **{"max_datagram": 1500, **options})


class WirePair:
    """Wires `a` and `b`, a link wire in each that reaches the other, and what is between them.

    `engine_b`: of b, None: the same. `b` accepts every conversation. `lose(sender, datagram)`
    decides about each datagram.
    """

    def __init__(
        self,
        engine: str,
        params: KcpParams | None = None,
        algorithm: str = "AES-GCM",
        engine_b: str | None = None,
    ) -> None:
        self.params = params or KcpParams()
        self.algorithm = algorithm
        self.now_ms = 1000
        self.sent: list[tuple[str, bytes]] = []
        self.lose = lambda sender, datagram: False
        self.ready: dict[str, list[Any]] = {"a": [], "b": []}
        self.events: dict[str, list[tuple[Any, ...]]] = {"a": [], "b": []}
        self.wires = {"a": make_wire(engine, "a"), "b": make_wire(engine_b or engine, "b")}
        self.a, self.b = (self.wires[side].link_wire(side) for side in "ab")
        self.install(CID_A, CID_B, 0)
        self.a.set_path(*PATH_B)
        self.b.set_path(*PATH_A)
        self.b.accept = lambda number: self.b.open(number, self.params)

    def install(self, cid_a: int, cid_b: int, number: int) -> None:
        """An epoch on both sides."""
        iv = bytes(iv_bytes(self.algorithm))
        self.a.install_rx(cid_a, self.algorithm, key(S2C, number), iv)
        self.b.install_rx(cid_b, self.algorithm, key(C2S, number), iv)
        self.a.install_tx(cid_b, self.algorithm, key(C2S, number), iv)
        self.b.install_tx(cid_a, self.algorithm, key(S2C, number), iv)

    def open(self, number: int = 1) -> Any:
        """A conversation on side a."""
        return self.a.open(number, self.params)

    def step(self) -> int:
        """Deliver what both sides send now; returns how many datagrams that was."""
        count = 0
        for side, other, path in (("a", "b", PATH_A), ("b", "a", PATH_B)):
            for _, _, datagram in self.wires[side].transmit(self.now_ms):
                count += 1
                self.sent.append((side, datagram))
                if not self.lose(side, datagram):
                    self.wires[other].receive(*path, datagram, self.now_ms)
            for name in self.wires:
                self.ready[name] += [conv for (conv,) in self.taken(name, READY)]
        return count

    def taken(self, side: str, kind: int) -> list[tuple[Any, ...]]:
        """The operands of this side's events of that kind since they were asked for last."""
        found = self.events[side] + self.wires[side].take_events()
        self.events[side] = [event for event in found if event[0] != kind]
        return [event[1:] for event in found if event[0] == kind]

    def run(self, ms: int = 0) -> None:
        """Step until nothing moves, and go on like that for `ms` of virtual time."""
        end_ms = self.now_ms + ms
        while True:
            for _ in range(10_000):
                if not self.step():
                    break
            else:
                raise AssertionError("the wires never come to rest")
            due = [at for at in (wire.deadline() for wire in self.wires.values()) if at is not None]
            following = min(due, default=end_ms + 1)
            if following > end_ms:
                self.now_ms = end_ms
                return
            self.now_ms = max(following, self.now_ms + 1)

    def peer(self, conv: Any) -> Any:
        """The other end of a conversation of side a."""
        return self.b.convs[conv.conv]


def taken(wire: Any, kind: int) -> list[tuple[Any, ...]]:
    """The operands of a wire's events of that kind; the others are gone."""
    return [event[1:] for event in wire.take_events() if event[0] == kind]


def lossy(rng: random.Random, rate: float) -> Any:
    """A `lose` that loses at random."""
    return lambda sender, datagram: rng.random() < rate
