"""A chain with hops that speak kcptube's format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kcpg.core.env import Env
from kcpg.core.flow import Kind, Open, Target
from kcpg.core.kcptube.dialedlink import DialedLink
from kcpg.core.kcptube.dialer import DialSettings, TubeDialer
from kcpg.core.kcptube.leg import TubeLeg
from kcpg.core.kcptube.listener import ListenSettings, TubeListener
from kcpg.core.kcptube.wire import Format
from kcpg.core.native.dial.pathchoice import Destination
from tests.engines import twin
from tests.sim.chain import Hop
from tests.sim.foreignchain import ForeignChain
from tests.sim.memory import Answer, App, AppSocket


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


class TubeChain(ForeignChain):
    """A hop that is no TubeHop is native."""

    HOP = TubeHop

    def __init__(self, engine: str, seed: object, hops: list[Hop], **options: Any) -> None:
        self.kcp = twin(engine, "Kcp")
        super().__init__(engine, seed, hops, **options)
        self.serve = self._by_target

    def connect(self, app: App, answer: Answer, kind: Kind = Kind.TCP) -> AppSocket:
        """As of SimChain; the format has no field for who asks, so the target tells which flow it is."""
        name = f"flow-{len(self.answers)}"
        self.answers[name] = answer
        return self.listener.connect(kind, app, source=name, target=Target(name, 7))

    def _by_target(self, request: Open) -> Answer:
        assert request.target is not None
        return self.answers[request.target.host]

    def listening_leg(self, hop: TubeHop, name: str, env: Env) -> TubeListener:
        settings = ListenSettings(
            name=name, format=hop.format(), kcp=hop.kcp, keep_alive_ms=hop.keep_alive_ms
        )
        return TubeListener(settings, env, self.kcp)

    def dialling_leg(self, hop: TubeHop, name: str, env: Env, targets: tuple[Destination, ...]) -> TubeDialer:
        settings = DialSettings(
            name=name,
            targets=targets,
            format=hop.format(hop.dialer_password),
            kcp=hop.kcp,
            keep_alive_ms=hop.keep_alive_ms,
            hop_every_ms=hop.hop_every_ms,
            tunnels=hop.tunnels,
            **self.dial,
        )
        return TubeDialer(settings, env, self.kcp)

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
