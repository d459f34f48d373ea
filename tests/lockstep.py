"""Two rigs, one per engine, that are told the same: whatever they say or send must be equal.

An `EngineRig` has two wires that reach each other, with every clock, key and packet number given. `LockStep`
runs one of each engine side by side: what is random is drawn once for both.
"""

from __future__ import annotations

from typing import Any

from kcpg.core.congestion import CongestionController
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.wire.events import DRAINED, READY, STRANGER
from kcpg.core.seal.seal import iv_bytes
from tests.engines import ENGINES
from tests.wires import C2S, MASKS, PATH_A, PATH_B, S2C, key, make_wire

ALGORITHM = "AES-GCM"  # the same bytes for the same packet number: datagrams are compared as they are
OTHER_PATH = (1, b"another address of a")

# What a KCP tells of itself, and what a conversation of a wire does beyond that.
KCP_FACTS = [
    "acks_sent",
    "at_end",
    "bytes_received",
    "bytes_sent",
    "cwnd",
    "deadline",
    "duplicates_received",
    "idle",
    "in_flight",
    "kcp_mtu",
    "payloads_held",
    "queued",
    "rcv_nxt",
    "rcv_wnd",
    "readable",
    "resends_spurious",
    "rmt_wnd",
    "room",
    "rto_ms",
    "rttvar_ms",
    "segments_missing",
    "segments_received",
    "segments_refused",
    "segments_resent_fast",
    "segments_resent_rto",
    "segments_resent_tail",
    "segments_sent",
    "snd_nxt",
    "snd_una",
    "snd_wnd",
    "srtt_ms",
    "unordered",
    "unread",
    "wants_flush",
]
CONV_FACTS = [
    *KCP_FACTS,
    "conv",
    "acked_bytes",
    "closed",
    "drained",
    "events",
    "owes_ack",
    "wake_room",
    "want_drained",
    "want_room",
]
LINK_WIRE_FACTS = [
    "counts_losses",
    "datagram_bytes",
    "frame_room",
    "heeded_ms",
    "kcp_mtu",
    "outstanding",
    "pace_bps",
    "path",
    "rate_bps",
    "rx_bytes",
    "rx_cid",
    "rx_datagrams",
    "rx_last_ms",
    "rx_pn",
    "segments_resent",
    "segments_sent",
    "source",
    "srtt_ms",
    "timeouts",
    "tx_bytes",
    "tx_datagrams",
    "tx_last_ms",
    "tx_pn",
    "watched",
]
FLIGHT_FACTS = ["bytes", "due_ms", "limit_bytes"]
FEC_FACTS = ["groups", "held", "lost", "malformed", "parity_bytes", "rebuilt"]
SIDES = {"a": "b", "b": "a"}


