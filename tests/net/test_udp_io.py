"""Batched UDP I/O of both engines: two wires joined by real loopback sockets."""

import errno
import importlib
import os
import socket

import pytest

from kcpg.core.kcp.kcp import KcpParams
from kcpg.net import addr, udp
from tests.engines import twin

PARAMS = KcpParams(snd_wnd=1024, rcv_wnd=1024)
ONE_CONV = 7


@pytest.fixture
def classes(engine):
    """Wire and UdpIo of the engine under test."""
    wire = twin(engine, "Wire")
    return wire, importlib.import_module("kcpg.net._udp" if engine == "compiled" else "kcpg.net.udp").UdpIo


class UdpEnd:
    """A wire with one link, one socket and its I/O."""

    def __init__(self, classes, host, cids, keys, masks, datagram_bytes=1400):
        wire_class, io_class = classes
        self.wire = wire_class(mask_rx=masks[0], mask_tx=masks[1], max_datagram=1500)
        self.link_wire = self.wire.link_wire(None)
        self.link_wire.datagram_bytes = datagram_bytes
        self.link_wire.install_rx(cids[0], "AES-GCM", keys[0], bytes(12))
        self.link_wire.install_tx(cids[1], "AES-GCM", keys[1], bytes(12))
        self.link_wire.accept = lambda conv: self.link_wire.open(conv, PARAMS)
        self.socket = udp.open_udp(host, 0)
        self.io = io_class(self.wire)
        self.io.add(1, self.socket)

    @property
    def addr(self):
        return addr.from_tuple(self.socket.sock.getsockname())

    def conv(self):
        return self.link_wire.convs[ONE_CONV]


class UdpPair:
    """Two ends that know each other, and a clock that the test moves."""

    def __init__(self, classes, host="127.0.0.1", **options):
        keys, masks = (os.urandom(32), os.urandom(32)), (os.urandom(32), os.urandom(32))
        self.a = UdpEnd(classes, host, (1, 2), keys, masks, **options)
        self.b = UdpEnd(classes, host, (2, 1), keys[::-1], masks[::-1], **options)
        self.a.link_wire.set_path(1, self.b.addr)
        self.b.link_wire.set_path(1, self.a.addr)
        self.now = 1000
        self.out = self.a.link_wire.open(ONE_CONV, PARAMS)

    def step(self):
        for end in (self.a, self.b):
            while end.io.receive(1, self.now):
                pass
            end.io.transmit(self.now)
        self.now += 1

    def carry(self, data, limit=5000):
        sent, got = 0, bytearray()
        while len(got) < len(data):
            sent += self.out.write(data[sent : sent + 65536])
            self.step()
            if ONE_CONV in self.b.link_wire.convs:
                got += self.b.conv().read(1 << 20)
            limit -= 1
            assert limit, f"{len(got)} of {len(data)} bytes; errors {self.a.io.errors} {self.b.io.errors}"
        return bytes(got)

    def close(self):
        self.a.socket.close()
        self.b.socket.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request, classes):
    made = UdpPair(classes, request.param)
    yield made
    made.close()


def test_a_stream_in_batches(pair):
    data = os.urandom(2_000_000)
    assert pair.carry(data) == data
    assert pair.a.io.datagrams_out >= 2_000_000 // 1400
    assert not pair.a.io.errors and not pair.b.io.errors
    assert not pair.a.wire.drops and not pair.b.wire.drops


def test_without_offload(pair):
    for end in (pair.a, pair.b):
        end.socket.gso = False
        end.io.add(1, end.socket)
        end.socket.sock.setsockopt(udp.SOL_UDP, udp.UDP_GRO, 0)
    data = os.urandom(300_000)
    assert pair.carry(data) == data
    assert not pair.a.io.errors


def test_offload_can_be_left_alone(monkeypatch):
    monkeypatch.setenv("KCPG_OFFLOAD", "off")
    sock = udp.open_udp("127.0.0.1")
    assert (sock.gso, sock.gro) == (False, False)
    assert sock.sock.getsockopt(udp.SOL_UDP, udp.UDP_GRO) == 0
    sock.close()


def test_a_kernel_that_cannot_segment_is_found_out(classes):
    """Runs longer than the route's MTU allows are refused with EMSGSIZE or EINVAL: then singly, nothing
    lost."""
    pair = UdpPair(classes)
    # With corking of checksums off, UDP_SEGMENT is refused with EIO (udp_send_skb in net/ipv4/udp.c).
    pair.a.socket.sock.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
    data = os.urandom(200_000)
    assert pair.carry(data) == data
    assert pair.a.io.errors == {"gso_off": 1}
    assert pair.a.socket.gso is False
    pair.close()


