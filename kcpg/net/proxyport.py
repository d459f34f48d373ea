"""A proxy's sockets: connections that say their target first, and the packets of SOCKS5 associations."""

from __future__ import annotations

import _socket
from typing import TYPE_CHECKING, Any

from kcpg.core.flow import Flow, Kind, Open, Reset, ResetCode, Target
from kcpg.core.splice import Splice
from kcpg.net import READ
from kcpg.net import addr as addresses
from kcpg.net.clock import now_ms
from kcpg.net.local_tcp import FlowHost, TcpFlow
from kcpg.net.local_udp import BUFFER_BYTES, PACKETS_PER_TURN, UdpAssociation, send_all
from kcpg.net.packets import BATCH, Place, receive_from
from kcpg.net.socks import read_packet
from kcpg.net.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from kcpg.net.socks import Wish

# Targets of one association at a time: a resolver or a BitTorrent client has some hundred.
MAX_TARGETS = 1024


class ProxiedFlow(TcpFlow):
    """A connection that waits for the answer to its request. A node that refuses the flow at once is quoted;
    otherwise the answer is yes, before the target is known to be there: that saves a round trip, and a
    target that is not there resets the connection."""

    __slots__ = ("_refused",)

    def __init__(self, host: FlowHost, refused: Callable[[Reset], bytes]) -> None:
        super().__init__(host)
        self._refused: Callable[[Reset], bytes] | None = refused

    def accept(self, answer: bytes) -> None:
        """The flow is under way: say yes."""
        self._refused = None
        write(self.fileno(), answer)

    def reset(self, reason: Reset) -> None:
        refused, self._refused = self._refused, None
        if refused is None or self.fileno() < 0:
            super().reset(reason)
            return
        write(self.fileno(), refused(reason))
        self.release()  # an orderly close: a reset would overtake the answer


def write(fd: int, data: bytes) -> None:
    """Some bytes to a connection that has been sent next to nothing. One that is gone is no error here."""
    sock = _socket.socket(fileno=fd)
    try:
        sock.send(data)
    except OSError:
        pass
    finally:
        sock.detach()


def our_end(fd: int) -> bytes:
    """The packed address of our end of a connection."""
    sock = _socket.socket(fileno=fd)
    try:
        return addresses.from_tuple(sock.getsockname())
    finally:
        sock.detach()


class PacketRelay:
    """The packets of one UDP ASSOCIATE, as long as its connection stands. Each target is a flow."""

    def __init__(
        self, fd: int, wish: Wish, where: bytes, host: FlowHost, on_flow: Callable[[Flow, Open, int], None],
        over: Callable[[PacketRelay], None],
    ) -> None:  # fmt: skip
        """`fd`: the connection, owned from now on; `where`: its client. Raises OSError, the connection
        closed."""
        self._control = _socket.socket(fileno=fd)
        self._host, self._on_flow, self._over = host, on_flow, over
        self._where = addresses.unmapped(where)
        self._client = b""  # where its packets come from: the first one tells the port
        self._flows: dict[Place, UdpAssociation] = {}
        self._closed = False
        try:
            self._sock = self._open(our_end(fd))
        except OSError:
            write(fd, wish.refused(Reset(ResetCode.INTERNAL)))
            self._control.close()
            raise
        write(fd, wish.accepted(addresses.from_tuple(self._sock.getsockname())))
        self._watch = Task(self._control_turn, fd, READ)
        self._task = Task(self._turn, self._sock.fileno(), READ)

    def start(self) -> None:
        """Begin to take packets."""
        self._watch.wait_io()
        self._task.wait_io()

    def close(self) -> None:
        """End every flow, close both sockets. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._watch.close()
        self._task.close()
        for flow in list(self._flows.values()):
            splice = flow.splice
            if isinstance(splice, Splice):
                splice.expire()  # a clean end, as of a UDP flow that is silent
            else:
                flow.end()
        self._control.close()
        self._sock.close()
        self._over(self)

    # -- what an association asks of its port --

    def send(self, packets: list[bytes], place: Place) -> int:
        """To the client, under the address of the target. What the network refuses is lost, as UDP is."""
        if self._closed or not self._client:
            return len(packets)
        head = b"\x00\x00\x00" + place[0]
        return send_all(self._sock, [head + packet for packet in packets], (self._client, b""), _ignore)

    def forget(self, place: Place) -> None:
        """The flow of this target is over."""
        flow = self._flows.pop(place, None)
        if flow is not None:
            self._host.forget(flow)

    def open_bypass(self, place: Place, conv: Any, datagrams: bool) -> Any:
        """Every packet has a head of its own, so none goes past us."""
        return None

    # -- turns --

    def _open(self, ours: bytes) -> _socket.socket:
        bare = addresses.unmapped(ours)
        sock = _socket.socket(addresses.family(bare), _socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.bind(addresses.to_tuple(addresses.with_port(bare, 0)))
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, BUFFER_BYTES)
        except OSError:
            sock.close()
            raise
        return sock

    def _control_turn(self) -> None:
        """Whatever comes on the connection does not count; its end does."""
        try:
            while self._control.recv(4096):
                pass
        except BlockingIOError:
            self._watch.wait_io()
            return
        except OSError:
            pass
        self.close()
        self._host.request_advance()

    def _turn(self) -> None:
        try:
            for _ in range(PACKETS_PER_TURN // BATCH):
                found, count, _error = receive_from(self._sock)
                for (source, _), packets in found.items():
                    if self._is_client(source):
                        self._take(packets)
                if count < BATCH or self._closed:
                    break
        except Exception:
            self._host.crashed("a SOCKS5 association")
        self._host.request_advance()
        if not self._closed:
            self._task.wait_io()

    def _is_client(self, source: bytes) -> bool:
        """Only the machine of the connection, and only one port of it."""
        if not self._client and addresses.with_port(source, 0) == addresses.with_port(self._where, 0):
            self._client = source
        return source == self._client

    def _take(self, packets: list[bytes]) -> None:
        touched: dict[Place, list[bytes]] = {}
        targets: dict[Place, Target] = {}
        for packet in packets:
            parts = read_packet(packet)
            if parts is not None:
                place = (parts[0], b"")
                targets[place] = parts[1]
                touched.setdefault(place, []).append(packet[parts[2] :])
        for place, payloads in touched.items():
            flow = self._flows.get(place) or self._begin(place, targets[place])
            if flow is not None:
                flow.offer(payloads)
                if flow.splice is not None:
                    flow.splice.run(flow)

    def _begin(self, place: Place, target: Target) -> UdpAssociation | None:
        if len(self._flows) >= MAX_TARGETS:
            text = f"a SOCKS5 association has more than {MAX_TARGETS} targets: packets to others are dropped"
            self._host.notice("socks_targets_full", text)
            return None
        flow = self._flows[place] = UdpAssociation(self, place)
        self._on_flow(flow, Open(Kind.UDP, target, addresses.text(self._client)), now_ms())
        return None if flow.closed else flow


def _ignore(_number: int, _where: bytes) -> None:
    """A client that is gone closes its connection, too."""
