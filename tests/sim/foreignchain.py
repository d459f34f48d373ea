"""Chains with hops in a format that is not ours."""

from __future__ import annotations

from typing import Any

from kcpg.core.env import Env
from kcpg.core.native.dial.pathchoice import Destination
from tests.sim.chain import PORTS, Hop, SimChain
from tests.sim.network import LegSlot
from tests.sim.world import SimNode


class ForeignChain(SimChain):
    """A hop that is no `HOP` is native."""

    HOP: type[Hop]

    def __init__(self, engine: str, seed: object, hops: list[Hop], **options: Any) -> None:
        super().__init__(engine, seed, len(hops) - 1, hops=hops, **options)

    def listening_leg(self, hop: Any, name: str, env: Env) -> Any:
        """That of a foreign hop."""
        raise NotImplementedError

    def dialling_leg(self, hop: Any, name: str, env: Env, targets: tuple[Destination, ...]) -> Any:
        """That of a foreign hop."""
        raise NotImplementedError

    def _tunnel_listener(self, sim: SimNode, place: int) -> Any:
        hop = self.hops[place - 1]
        if not isinstance(hop, self.HOP):
            return super()._tunnel_listener(sim, place)
        slot = LegSlot()
        leg = self.listening_leg(hop, sim.name, self._env(sim, slot))
        for port in PORTS:
            sim.open_socket(slot, port)
        slot.leg = leg
        return leg

    def _tunnel_dialer(self, sim: SimNode, place: int) -> Any:
        hop = self.hops[place]
        if not isinstance(hop, self.HOP):
            return super()._tunnel_dialer(sim, place)
        slot = LegSlot()
        targets = tuple(Destination(host, PORTS) for host in self._hosts(place + 1))
        slot.leg = self.dialling_leg(hop, sim.name, self._env(sim, slot), targets)
        return slot.leg
