"""UDP associations of applications and targets as flows.

Listening side: one socket for all associations, told apart by the application's address.
Dialling side: one connected socket per association. When an idle association ends is the node's decision.
"""

from __future__ import annotations

import _socket
import errno
from collections import deque
from typing import TYPE_CHECKING, Any

from kcpg.core.flow import (
    PACKET_TURNS,
    READABLE,
    WRITABLE,
    Blocked,
    Flow,
    Kind,
    Moved,
    Open,
    Reset,
    ResetCode,
    Target,
)
from kcpg.net import addr as addresses
from kcpg.net import pktinfo
from kcpg.net.clock import now_ms
from kcpg.net.listening import ListeningPort
from kcpg.net.task import READ, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from kcpg.net.dial import Dial
    from kcpg.net.local_tcp import FlowHost

MAX_PACKET_BYTES = 65_535
# What an association may have waiting while its way out is being opened; more than a DNS query or a QUIC
# flight.
QUEUE_PACKETS = 128
# Packets taken from one socket before others have their turn.
PACKETS_PER_TURN = 256
# Room for bursts while Python is busy elsewhere; capped by net.core.rmem_max.
BUFFER_BYTES = 1 << 20

Place = tuple[tuple[Any, ...], bytes]
"""An application's address, and the one of ours that it asked (b"": there is only one)."""


class UdpAssociation(Flow):
    """What one application address sends to one listening address, and gets back from it."""

    __slots__ = ("_packets", "_place", "_port")

    def __init__(self, port: UdpPort, place: Place) -> None:
        super().__init__(Kind.UDP)
        self._port = port
        self._place = place
        self._packets: deque[bytes] = deque()

    def offer(self, packet: bytes) -> None:
        """A packet came from the application."""
        if len(self._packets) < QUEUE_PACKETS:
            self._packets.append(packet)
        elif self.splice is not None:
            self.splice.drop(self)

    def recv_packet(self) -> bytes | None:
        """See Flow.recv_packet."""
        return self._packets.popleft() if self._packets else None

    def send_packet(self, packet: bytes) -> bool:
        """See Flow.send_packet: to the application."""
        return self._port.send(packet, self._place)

    def wake(self, events: int) -> None:
        """See Flow.wake: pumps at once, nothing here blocks."""
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
        """See Flow.release."""
        self._close()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self._packets.clear()
            self._port.forget(self._place)


class UdpPort(ListeningPort):
    """A listening socket and its associations. `on_flow` is called for every new one, which must splice or
    reset it."""

    def __init__(self, sock: _socket.socket, target: Target | None, host: FlowHost, max_flows: int) -> None:
        super().__init__(sock, target, host)
        self.flows: dict[Place, UdpAssociation] = {}
        self.on_flow: Callable[[Flow, Open, int], None] | None = None
        self._max_flows = max_flows
        self._tells = pktinfo.enable(sock)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, BUFFER_BYTES)

    def forget(self, place: Place) -> None:
        """The association with `place` is over."""
        flow = self.flows.pop(place, None)
        if flow is not None:
            self._host.forget(flow)

    def send(self, packet: bytes, place: Place) -> bool:
        """One packet to an application; False: not now. What the network refuses is lost, as UDP is."""
        if self._closed:
            return False
        where, local = place
        try:
            if local:
                self.sock.sendmsg([packet], [pktinfo.item(local)], 0, where)
            else:
                self.sock.sendto(packet, where)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if local and error.errno in pktinfo.GONE_ERRNOS:
                return self.send(packet, (where, b""))
            self._refused(error, where)
        return True

    def _turn(self) -> int | None:
        fresh: dict[UdpAssociation, None] = {}
        for _ in range(PACKETS_PER_TURN):
            try:
                packet, place = self._receive()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._refused(error, None)
                continue
            flow = self.flows.get(place) or self._open(place)
            if flow is not None:
                flow.offer(packet)
                fresh[flow] = None
        for flow in fresh:
            if flow.splice is not None:
                flow.splice.run(flow)
        return None

    def _receive(self) -> tuple[bytes, Place]:
        if not self._tells:
            packet, where = self.sock.recvfrom(MAX_PACKET_BYTES)
            return packet, (where, b"")
        packet, control, _flags, where = self.sock.recvmsg(MAX_PACKET_BYTES, pktinfo.CONTROL_BYTES)
        return packet, (where, pktinfo.asked(control))

    def _open(self, place: Place) -> UdpAssociation | None:
        if len(self.flows) >= self._max_flows:
            text = f"more than {self._max_flows} UDP associations: packets of new ones are dropped"
            self._host.notice("udp_flows_full", text)
            return None
        assert self.on_flow is not None
        flow = self.flows[place] = UdpAssociation(self, place)
        self.on_flow(flow, Open(Kind.UDP, self.target, addresses.tuple_text(place[0])), now_ms())
        return None if flow.closed else flow

    def _refused(self, error: OSError, where: tuple[Any, ...] | None) -> None:
        to = f" to {addresses.tuple_text(where)}" if where else ""
        self._host.notice("udp_send_failed", f"a UDP packet{to} was refused: {error.strerror}")


