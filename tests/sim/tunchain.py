"""A chain with hops that speak kcptun's format."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from kcpg.core.env import Env
from kcpg.core.flow import Kind, Open
from kcpg.core.kcptun.dialer import DialSettings, TunDialer
from kcpg.core.kcptun.framestream import StreamSettings
from kcpg.core.kcptun.leg import TunLeg
from kcpg.core.kcptun.listener import ListenSettings, TunListener
from kcpg.core.kcptun.wire import Format
from kcpg.core.native.dial.pathchoice import Destination
from tests.engines import twin
from tests.sim.chain import Hop
from tests.sim.foreignchain import ForeignChain
from tests.sim.memory import Answer, App, AppSocket


@dataclass
class TunHop(Hop):
    """What the two legs of a hop in kcptun's format are given."""

    crypt: str = "aes-128-gcm"
    tunnels: int = 1
    fec: tuple[int, int] = (0, 0)
    streams: StreamSettings = field(default_factory=StreamSettings)
    options: dict[str, Any] = field(default_factory=dict)  # further settings of the dialer
    dialer_password: bytes | None = None  # None: the same

    def format(self, password: bytes | None = None) -> Format:
        return Format(self.crypt, password or self.key, 1350, self.fec)


class TunChain(ForeignChain):
    """A hop that is no TunHop is native. The format cannot say which flow one is, so targets answer in the
    order of connecting, which one link keeps."""

    HOP = TunHop

    def __init__(self, engine: str, seed: object, hops: list[Hop], **options: Any) -> None:
        self.data_plane = twin(engine, "TunWire")
        self.queue: deque[Answer] = deque()
        super().__init__(engine, seed, hops, **options)
        self.serve = self._in_order

    def connect(self, app: App, answer: Answer, kind: Kind = Kind.TCP) -> AppSocket:
        self.queue.append(answer)
        return super().connect(app, answer, kind)

    def _in_order(self, _request: Open) -> Answer:
        return self.queue.popleft()

    def listening_leg(self, hop: TunHop, name: str, env: Env) -> TunListener:
        settings = ListenSettings(name=name, format=hop.format(), kcp=hop.kcp, streams=hop.streams)
        return TunListener(settings, env, self.data_plane)

    def dialling_leg(self, hop: TunHop, name: str, env: Env, targets: tuple[Destination, ...]) -> TunDialer:
        settings = DialSettings(
            name=name,
            targets=targets,
            format=hop.format(hop.dialer_password),
            kcp=hop.kcp,
            streams=hop.streams,
            tunnels=hop.tunnels,
            **self.dial,
        )
        return TunDialer(replace(settings, **hop.options), env, self.data_plane)

    def tun_dialer(self, name: str = "client") -> TunDialer:
        leg = self[name].node.egress
        assert isinstance(leg, TunDialer)
        return leg

    def tun_listener(self, name: str = "server") -> TunListener:
        leg = self[name].node.ingress
        assert isinstance(leg, TunListener)
        return leg

    def leftovers(self) -> dict[str, int]:
        """By node and leg: flows, bytes that nobody read, and what waits to be sent."""
        left = {}
        for node in self.world.nodes:
            for leg in node.node.tunnels if node.up else ():
                if isinstance(leg, TunLeg):
                    left[f"{node.name} {type(leg).__name__}"] = sum(
                        each.flow_count
                        + each._held
                        + len(each.frames.pending)
                        + len(each._held_ends)
                        + len(each._waiting)
                        for each in leg.links
                    )
        return left
