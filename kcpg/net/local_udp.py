"""UDP associations of applications and targets as flows.

Listening side: one socket for all associations, told apart by the application's address.
Dialling side: one connected socket per association. When an idle association ends is the node's decision.
"""

from __future__ import annotations

import _socket
import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from kcpg import engine
from kcpg.core.flow import (
    READABLE,
    WRITABLE,
    Flow,
    Kind,
    Moved,
    Open,
    Reset,
    ResetCode,
    Target,
    copy_packets,
)
from kcpg.core.native.link.convflow import ConvFlow
from kcpg.core.native.link.open_message import Delivery
from kcpg.net import READ, pktinfo
from kcpg.net import addr as addresses
from kcpg.net.bypass import conv_of
from kcpg.net.clock import now_ms
from kcpg.net.listening import ListeningPort
from kcpg.net.packets import BATCH, NOWHERE, Batch, Place, is_full, receive, receive_from, send
from kcpg.net.task import Task

_fds = engine.module("kcpg.net.sock")
# ICMP's answers to a packet sent before: nobody listens there now, perhaps later.
_UNREACHABLE = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)

if engine.ENGINE == "compiled":
    from kcpg.net._bypass import PacketBypass, read_packets_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from kcpg.net.dial import Dial
    from kcpg.net.local_tcp import FlowHost

# What an association may have waiting while its way out is being opened; more than a DNS query or a QUIC
# flight.
QUEUE_PACKETS = 128
# Packets taken from one socket before others have their turn.
PACKETS_PER_TURN = 256
# What a target that has not answered is sent again where the next of its addresses is tried instead.
UNANSWERED_PACKETS = 16
# Room for bursts while Python is busy elsewhere; capped by net.core.rmem_max.
BUFFER_BYTES = 1 << 20


class _UdpFlow(Flow):
    """A UDP flow of this machine. When its partner is a conversation of the compiled engine, the few packets
    that come at a time go straight between that and the socket: see `kcpg.net.bypass`."""

    __slots__ = ("_bypass",)

    def __init__(self) -> None:
        super().__init__(Kind.UDP)
        self._bypass: Any = None

    def move_to(self, sink: Flow) -> Moved:
        moved = super().move_to(sink)
        self._meet(sink)
        return moved

    def pull(self, source: Flow) -> Moved:
        moved = super().pull(source)
        self._meet(source)
        return moved

    def bypassed(self) -> int:
        return 0 if self._bypass is None else int(self._bypass.read)

    def _meet(self, partner: Flow) -> None:
        if self._bypass is None and not self.closed and isinstance(partner, ConvFlow):
            conv = conv_of(partner)
            if conv is not None:
                self._bypass = self._open_bypass(conv, partner.delivery is Delivery.DATAGRAM)

    def _open_bypass(self, conv: Any, datagrams: bool) -> Any:
        """Let packets go straight to this conversation and from it, from now on. None: there is no socket."""
        raise NotImplementedError

    def _close_bypass(self) -> None:
        """The flow is over: nothing goes there any more."""
        if self._bypass is not None:
            self._bypass.close()


class AssociationHost(Protocol):
    """Where an association's packets come in and go out."""

    def send(self, packets: list[bytes], place: Place) -> int:
        """To the application; how many of them are dealt with."""

    def forget(self, place: Place) -> None:
        """The association is over."""

    def open_bypass(self, place: Place, conv: Any, datagrams: bool) -> Any:
        """Let packets go straight to this conversation and from it; None: here they cannot."""


class UdpAssociation(_UdpFlow):
    """What one application address sends to one listening address, and gets back from it."""

    __slots__ = ("_packets", "_place", "_port")

    def __init__(self, port: AssociationHost, place: Place) -> None:
        super().__init__()
        self._port = port
        self._place = place
        self._packets: deque[bytes] = deque()

    def offer(self, packets: list[bytes]) -> None:
        """Packets came from the application."""
        room = QUEUE_PACKETS - len(self._packets)
        self._packets.extend(packets[:room])
        if len(packets) > room and self.splice is not None:
            self.splice.drop(self, len(packets) - room)

    def recv_packets(self, limit: int) -> list[bytes]:
        queue = self._packets
        return [queue.popleft() for _ in range(min(limit, len(queue)))]

    def send_packets(self, packets: list[bytes]) -> int:
        """To the application."""
        return self._port.send(packets, self._place)

    def _open_bypass(self, conv: Any, datagrams: bool) -> Any:
        return self._port.open_bypass(self._place, conv, datagrams)

    def wake(self, events: int) -> None:
        """Pumps at once, nothing here blocks."""
        splice = self.splice
        if splice is None:
            return
        if events & READABLE:
            splice.run(splice.partner(self))
        if events & WRITABLE and not splice.over:
            splice.run(self)

    def end(self) -> None:
        """The association is over; the next packet from there begins a new one."""
        self._close()

    def reset(self, reason: Reset) -> None:
        """As `end`: UDP has no way to say it."""
        self._close()

    def release(self) -> None:
        self._close()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self._packets.clear()
            self._close_bypass()
            self._port.forget(self._place)