class UdpTarget(Flow):
    """An association with a target: a connected socket. `adopt` gives it the socket; until then it is
    `opening`."""

    __slots__ = ("_host", "_sock", "_task", "dial")

    def __init__(self, host: FlowHost) -> None:
        super().__init__(Kind.UDP)
        self.opening = True
        self.dial: Dial | None = None  # the attempt that is under way
        self._host = host
        self._sock: _socket.socket | None = None
        self._task: Task | None = None

    def adopt(self, sock: _socket.socket) -> None:
        """Take over a connected, non-blocking socket and start to receive."""
        assert not self.closed
        self._sock = sock
        self._task = Task(self._turn, sock.fileno(), READ)
        self.opening = False
        self._task.wait_io()

    def recv_packet(self) -> bytes | None:
        """See Flow.recv_packet."""
        while self._sock is not None:
            try:
                return self._sock.recv(MAX_PACKET_BYTES)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                # ICMP's answer to a packet sent before, given once: nobody listens there now, perhaps later.
                if error.errno not in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH):
                    self._host.notice(
                        "udp_receive_failed", f"receiving a UDP packet failed: {error.strerror}"
                    )
                    return None
        return None

    def send_packet(self, packet: bytes) -> bool:
        """See Flow.send_packet: to the target."""
        if self._sock is None:
            return False
        try:
            self._sock.send(packet)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                self._host.notice("udp_send_failed", f"a UDP packet was refused: {error.strerror}")
        return True

    def move_to(self, sink: Flow) -> Moved:
        """One turn's packets, fewer than the base class takes, because each costs a system call."""
        total = 0
        for _ in range(min(PACKETS_PER_TURN, PACKET_TURNS)):
            packet = self.recv_packet()
            if packet is None:
                return Moved(total, Blocked.SOURCE_DRY)
            if sink.send_packet(packet):
                total += 1
            elif self.splice is not None:
                self.splice.drop(self)
        return Moved(total, Blocked.BUDGET)

    def wake(self, events: int) -> None:
        """See Flow.wake: packets for the target are sent at once; its own are taken in its turn."""
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
        """See Flow.release."""
        self._close()

    def _turn(self) -> None:
        task, splice = self._task, self.splice
        assert task is not None
        try:
            if splice is not None:
                splice.pump(self)
                self._host.touch()
            task.wait_io()
        except Exception:
            self._host.crashed("a UDP flow")
            self._close()
            if splice is not None:
                splice.on_reset(self, Reset(ResetCode.INTERNAL, "internal error"))

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._task is not None:
            self._task.close()
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._host.forget(self)