def test_what_the_network_refuses_is_counted_and_told(pair):
    """A destination without route, then one of the wrong family."""
    dead = (
        addr.pack("240.0.0.1", 9) if addr.family(pair.b.addr) == addr.AF_INET else addr.pack("ff0e::1%999", 9)
    )
    for number in range(3):
        pair.a.wire.post(1, dead, bytes(40 + number))
    assert pair.a.io.transmit(pair.now) == -1
    assert sum(pair.a.io.errors.values()) + pair.a.io.datagrams_out == 3
    if pair.a.io.errors:
        ((number, (error, where)),) = pair.a.io.take_faults().items()
        assert number == 1 and error > 0 and addr.text(where) == addr.text(dead)
        assert pair.a.io.take_faults() == {}
    data = os.urandom(10_000)
    assert pair.carry(data) == data


def test_datagrams_for_a_closed_socket_are_dropped(pair):
    pair.a.wire.post(9, pair.b.addr, bytes(40))
    pair.a.wire.post(1, pair.b.addr, bytes(40))
    pair.a.io.transmit(pair.now)
    assert pair.a.io.errors == {"socket_gone": 1}
    assert pair.a.io.datagrams_out == 1
    pair.a.io.remove(1)
    pair.a.io.remove(1)
    pair.a.wire.post(1, pair.b.addr, bytes(40))
    pair.a.io.transmit(pair.now)
    assert pair.a.io.errors == {"socket_gone": 2}


def test_a_full_socket_keeps_the_vector(engine, classes):
    """A unix datagram socket stands in for a slow network card: its queue really fills."""
    wire_class, io_class = classes
    wire = wire_class(mask_rx=bytes(32), mask_tx=bytes(32), max_datagram=1500)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    far.setblocking(False)
    io = io_class(wire)
    io.add(3, udp.UdpSocket(Connected(near), socket.AF_UNIX, near.fileno(), gso=False, gro=False))
    # The kernel takes no address on a connected unix socket; the plain engine always has one to unpack.
    where = b"" if engine == "compiled" else addr.pack("127.0.0.1", 9)
    sent = [b"%05d" % number * 20 for number in range(3000)]
    for datagram in sent:
        wire.post(3, where, datagram)
    got = []
    blocked = 0
    while len(got) < len(sent):
        blocked += io.transmit(1000) == 3
        try:
            while True:
                got.append(far.recv(2000))
        except BlockingIOError:
            pass
    assert got == sent
    assert blocked > 0
    assert not io.errors
    near.close()
    far.close()


class Connected:
    """A socket that needs no destination."""

    def __init__(self, sock):
        self.sock = sock

    def sendto(self, data, _where):
        return self.sock.send(data)


def test_garbage_and_empty_datagrams(pair):
    with socket.socket(
        socket.AF_INET6 if ":" in addr.text(pair.b.addr)[1:4] else socket.AF_INET, socket.SOCK_DGRAM
    ) as sock:
        where = addr.to_tuple(pair.b.addr)
        for size in (0, 1, 31, 32, 1400, 9000):
            sock.sendto(os.urandom(size), where)
    for _ in range(3):
        pair.b.io.receive(1, pair.now)
    data = os.urandom(50_000)
    assert pair.carry(data) == data


def test_a_port_in_use_is_said_clearly():
    one = udp.open_udp("127.0.0.1", 0)
    with pytest.raises(
        OSError, match=rf"cannot listen on UDP 127\.0\.0\.1:{one.port}: Address already in use"
    ) as info:
        udp.open_udp("127.0.0.1", one.port)
    assert info.value.errno == errno.EADDRINUSE
    one.close()


def test_an_address_that_is_not_here_yet_is_bound_all_the_same():
    one = udp.open_udp("192.0.2.1", 0)
    assert one.sock.getsockname()[0] == "192.0.2.1"
    one.close()


def test_dual_stack_unless_restricted():
    both, four, six = udp.open_udp(), udp.open_udp(ipv4_only=True), udp.open_udp(ipv6_only=True)
    assert (both.family, four.family, six.family) == (addr.AF_INET6, addr.AF_INET, addr.AF_INET6)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", both.port))
        data, _, _, where = both.sock.recvmsg(10)
        assert (data, where[0]) == (b"x", "::ffff:127.0.0.1")
        sock.sendto(b"x", ("127.0.0.1", six.port))
        with pytest.raises(BlockingIOError):
            six.sock.recv(10)
    for sock in (both, four, six):
        sock.close()


def test_without_ipv6_it_is_ipv4(monkeypatch):
    real = udp._socket.socket

    class NoIpv6:
        def __getattr__(self, name):
            return getattr(socket, name)

        def socket(self, family, kind):
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            return real(family, kind)

    monkeypatch.setattr(udp, "_socket", NoIpv6())
    sock = udp.open_udp()
    assert sock.family == addr.AF_INET
    sock.close()
    with pytest.raises(OSError, match="cannot open a UDP socket"):
        udp.open_udp(ipv6_only=True)