class UdpPort(ListeningPort):
    """A listening socket and its associations. `on_flow` is called for every new one, which must splice or
    reset it."""

    def __init__(self, sock: _socket.socket, target: Target | None, host: FlowHost, max_flows: int) -> None:
        super().__init__(sock, target, host)
        self.flows: dict[Place, UdpAssociation] = {}
        self._bypasses: dict[Place, Any] = {}  # of the flows that have one
        self._left: Batch = {}  # what came and has to go the long way
        self.on_flow: Callable[[Flow, Open, int], None] | None = None
        self._max_flows = max_flows
        self._tells = pktinfo.enable(sock)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, BUFFER_BYTES)

    def forget(self, place: Place) -> None:
        """The association with `place` is over."""
        flow = self.flows.pop(place, None)
        self._bypasses.pop(place, None)
        if flow is not None:
            self._host.forget(flow)

    def open_bypass(self, place: Place, conv: Any, datagrams: bool) -> Any:
        """Let packets from `place` go straight into this conversation, and what comes for it to there."""
        if self.closed:
            return None
        bypass = self._bypasses[place] = PacketBypass(conv, self.fd, b"".join(place), datagrams)
        bypass.open()
        return bypass

    def close(self) -> None:
        for bypass in self._bypasses.values():
            bypass.close()
        self._bypasses.clear()
        super().close()

    def send(self, packets: list[bytes], place: Place) -> int:
        """To an application; how many of them are dealt with. What the network refuses is lost, as UDP is."""
        return 0 if self.closed else send_all(self.sock, packets, place, self._refused)

    def _first(self) -> bool:
        if not self._bypasses:
            return False
        try:
            left = read_packets_from(self.fd, self._bypasses)
            if left is None:
                self._host.flush_if_idle()
                return True
            self._left = left
        except Exception:
            self._host.crashed("a UDP port")
        return False

    def _turn(self) -> int | None:
        left, self._left = self._left, {}
        self._take(left)
        for _ in range(PACKETS_PER_TURN // BATCH):
            found, count, error = receive_from(self.sock)
            if error:
                self._refused(error, b"")
                continue
            self._take(found)
            if count < BATCH or self.closed:
                break
        return None

    def _take(self, found: Batch) -> None:
        for place, packets in found.items():
            flow = self.flows.get(place) or self._open(place)
            if flow is not None:
                flow.offer(packets)
                if flow.splice is not None:
                    flow.splice.run(flow)

    def _open(self, place: Place) -> UdpAssociation | None:
        if len(self.flows) >= self._max_flows:
            text = f"more than {self._max_flows} UDP associations: packets of new ones are dropped"
            self._host.notice("udp_flows_full", text)
            return None
        assert self.on_flow is not None
        flow = self.flows[place] = UdpAssociation(self, place)
        self.on_flow(flow, Open(Kind.UDP, self.target, addresses.text(place[0])), now_ms())
        return None if flow.closed else flow

    def _refused(self, number: int, where: bytes) -> None:
        to = f" to {addresses.text(where)}" if where else ""
        key = f"udp_send_failed_{errno.errorcode.get(number, number)}"
        self._host.notice(key, f"a UDP packet{to} was refused: {os.strerror(number)}")


def send_all(
    sock: _socket.socket, packets: list[bytes], place: Place, refused: Callable[[int, bytes], None]
) -> int:
    """Send what the kernel takes now; how many are dealt with. `refused` hears of what it never takes."""
    at = 0
    while at < len(packets):
        sent, error, about = send(sock, packets, at, place)
        at += sent
        if is_full(error):
            break
        if error in pktinfo.GONE_ERRNOS and place[1]:
            place = (place[0], b"")  # this machine does not have the address any more: any other will do
        elif error:
            refused(error, place[0])
            at += about
    return at


class UdpTarget(_UdpFlow):
    """An association with a target: a connected socket. `adopt` gives it the socket; until then it is
    `opening`.

    UDP's connect(2) always succeeds, so that nobody listens at an address is known by ICMP's answer to the
    first packet. While nothing came from a target, `others`, its further addresses, are tried in turn.
    """

    __slots__ = ("_host", "_left", "_sock", "_task", "_unanswered", "dial", "others")

    def __init__(self, host: FlowHost) -> None:
        super().__init__()
        self.opening = True
        self.dial: Dial | None = None  # the attempt that is under way
        self.others: list[bytes] = []
        self._host = host
        self._sock: _socket.socket | None = None
        self._task: Task | None = None
        self._left: list[bytes] = []  # what came and has to go the long way
        self._unanswered: deque[bytes] = deque(maxlen=UNANSWERED_PACKETS)

    def adopt(self, fd: int) -> None:
        """Take over a connected, non-blocking socket and start to receive."""
        assert not self.closed
        self.opening = False
        self._use(fd)

    def fileno(self) -> int:
        """The descriptor; -1 while there is none."""
        return -1 if self._sock is None else self._sock.fileno()

    def _use(self, fd: int) -> None:
        self._sock = _socket.socket(fileno=fd)
        self._task = Task(self._turn, fd, READ, self._first)
        self._task.wait_io()

    def recv_packets(self, limit: int) -> list[bytes]:
        left, self._left = self._left, []
        self._take_error()
        while self._sock is not None:
            packets, error = receive(self._sock, limit - len(left))
            if packets and self.others:  # this address is the one
                self.others = []
                self._unanswered.clear()
            if not error:
                return left + packets
            self._failed(error)
            if error not in _UNREACHABLE:
                return left
        return left

    def send_packets(self, packets: list[bytes]) -> int:
        """To the target; a packet that the kernel refuses is lost, as UDP is."""
        if self._sock is None:
            return 0
        self._take_error()
        if self.others:
            self._unanswered.extend(packets)
        at = 0
        while at < len(packets) and self._sock is not None:
            sent, error, about = send(self._sock, packets, at, NOWHERE)
            at += sent
            if is_full(error):
                break
            if error == errno.ECONNREFUSED and self.others:
                self._try_next()  # which sends these, too
                return len(packets)
            if error:
                self._failed(error)
                at += about
        return at

    def _failed(self, number: int) -> None:
        """The kernel refused to send, or ICMP answered a packet sent before, which is told once."""
        if number == errno.ECONNREFUSED and self.others:
            self._try_next()
            return
        assert self._sock is not None
        peer = addresses.text(addresses.from_tuple(self._sock.getpeername()))
        if number == errno.ECONNREFUSED:
            self._host.notice("udp_refused", f"nobody listens at UDP target {peer}: {os.strerror(number)}")
        else:
            self._host.notice("udp_target_failed", f"UDP target {peer}: {os.strerror(number)}")

    def _take_error(self) -> None:
        """What the bypass heard of a packet sent before."""
        if self._bypass is not None and self._bypass.error and self._sock is not None:
            error, self._bypass.error = self._bypass.error, 0
            self._failed(error)

    def _try_next(self) -> None:
        """Go on at the next of the target's addresses with what has no answer."""
        while self.others:
            fd, _ = _fds.connect(self.others.pop(0), False)
            if fd >= 0:
                self._leave()
                self._use(fd)
                unanswered = list(self._unanswered)
                self._unanswered.clear()
                self.send_packets(unanswered)
                return

    def _leave(self) -> None:
        """Let go of the socket."""
        if self._task is not None:
            self._task.close()
            self._task = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def move_to(self, sink: Flow) -> Moved:
        """One turn's packets, fewer than the base class takes, because they cost system calls."""
        moved = copy_packets(self, sink, PACKETS_PER_TURN)
        self._meet(sink)
        return moved

    def wake(self, events: int) -> None:
        """Packets for the target are sent at once; its own are taken in its turn."""
        splice = self.splice
        if splice is not None and events & READABLE:
            splice.run(splice.partner(self))
        if self._task is not None and events & WRITABLE:
            self._task.wake()

    def end(self) -> None:
        """The association is over."""
        self._close()

    def reset(self, reason: Reset) -> None:
        """As `end`."""
        self._close()

    def release(self) -> None:
        self._close()

    def _open_bypass(self, conv: Any, datagrams: bool) -> Any:
        if self._sock is None or self.others:  # which needs to see what is sent and what comes
            return None
        bypass = PacketBypass(conv, self._sock.fileno(), b"", datagrams)
        bypass.open()
        return bypass

    def _first(self) -> bool:
        if self._bypass is None or self._sock is None or self.splice is None:
            return False
        try:
            left = self._bypass.read_packets()
            if left is None:
                self._host.flush_if_idle()
                return True
            self._left = left
        except Exception:
            self._crashed()
        return self.closed

    def _turn(self) -> None:
        task, splice = self._task, self.splice
        assert task is not None
        try:
            if splice is not None:
                splice.pump(self)
                self._host.request_flush()
            task.wait_io()
        except Exception:
            self._crashed()

    def _crashed(self) -> None:
        splice = self.splice
        self._host.crashed("a UDP flow")
        self._close()
        if splice is not None:
            splice.on_reset(self, Reset(ResetCode.INTERNAL, "internal error"))

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._close_bypass()
        self._left = []
        self._leave()
        self.others = []
        self._unanswered.clear()
        self._host.forget(self)
