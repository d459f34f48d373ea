"""A dialer and listeners joined by a memory network in virtual time, for tests of links without nodes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kcpg.core.env import Env, Event, ResolveFailed
from kcpg.core.flow import Kind, Open, Reset
from kcpg.core.native.dial.dialer import DialSettings, TunnelDialer
from kcpg.core.native.dial.pathchoice import Destination
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.core.native.handshake.params import LinkParams
from kcpg.core.native.listener import ListenSettings, TunnelListener
from netem.profile import Impair
from tests.engines import twin
from tests.line import MS, Line

KEYS = RootKeys.from_key(bytes(range(32)))
OTHER_KEYS = RootKeys.from_key(bytes(32))
WALL_S = 1_800_000_000
PORTS = (3000, 3001, 3002)
TCP = Open(Kind.TCP, None, "test")
UDP = Open(Kind.UDP, None, "test")


class Watch:
    """Stands for a splice: notes what the flow tells it."""

    def __init__(self, flow: Any) -> None:
        self.flow = flow
        self.over = False
        self.events = 0
        self.reason: Reset | None = None
        flow.splice = self

    def ready(self, flow: Any, events: int) -> None:
        self.events |= events

    def on_reset(self, flow: Any, reason: Reset) -> None:
        self.flow.splice = None
        self.reason = reason

    def finish(self) -> None:
        """What a splice does when both directions are done."""
        self.flow.splice = None
        self.flow.release()


class LinkRig:
    """One dialer "d" and one listener "l" (replaceable), `delay_ms` apart.

    `lose(sender, path, datagram)` decides about each datagram. Addresses: the dialer's socket n is
    b"d<n>", the listener's ports are b"l<port>". `moves` maps a dialer's address to what the listener sees
    instead (a NAT).
    """

    def __init__(
        self,
        engine: str = "python",
        seed: int = 1,
        delay_ms: int = 10,
        dial: dict[str, Any] | None = None,
        listen: dict[str, Any] | None = None,
        keys: RootKeys = KEYS,
        listener_keys: RootKeys = KEYS,
    ) -> None:
        self.engine = engine
        self.rng = random.Random(seed)
        self.delay_ms = delay_ms
        self.now_ms = 5_000
        self.wall_offset_s = {"d": 0, "l": 0}
        self.events: list[tuple[str, Event]] = []
        self.flows: list[tuple[Any, Open]] = []
        self.lose: Callable[[str, tuple[int, bytes], bytes], bool] = lambda sender, path, datagram: False
        self.moves: dict[bytes, bytes] = {}
        self.sent: list[tuple[str, int, bytes, bytes]] = []
        self.sockets = 0
        self.open_sockets: set[int] = set()
        self.names: dict[str, list[bytes] | None] = {}
        # By where they lead; what is under way: the socket it comes to, from whom, the datagram
        way = Impair(delay_ns=delay_ms * MS, limit=1 << 20)
        self._lines: dict[str, Line[tuple[int, bytes, bytes]]] = {
            to: Line(way, f"{seed}>{to}") for to in "ld"
        }
        self._dial = DialSettings("dial", [Destination("peer", PORTS)], **(dial or {}))
        self._listen = ListenSettings("listen", **(listen or {}))
        self._keys = {"d": keys, "l": listener_keys}
        self.d: Any = None
        self.l: Any = None
        self.new_listener()
        self.new_dialer()

    # Nodes.

    def new_listener(self) -> Any:
        """A listener that remembers nothing, as after a restart."""
        self.l = TunnelListener(self._listen, self._keys["l"], self._env("l"), twin(self.engine, "Wire"))
        self.l.on_flow = self._on_flow
        self.l.start(self.now_ms)
        return self.l

    def new_dialer(self) -> Any:
        """A dialer that remembers nothing."""
        self.d = TunnelDialer(self._dial, self._keys["d"], self._env("d"), twin(self.engine, "Wire"))
        return self.d

    def up(self) -> LinkRig:
        """Start the dialer and wait for its link."""
        self.d.start(self.now_ms)
        self.until(lambda: self.d.link is not None and bool(self.l.links))
        self.run(3 * self.delay_ms)
        return self

    def dial(self, request: Open = TCP) -> Watch:
        """A flow of the dialer, watched."""
        flow = self.d.dial(request, self.now_ms)
        assert not isinstance(flow, Reset), flow
        return Watch(flow)

    def pair(self, request: Open = TCP) -> tuple[Watch, Watch]:
        """A flow and what came of it at the listener."""
        near = self.dial(request)
        before = len(self.flows)
        self.until(lambda: len(self.flows) > before)
        return near, Watch(self.flows[-1][0])

    def _on_flow(self, flow: Any, request: Open, now_ms: int) -> None:
        self.flows.append((flow, request))

    def _env(self, side: str) -> Env:
        return Env(
            entropy=self.rng.randbytes,
            rng=self.rng,
            wall_s=lambda: WALL_S + self.now_ms // 1000 + self.wall_offset_s[side],
            open_socket=self._open_socket,
            close_socket=self.open_sockets.discard,
            report=lambda event: self.events.append((side, event)),
            resolve=self._resolve,
        )

    def _open_socket(self) -> int:
        self.sockets += 1
        self.open_sockets.add(self.sockets)
        return self.sockets

    def _resolve(self, host: str, port: int, answer: Callable[[Any], None]) -> None:
        found = self.names.get(host, [b"l%d" % port])
        answer(found if found is not None else ResolveFailed("no such name"))

    # Time.

    def run(self, ms: int) -> None:
        """Let `ms` of virtual time pass."""
        end_ms = self.now_ms + ms
        for _ in range(200_000):
            self._turn()
            following = self._next()
            if following is None or following > end_ms:
                self.now_ms = end_ms
                return
            self.now_ms = max(self.now_ms, following)
        raise AssertionError("the legs never come to rest")

    def until(self, condition: Callable[[], Any], limit_ms: int = 60_000) -> None:
        """Run until `condition()`; fails after `limit_ms`."""
        end_ms = self.now_ms + limit_ms
        while not condition():
            assert self.now_ms < end_ms, f"not within {limit_ms} ms"
            self.run(5)

    def kinds(self, side: str) -> list[str]:
        """The kinds of events of one side, in order."""
        return [event.kind for name, event in self.events if name == side]

    def event(self, side: str, kind: str) -> Event:
        """The only event of this kind."""
        (found,) = (event for name, event in self.events if (name, event.kind) == (side, kind))
        return found

    def _next(self) -> int | None:
        times = [self.d.deadline(), self.l.deadline()]
        times += [-(-line.next_ns // MS) for line in self._lines.values() if line.next_ns is not None]
        return min((at for at in times if at is not None), default=None)

    def _turn(self) -> None:
        for leg, line in ((self.l, self._lines["l"]), (self.d, self._lines["d"])):
            for arrival in line.take(self.now_ms * MS):
                leg.receive(*arrival.item, self.now_ms)
        for side, leg in (("d", self.d), ("l", self.l)):
            leg.advance(self.now_ms)
            for sock, addr, datagram in leg.transmit(self.now_ms):
                self.sent.append((side, sock, addr, datagram))
                if not self.lose(side, (sock, addr), datagram):
                    self._put(side, sock, addr, datagram)

    def _put(self, side: str, sock: int, addr: bytes, datagram: bytes) -> None:
        if side == "d":
            source = self.moves.get(b"d%d" % sock, b"d%d" % sock)
            to, to_sock = "l", int(addr[1:])
        else:
            back = {seen: real for real, seen in self.moves.items()}
            real = back.get(addr, addr)
            if real in self.moves and addr == real:
                return  # the NAT has forgotten this mapping
            to, to_sock, source = "d", int(real[1:]), b"l%d" % sock
            if to_sock not in self.open_sockets:
                return
        self._lines[to].put((to_sock, source, datagram), len(datagram), self.now_ms * MS)


def params(**values: Any) -> dict[str, Any]:
    """Settings with these link parameters."""
    return {"params": replace(LinkParams(), **values)}


def echo(near: Watch, far: Watch, rig: LinkRig, data: bytes = b"ping", answer: bytes = b"pong") -> None:
    """Bytes pass both ways."""
    near.flow.write(data)
    rig.run(5 * rig.delay_ms)
    assert far.flow.read(1 << 20) == data
    far.flow.write(answer)
    rig.run(5 * rig.delay_ms)
    assert near.flow.read(1 << 20) == answer
