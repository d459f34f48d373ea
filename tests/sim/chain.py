"""A chain: applications, client, relays, server, applications; and what a scenario wants to do to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kcpg.core.env import Env, Event, Resolved, ResolveFailed
from kcpg.core.flow import Kind, Open, Reset
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.dial.dialer import DialSettings, TunnelDialer
from kcpg.core.native.dial.pathchoice import Destination
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.core.native.handshake.params import DIALER_BYTES, LinkParams
from kcpg.core.native.leg import NativeLeg
from kcpg.core.native.link.link import Link
from kcpg.core.native.link.setup import LinkLimits
from kcpg.core.native.listener import ListenSettings, TunnelListener
from kcpg.core.node import EgressLeg, FlowOver, IngressLeg, Node, NodeSettings, OwnTargets
from netem.profile import Impair, Profile, load
from tests.engines import twin
from tests.sim.actors import Echo, PacketStream, Talker
from tests.sim.memory import BUFFER_BYTES, Answer, App, AppSocket, MemoryDialer, MemoryListener
from tests.sim.network import LegSlot, address, host_of
from tests.sim.world import SimNode, World

PORTS = (3000, 3001, 3002)
WALL_S = 1_700_000_000  # any date
QUEUE_SEGMENTS = 256  # what a conversation keeps beside its window before it is full
# Small windows, so that scenarios reach them with little data.
KCP = KcpParams(nodelay=1, interval_ms=10, resend=2, nc=True, snd_wnd=128, rcv_wnd=128)
DATAGRAM_BYTES = 1400


@dataclass
class Hop:
    """What the two legs of one hop are given."""

    key: bytes
    algorithm: str = "AES-GCM"
    kcp: KcpParams = KCP
    dialer_key: bytes | None = None  # None: the same
    datagram_bytes: int = DATAGRAM_BYTES
    params: dict[str, Any] = field(default_factory=dict)  # LinkParams that only the dialer has
    both: dict[str, Any] = field(default_factory=dict)  # and those that both have


class SimChain:
    """`relays` nodes between client and server; `profiles`: one for all hops, or one per hop.

    `serve(open)` answers what the server dials; the default goes by `open.source`, because flows that are
    opened at once arrive in any order. `dial`: further DialSettings of every dialer. `addresses`: hosts that
    are the server as well, each with a link of its own from whoever dials it. `servers`: others, each
    a node of its own under the same secret.
    """

    def __init__(
        self,
        engine: str,
        seed: object,
        relays: int = 0,
        profiles: str | Impair | Sequence[str | Impair | Profile] = "lan",
        *,
        udp_timeout_ms: int = 180_000,
        udp_delivery: str = "unordered",
        limits: LinkLimits | None = None,
        hops: list[Hop] | None = None,
        dial: dict[str, Any] | None = None,
        addresses: Sequence[str] = (),
        servers: Sequence[str] = (),
    ) -> None:
        self.wire = twin(engine, "Wire")
        self.world = World(f"{engine} {seed}")
        self.udp_timeout_ms = udp_timeout_ms
        self.udp_delivery = udp_delivery
        self.limits = limits or LinkLimits()
        self.dial = dial or {}
        self.addresses = tuple(addresses)
        self.servers = tuple(servers)
        self.answers: dict[str, Answer] = {}
        self.serve: Callable[[Open], Answer] = lambda request: self.answers[request.source]
        self.events: list[tuple[str, Event]] = []
        self.overs: list[tuple[str, FlowOver]] = []
        self.pairs: list[tuple[Talker, Talker]] = []
        self.names = ["client", *(f"relay{number}" for number in range(1, relays + 1)), "server"]
        algorithms = ("AES-GCM", "AES-OCB", "chacha20", "xchacha20")
        self.hops = hops or [Hop(bytes([turn + 1] * 32), algorithms[turn % 4]) for turn in range(relays + 1)]
        every = [profiles] * (relays + 1) if isinstance(profiles, str | Impair) else list(profiles)
        for (near, far), profile in zip(self.links, every, strict=True):
            self.world.network.link(near, far, load(profile) if isinstance(profile, str) else profile)
        for host in (*self.addresses, *self.servers):
            profile = every[-1]
            self.world.network.link(
                self.names[-2], host, load(profile) if isinstance(profile, str) else profile
            )
        # The server first: whoever dials finds somebody. (That others find their peers late is a scenario.)
        names = [*self.servers, *reversed(self.names)]
        self.nodes = {name: SimNode(self.world, name, self._build) for name in names}

    @property
    def links(self) -> list[tuple[str, str]]:
        """(dialling host, listening host) of every hop."""
        return list(zip(self.names, self.names[1:], strict=False))

    def __getitem__(self, name: str) -> SimNode:
        return self.nodes[name]

    # -- building --------------------------------------------------------------------------------------------

    def _build(self, sim: SimNode) -> Node:
        place = self.names.index("server" if sim.name in self.servers else sim.name)
        first, last = place == 0, place == len(self.names) - 1
        ingress: IngressLeg = self._local_listener(sim) if first else self._tunnel_listener(sim, place)
        egress: EgressLeg = self._local_dialer(sim) if last else self._tunnel_dialer(sim, place)

        def report(event: object) -> None:
            if isinstance(event, FlowOver):
                self.overs.append((sim.name, event))

        settings = NodeSettings(udp_timeout_ms=self.udp_timeout_ms)
        return Node(ingress, egress, settings, report, self._own(place))

    def _own(self, _place: int) -> OwnTargets | None:
        """What a node answers itself."""
        return None

    def _local_listener(self, sim: SimNode) -> IngressLeg:
        return MemoryListener(self.world.soon, sim.dirty)

    def _local_dialer(self, sim: SimNode) -> MemoryDialer:
        return MemoryDialer(self.world.soon, sim.dirty, lambda request: self.serve(request))

    def _tunnel_listener(self, sim: SimNode, place: int) -> TunnelListener:
        hop = self.hops[place - 1]
        slot = LegSlot()
        settings = ListenSettings(name=sim.name, params=self._params(hop), kcp=hop.kcp, limits=self.limits)
        leg = TunnelListener(settings, RootKeys.from_key(hop.key), self._env(sim, slot), self.wire)
        for port in PORTS:
            sim.open_socket(slot, port)
            for host in self.addresses if sim.name == "server" else ():
                sim.open_socket(slot, port, host)
        slot.leg = leg
        return leg

    def _tunnel_dialer(self, sim: SimNode, place: int) -> TunnelDialer:
        hop = self.hops[place]
        slot = LegSlot()
        settings = DialSettings(
            name=sim.name,
            targets=tuple(Destination(host, PORTS) for host in self._hosts(place + 1)),
            params=replace(self._params(hop), **hop.params),
            kcp=hop.kcp,
            **{"identity": sim.name.encode().ljust(DIALER_BYTES, b"."), **self.dial},
        )
        keys = RootKeys.from_key(hop.dialer_key or hop.key)
        leg = TunnelDialer(settings, keys, self._env(sim, slot), self.wire)
        slot.leg = leg
        return leg

    def _hosts(self, place: int) -> list[str]:
        name = self.names[place]
        return [name, *self.addresses, *self.servers] if name == "server" else [name]

    def _params(self, hop: Hop) -> LinkParams:
        return LinkParams(
            algorithm=hop.algorithm,
            datagram_bytes=hop.datagram_bytes,
            snd_wnd=hop.kcp.snd_wnd,
            rcv_wnd=hop.kcp.rcv_wnd,
            udp_delivery=self.udp_delivery,
            **hop.both,
        )

    def _env(self, sim: SimNode, slot: LegSlot) -> Env:
        rng = random.Random(f"{self.world.seed}:{sim.name}:{sim.generation}:{len(sim.sockets)}")
        return Env(
            entropy=rng.randbytes,
            rng=rng,
            wall_s=lambda: WALL_S + self.world.elapsed_ms // 1000,
            open_socket=lambda: sim.open_socket(slot),
            close_socket=sim.close_socket,
            report=lambda event: self.events.append((sim.name, event)),
            resolve=self._resolve,
            source_key=lambda addr: host_of(addr).encode(),
        )

    def _resolve(self, host: str, port: int, resolved: Resolved) -> None:
        resolved(
            [address(host, port)]
            if host in self.nodes or host in self.addresses
            else ResolveFailed("no such host")
        )

    # -- applications ----------------------------------------------------------------------------------------

    def link(self, name: str) -> Link:
        """The link by which a node reaches the next one."""
        leg = self[name].node.egress
        assert isinstance(leg, TunnelDialer) and leg.link is not None
        return leg.link

    @property
    def listener(self) -> MemoryListener:
        leg = self["client"].node.ingress
        assert isinstance(leg, MemoryListener)
        return leg

    def talk(
        self, up: int, down: int, *, near: Any = None, far: Any = None, delay_ms: int = 0
    ) -> tuple[Talker, Talker]:
        """A TCP connection of two talkers; `near` and `far`: their further options."""
        number = len(self.answers)
        there, back = (f"up {number}", up), (f"down {number}", down)
        client = Talker(self.world, f"near {number}", there, back, **(near or {}))
        server = Talker(self.world, f"far {number}", back, there, **(far or {}))
        self.pairs.append((client, server))
        self.connect(client, Answer(delay_ms, server))
        return client, server

    def stream(self, count: int, every_ms: int = 5, **options: Any) -> PacketStream:
        """A UDP flow that is echoed."""
        stream = PacketStream(self.world, f"udp {len(self.answers)}", count, every_ms, **options)
        self.connect(stream, Answer(0, Echo(self.world)), Kind.UDP)
        return stream

    def connect(self, app: App, answer: Answer, kind: Kind = Kind.TCP) -> AppSocket:
        """An application of the client's side connects, and this is what the target does."""
        source = f"flow {len(self.answers)}"
        self.answers[source] = answer
        return self.listener.connect(kind, app, source=source)

    # -- waiting and judging ---------------------------------------------------------------------------------

    def finish(self, limit_ms: int = 60_000) -> int:
        """Until every pair of talkers is done, cleanly; gives the milliseconds."""
        return self.world.run(lambda: all(near.clean and far.clean for near, far in self.pairs), limit_ms)

    def settle(self, limit_ms: int = 40_000) -> None:
        """Nothing of any flow is left in any node: no splice, no conversation, no segment slot."""
        world = self.world
        world.run(lambda: all(not node.up or not node.node.flows for node in world.nodes), limit_ms)
        world.after(limit_ms, lambda: None)  # something to wait for
        world.run(self._forgotten, limit_ms)

    def _forgotten(self) -> bool:
        return not any(self.leftovers().values())

    def leftovers(self) -> dict[str, int]:
        """By node and leg: conversations, and segment slots where the engine counts them."""
        left = {}
        for node in self.world.nodes:
            for leg in node.node.tunnels if node.up else ():
                assert isinstance(leg, NativeLeg)
                slots: int = getattr(leg.wire, "held_slots", 0)
                left[f"{node.name} {type(leg).__name__}"] = slots + sum(
                    len(link.link_wire.convs) for link in leg.links
                )
        return left

    def bounded(self) -> None:
        """From now on, at every step: what a TCP flow has under way is bounded by windows and buffers."""
        per_hop = (self.hops[0].kcp.snd_wnd + self.hops[0].kcp.rcv_wnd + QUEUE_SEGMENTS) * DATAGRAM_BYTES
        bound = len(self.hops) * per_hop + 4 * BUFFER_BYTES

        def check() -> None:
            for near, far in self.pairs:
                assert near.sent - far.received <= bound, f"{near} {far}: more than {bound}; {self.world}"
                assert far.sent - near.received <= bound, f"{far} {near}: more than {bound}; {self.world}"

        self.world.checks.append(check)

    def reasons(self, name: str) -> list[Reset | None]:
        """How the flows of a node ended."""
        return [over.reason for node, over in self.overs if node == name]