class EngineRig:
    """Wires "a" and "b" of one engine, with `links` link wires each that reach their like."""

    def __init__(self, engine: str, params: KcpParams, links: int, control: bool, max_datagram: int) -> None:
        self.params = params
        self.control = control
        self.wires = {side: make_wire(engine, side, max_datagram=max_datagram) for side in MASKS}
        self.link_wires: dict[str, list[Any]] = {"a": [], "b": []}
        self.opened: list[tuple[str, int, int]] = []
        for number in range(links):
            self.link(number)

    def link(self, number: int) -> None:
        """One more link wire on both sides."""
        for side in SIDES:
            link_wire = self.wires[side].link_wire((side, number))
            self.link_wires[side].append(link_wire)
            link_wire.set_path(*(PATH_B if side == "a" else PATH_A))
            link_wire.accept = lambda conv, side=side, number=number: self.accept(side, number, conv)
            if self.control:
                link_wire.adapt(CongestionController(link_wire.datagram_bytes))
        self.rekey(number, 0)

    def accept(self, side: str, number: int, conv: int) -> Any:
        """Takes what comes, but for every seventh number, of which nobody knows anything."""
        if conv % 7 == 0:
            return None
        self.opened.append((side, number, conv))
        return self.link_wires[side][number].open(conv, self.params)

    def rekey(self, number: int, epoch: int) -> None:
        """Another epoch; the one before the last is forgotten."""
        iv = bytes(iv_bytes(ALGORITHM))
        for side, direction in (("a", S2C), ("b", C2S)):
            link_wire = self.link_wires[side][number]
            link_wire.install_rx(self.cid(side, number, epoch), ALGORITHM, key(direction, epoch), iv)
            link_wire.remove_rx(self.cid(side, number, epoch - 2))
        for side, direction in (("a", C2S), ("b", S2C)):
            cid = self.cid(SIDES[side], number, epoch)
            self.link_wires[side][number].install_tx(cid, ALGORITHM, key(direction, epoch), iv)

    @staticmethod
    def cid(side: str, number: int, epoch: int) -> int:
        """Of an epoch of one side."""
        return (ord(side) << 16) + (number << 8) + epoch + 2

    def conv(self, side: str, number: int, conv: int) -> Any:
        """A conversation, None where there is none."""
        return self.link_wires[side][number].convs.get(conv)

    def facts(self, sides: str) -> dict[str, Any]:
        """Everything that both engines show of these sides."""
        found: dict[str, Any] = {"opened": list(self.opened)}
        for side in sides:
            wire = self.wires[side]
            found[side] = {"drops": dict(wire.drops), "backlog": wire.backlog, "deadline": wire.deadline()}
            for link_wire in self.link_wires[side]:
                facts = {name: getattr(link_wire, name) for name in LINK_WIRE_FACTS}
                facts |= {"segments": dict(link_wire.segment_counts()), "user": link_wire.user}
                if link_wire.flight is not None:
                    facts["flight"] = {name: getattr(link_wire.flight, name) for name in FLIGHT_FACTS}
                if link_wire.fec is not None:
                    facts["fec"] = {name: getattr(link_wire.fec, name) for name in FEC_FACTS}
                for conv in link_wire.convs.values():
                    facts[conv.conv] = {name: getattr(conv, name) for name in CONV_FACTS}
                found[link_wire.user] = facts
        return found

    def news(self, side: str) -> dict[str, Any]:
        """What the wire has to tell; it is told once."""
        wire = self.wires[side]
        found = {"news": wire.news, "has_events": wire.has_events}
        found["events"] = [self._comparable(*event) for event in wire.take_events()]
        return found

    @staticmethod
    def _comparable(kind: int, owner: Any, *operands: Any) -> tuple[Any, ...]:
        if kind == READY:
            return kind, owner.link_wire.user, owner.conv, owner.take_events()
        if kind == DRAINED:
            return kind, owner.link_wire.user, owner.conv
        return kind, owner if kind == STRANGER else owner.user, *operands


class LockStep:
    """Both engines' rigs. `do` lets both do the same; what differs is an AssertionError with the step."""

    def __init__(self, **settings: Any) -> None:
        self.rigs = [EngineRig(engine, **settings) for engine in ENGINES]
        self.now_ms = 1000
        self.steps = 0

    def do(self, what: str, act: Any, sides: str = "ab") -> Any:
        """`act(rig)` in both; its answer, which must be the same, as must be all facts afterwards.

        `sides`: to which it can make a difference.
        """
        self.steps += 1
        answers = [act(rig) for rig in self.rigs]
        self.same(what, *answers)
        self.same(f"facts after {what}", *(rig.facts(sides) for rig in self.rigs))
        return answers[0]

    def same(self, what: str, compiled: Any, plain: Any) -> None:
        """Fails with the first difference."""
        if compiled != plain:
            where, one, other = difference(compiled, plain)
            raise AssertionError(f"step {self.steps}, {what}: {where} is {one} compiled, {other} in Python")

    def transmit(self, side: str) -> list[tuple[int, bytes, bytes]]:
        """What leaves at this side: the same datagrams to the same paths, bit by bit."""
        sent: list[tuple[int, bytes, bytes]] = self.do(
            f"transmit {side}", lambda rig: rig.wires[side].transmit(self.now_ms), side
        )
        return sent

    def receive(self, side: str, path: tuple[int, bytes], datagram: bytes) -> None:
        """One datagram, and what the wire then tells."""
        self.do(f"receive {side}", lambda rig: rig.wires[side].receive(*path, datagram, self.now_ms), side)


def difference(one: Any, other: Any, where: str = "") -> tuple[str, Any, Any]:
    """The first place where two nested answers differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in [*one, *other]:
            if name not in one or name not in other or one[name] != other[name]:
                return difference(one.get(name), other.get(name), f"{where}.{name}")
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        for at, (left, right) in enumerate(zip(one, other, strict=False)):
            if left != right:
                return difference(left, right, f"{where}[{at} of {len(one)}, {len(other)}]")
        return f"{where} length", len(one), len(other)
    if isinstance(one, bytes) and isinstance(other, bytes):
        return f"{where} bytes", (len(one), one[:32].hex()), (len(other), other[:32].hex())
    return where, one, other
