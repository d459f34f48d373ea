"""A chain with hops that speak kcptube's format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kcpg.core.flow import Kind, Open, Target
from kcpg.core.kcptube.dialedlink import DialedLink
from kcpg.core.kcptube.dialer import DialSettings, TubeDialer
from kcpg.core.kcptube.leg import TubeLeg
from kcpg.core.kcptube.listener import ListenSettings, TubeListener
from kcpg.core.kcptube.wire import Format
from kcpg.core.native.dial.pathchoice import Destination
from tests.engines import twin
from tests.sim.chain import PORTS, Hop, SimChain
from tests.sim.memory import Answer, App, AppSocket
from tests.sim.network import LegSlot
from tests.sim.world import SimNode


@dataclass
class TubeHop(Hop):
    """What the two legs of a hop in kcptube's format are given."""

    tunnels: int = 0
    fec: tuple[int, int] = (0, 0)
    keep_alive_ms: int = 0
    hop_every_ms: int = 0
    dialer_password: bytes | None = None  # None: the same

    def format(self, password: bytes | None = None) -> Format:
        return Format(self.algorithm, password or self.key, self.datagram_bytes, self.fec)


class TubeChain(SimChain):
    """A hop that is no TubeHop is native."""

    def __init__(self, engine: str, seed: object, hops: list[Hop], **options: Any) -> None:
        self.kcp = twin(engine, "Kcp")
        super().__init__(engine, seed, len(hops) - 1, hops=hops, **options)
        self.serve = self._by_target

    def connect(self, app: App, answer: Answer, kind: Kind = Kind.TCP) -> AppSocket:
        """As of SimChain; the format has no field for who asks, so the target tells which flow it is."""
        name = f"flow-{len(self.answers)}"
        self.answers[name] = answer
        return self.listener.connect(kind, app, source=name, target=Target(name, 7))

    def _by_target(self, request: Open) -> Answer:
        assert request.target is not None
        return self.answers[request.target.host]

    def _tunnel_listener(self, sim: SimNode, place: int) -> Any:
        hop = self.hops[place - 1]
        if not isinstance(hop, TubeHop):
            return super()._tunnel_listener(sim, place)
        slot = LegSlot()
        settings = ListenSettings(
            name=sim.name, format=hop.format(), kcp=hop.kcp, keep_alive_ms=hop.keep_alive_ms
        )
        leg = TubeListener(settings, self._env(sim, slot), self.kcp)
        for port in PORTS:
            sim.open_socket(slot, port)
        slot.leg = leg
        return leg

    def _tunnel_dialer(self, sim: SimNode, place: int) -> Any:
        hop = self.hops[place]
        if not isinstance(hop, TubeHop):
            return super()._tunnel_dialer(sim, place)
        slot = LegSlot()
        settings = DialSettings(
            name=sim.name,
            targets=tuple(Destination(host, PORTS) for host in self._hosts(place + 1)),
            format=hop.format(hop.dialer_password),
            kcp=hop.kcp,
            keep_alive_ms=hop.keep_alive_ms,
            hop_every_ms=hop.hop_every_ms,
            tunnels=hop.tunnels,
            **self.dial,
        )
        leg = TubeDialer(settings, self._env(sim, slot), self.kcp)
        slot.leg = leg
        return leg

    def tube_dialer(self, name: str = "client") -> TubeDialer:
        leg = self[name].node.egress
        assert isinstance(leg, TubeDialer)
        return leg

    def tube_listener(self, name: str = "server") -> TubeListener:
        leg = self[name].node.ingress
        assert isinstance(leg, TubeListener)
        return leg

    def leftovers(self) -> dict[str, int]:
        """By node and leg: links of single flows, flows of mux links, sockets beside those of mux links."""
        left = {}
        for node in self.world.nodes:
            for leg in node.node.tunnels if node.up else ():
                if not isinstance(leg, TubeLeg):
                    continue
                mux = [link for link in leg.links if link.carries == 1]
                count = len(leg.links) - len(mux) + sum(link.flow_count for link in mux)
                if isinstance(leg, TubeDialer):
                    kept: list[DialedLink] = list(leg._dialed)
                    count += (
                        len(kept) - leg.settings.tunnels + len(leg._owners) - len(mux) + len(leg._closing)
                    )
                else:
                    assert isinstance(leg, TubeListener)
                    count += len(leg._convs) - len(mux) + len(leg._greetings) + len(leg._asked)
                left[f"{node.name} {type(leg).__name__}"] = count
        return left
