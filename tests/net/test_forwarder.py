"""A port forwarder, Node(LocalListener, LocalDialer), over real loopback sockets: everything outside the
protocol."""

import gc
import os
import socket
from contextlib import ExitStack

import gevent
import gevent.event
import gevent.server
import gevent.socket
import pytest

from kcpg.app.config.addresses import allow_list
from kcpg.core.flow import TCP, Open, Reset, ResetCode, Target
from kcpg.core.node import Node, NodeSettings
from kcpg.net import addr, loops
from kcpg.net.allow import AllowList
from kcpg.net.driver import Driver
from kcpg.net.local import Bind, LocalDialer, LocalDialSettings, LocalListener, LocalListenSettings
from kcpg.net.resolve import Resolver
from tests.net.sockets import (
    Server,
    UdpEcho,
    abort,
    assert_reset,
    echo,
    fds,
    fill,
    greenlets,
    quiet,
    read_all,
    turns,
    udp_client,
    until,
)

LOOPBACKS = ["127.0.0.1", "::1"]


class Forwarder:
    """The node under test, listening on a free port of `host`."""

    def __init__(self, target, host="127.0.0.1", tcp=True, udp=True, udp_timeout_ms=60_000, **limits):
        self.notices = []
        binds = (Bind(host, 0, tcp, udp),)
        self.listener = LocalListener(LocalListenSettings(binds, **limits), self.notices.append)
        self.dialer = LocalDialer(LocalDialSettings(target), Resolver(), self.notices.append)
        self.node = Node(self.listener, self.dialer, NodeSettings(udp_timeout_ms=udp_timeout_ms))
        self.driver = Driver(self.node, report=self.notices.append)

    def __enter__(self):
        self.driver.start()
        self.tcp = self.listener.tcp_ports[0].sock.getsockname() if self.listener.tcp_ports else None
        self.udp = self.listener.udp_ports[0].sock.getsockname() if self.listener.udp_ports else None
        return self

    def __exit__(self, *_):
        self.driver.stop()
        assert not [n for n in self.notices if n.key == "internal_error"], self.notices

    def dial(self):
        family = socket.AF_INET6 if ":" in self.tcp[0] else socket.AF_INET
        sock = gevent.socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(5)
        sock.connect(self.tcp)
        return sock


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# -- loops ----------------------------------------------------------------------------------------


def lead_back(forwarder, where):
    """Make the forwarder's own port its target."""
    forwarder.dialer.settings = LocalDialSettings(Target(where[0], where[1]))


def test_a_connection_that_comes_back_for_ever_is_ended():
    with Forwarder(None) as forwarder:
        lead_back(forwarder, forwarder.tcp)
        assert_reset(forwarder)
        until(lambda: forwarder.node.flows == 0, "the flows are over")
        assert forwarder.node.counters.opened <= loops.DEPTH + 1
        said = [notice.text for notice in forwarder.notices if notice.key == "loop"]
        assert len(said) == 1 and "leads back to the node" in said[0] and "listen_port" in said[0]


def test_packets_that_come_back_for_ever_are_ended():
    with Forwarder(None) as forwarder, udp_client() as sock:
        lead_back(forwarder, forwarder.udp)
        sock.sendto(b"hello", forwarder.udp)
        until(lambda: forwarder.dialer.counters["loop"], "the loop is noticed")
        assert forwarder.node.counters.opened <= loops.DEPTH + 1


def test_many_flows_of_many_sources_are_no_loop():
    with Server(echo) as server, Forwarder(server.target) as forwarder, ExitStack() as stack:
        for _ in range(2 * loops.DEPTH + 1):
            sock = stack.enter_context(forwarder.dial())
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"
        assert not forwarder.dialer.counters["loop"]


# -- targets that somebody chose -------------------------------------------------------------------


class Names(Resolver):
    """Every name leads to one address, whatever its owner says today."""

    def __init__(self, ip):
        super().__init__()
        self._ip = ip

    def resolve(self, host, port, answer, family=0, max_age_ms=None, asker=None):
        answer([addr.pack(self._ip, port)])


def chosen(host, allow=None, target=None, ip="127.0.0.1"):
    """The outcome of a flow whose client chose its target."""
    settings = LocalDialSettings(target, any_target=target is None, allow=allow, timeout_ms=1)
    leg = LocalDialer(settings, Names(ip))
    flow = leg.dial(Open(TCP, Target(host, 9), "here"), 0)
    if isinstance(flow, Reset):
        return flow.code
    flow.reset(Reset(ResetCode.SHUTDOWN))
    return None


@pytest.mark.parametrize("ip", ["169.254.169.254", "fe80::1%lo", "100.100.100.200"])
def test_no_name_leads_a_client_to_the_machines_credentials(ip):
    permission = AllowList(allow_list("*.example", []))
    for allow in (None, permission):
        assert chosen("rebound.example", allow, ip=ip) is ResetCode.FORBIDDEN
        assert chosen(ip, allow, ip=ip) is ResetCode.FORBIDDEN


def test_a_denied_network_is_denied_to_every_name():
    allow = AllowList(allow_list("*.example,!127.0.0.0/8", []))
    assert chosen("rebound.example", allow) is ResetCode.FORBIDDEN
    assert chosen("rebound.example", AllowList(allow_list("*.example", []))) is not ResetCode.FORBIDDEN


def test_the_configured_target_needs_no_permission():
    """Who writes a link-local target into the configuration means it."""
    target = Target("fe80::1%lo", 9)
    assert chosen(target.host, target=target, ip="fe80::1%lo") is not ResetCode.FORBIDDEN


# -- TCP -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", LOOPBACKS)
def test_full_duplex_and_half_close(host):
    data = os.urandom(3_000_000)
    with Server(echo, host) as server, Forwarder(server.target, host) as forwarder:
        with forwarder.dial() as sock:
            sender = gevent.spawn(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            assert read_all(sock) == data
            sender.get()
        until(lambda: forwarder.node.flows == 0, "the flow is over")
        assert forwarder.node.counters.finished == 1


def test_the_targets_half_close_leaves_the_other_direction_open():
    got = gevent.event.AsyncResult()

    def handle(sock):
        sock.sendall(b"all I have to say")
        sock.shutdown(socket.SHUT_WR)
        got.set(read_all(sock))

    with Server(handle) as server, Forwarder(server.target) as forwarder, forwarder.dial() as sock:
        assert read_all(sock) == b"all I have to say"
        sock.sendall(b"still ")
        gevent.sleep(0)
        sock.sendall(b"heard")
        sock.shutdown(socket.SHUT_WR)
        assert got.get(timeout=5) == b"still heard"


def test_server_speaks_first():
    greet = Server(lambda sock: sock.sendall(b"220 ready\r\n"))
    with greet as server, Forwarder(server.target) as forwarder, forwarder.dial() as sock:
        assert read_all(sock) == b"220 ready\r\n"


def test_a_reset_by_the_application_reaches_the_target():
    seen = gevent.event.AsyncResult()

    def handle(sock):
        sock.sendall(b"hello")
        try:
            seen.set(sock.recv(10))
        except ConnectionResetError:
            seen.set("reset")

    with Server(handle) as server, Forwarder(server.target) as forwarder:
        sock = forwarder.dial()
        assert sock.recv(10) == b"hello"
        abort(sock)
        assert seen.get(timeout=5) == "reset"
        until(lambda: forwarder.node.flows == 0, "the flow is over")
        assert forwarder.node.counters.reset == 1


def test_a_reset_by_the_target_reaches_the_application():
    def handle(sock):
        sock.recv(10)
        abort(sock)

    with Server(handle) as server, Forwarder(server.target) as forwarder, forwarder.dial() as sock:
        sock.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            read_all(sock)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_dial_failure_is_a_reset_for_the_application(host):
    with Forwarder(Target(host, free_port())) as forwarder:
        assert_reset(forwarder)
        until(lambda: forwarder.node.flows == 0, "the flow is over")


def test_a_name_without_address_is_a_reset_too():
    with Forwarder(Target("no-such-host.invalid", 1)) as forwarder:
        assert_reset(forwarder)


def test_no_answer_to_the_dial_ends_in_time():
    # A listener whose backlog is full: Linux then drops SYNs, so the dial gets no answer.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        forwarder = Forwarder(Target(*full.getsockname()))
        forwarder.dialer.settings = LocalDialSettings(Target(*full.getsockname()), timeout_ms=50)
        with forwarder:
            assert_reset(forwarder)
            assert not forwarder.dialer.flows
        for filler in fillers:
            filler.close()


def test_an_application_that_gives_up_ends_the_dial():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        before = fds()
        with Forwarder(Target(*full.getsockname()), udp=False) as forwarder:
            sock = forwarder.dial()
            until(lambda: forwarder.node.flows == 1, "the flow is being dialled")
            forwarder.node.close(0)
            sock.close()
            until(lambda: fds() == before + 1, "the dialling socket is closed")  # the driver's timer is there
        for filler in fillers:
            filler.close()


def test_a_slow_reader_stops_the_sender_and_nothing_is_lost():
    go = gevent.event.Event()
    got = gevent.event.AsyncResult()

    def handle(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        go.wait()
        got.set(read_all(sock))

    chunk = bytes(range(256)) * 256
    with Server(handle) as server, Forwarder(server.target) as forwarder, forwarder.dial() as sock:
        sock.setblocking(False)
        sent = fill(sock, chunk)
        assert sent < 64 << 20
        flows = [*forwarder.listener.flows, *forwarder.dialer.flows]
        assert sum(len(flow._pending) for flow in flows) <= 65536
        assert quiet(), "waiting for a reader must not cost turns"
        go.set()
        sock.setblocking(True)
        sock.shutdown(socket.SHUT_WR)
        data = got.get(timeout=10)
        assert len(data) == sent
        assert data == (chunk * (sent // len(chunk) + 1))[:sent]


def test_bytes_written_before_close_arrive_though_the_reader_is_late():
    sent = gevent.event.AsyncResult()

    def handle(sock):
        sock.setblocking(False)
        count = fill(sock, bytes(65536))
        sock.close()
        sent.set(count)

    with Server(handle) as server, Forwarder(server.target) as forwarder, forwarder.dial() as sock:
        count = sent.get(timeout=10)
        assert count > 100_000
        assert len(read_all(sock)) == count


def test_many_connections_leave_nothing_behind():
    with Server(echo) as server, Forwarder(server.target) as forwarder:

        def one(number):
            with forwarder.dial() as sock:
                sock.sendall(b"%06d" % number * 100)
                assert len(sock.recv(600)) > 0
                everyone.wait()
                if number % 3 == 0:
                    abort(sock)
                    return
                sock.shutdown(socket.SHUT_WR)
                read_all(sock)

        gc.collect()
        turns(3)
        before = fds(), greenlets()
        everyone = gevent.event.Event()
        jobs = [gevent.spawn(one, number) for number in range(500)]
        until(lambda: forwarder.node.flows == 500, "500 flows at once", 15)
        everyone.set()
        gevent.joinall(jobs, timeout=15, raise_error=True)
        until(lambda: forwarder.node.flows == 0, "all flows are over")
        until(
            lambda: not forwarder.listener.flows and not forwarder.dialer.flows,
            "the legs have forgotten them",
        )
        del jobs
        until(lambda: fds() <= before[0], "all descriptors are closed")
        until(lambda: greenlets() <= before[1], "all greenlets have ended")


def test_out_of_descriptors_is_survived(monkeypatch):
    import resource

    from kcpg.net import local

    monkeypatch.setattr(local, "PAUSE_MS", 30)
    with Server(echo) as server, Forwarder(server.target) as forwarder:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = gevent.socket.socket()
        client.settimeout(5)
        held = []
        used = fds()
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, hard))
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        try:
            client.connect(forwarder.tcp)
            until(lambda: any(n.key == "out_of_descriptors" for n in forwarder.notices), "it is said")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)
        client.sendall(b"after all")
        assert client.recv(20) == b"after all"
        client.close()


def test_more_flows_than_allowed_are_refused():
    with Server(echo) as server, Forwarder(server.target, max_flows=1) as forwarder:
        with forwarder.dial() as first:
            until(lambda: forwarder.node.flows == 1, "the flow")
            assert_reset(forwarder)
            first.sendall(b"x")
            assert first.recv(1) == b"x"
        assert any(n.key == "flows_full" for n in forwarder.notices)


def test_a_port_in_use_is_said_clearly():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listener = LocalListener(LocalListenSettings((Bind("127.0.0.1", port),)))
        driver = Driver(Node(listener, LocalDialer(LocalDialSettings(), Resolver())))
        with pytest.raises(
            OSError, match=rf"cannot listen on TCP 127\.0\.0\.1:{port}: Address already in use"
        ):
            driver.start()
        assert not listener.tcp_ports and not listener.udp_ports


def test_all_addresses_means_both_families():
    with Server(echo) as server, Forwarder(server.target, host="") as forwarder:
        for host in LOOPBACKS:
            with gevent.socket.create_connection((host, forwarder.tcp[1]), timeout=5) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"


# -- UDP -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", LOOPBACKS)
def test_packets_keep_their_boundaries(host):
    with UdpEcho(host) as server, Forwarder(server.target, host) as forwarder, udp_client(host) as client:
        for size in (1, 0, 1400, 9000, 65000):
            packet = os.urandom(size)
            client.sendto(packet, forwarder.udp)
            assert client.recv(65535) == packet
        assert forwarder.node.flows == 1


def test_each_source_is_its_own_association():
    with UdpEcho() as server, Forwarder(server.target) as forwarder:
        clients = [udp_client() for _ in range(20)]
        for number, client in enumerate(clients):
            client.sendto(b"%d" % number, forwarder.udp)
        for number, client in enumerate(clients):
            assert client.recv(100) == b"%d" % number
            client.close()
        assert forwarder.node.flows == len(server.sources) == 20


def test_packets_wait_while_the_name_is_looked_up():
    with UdpEcho() as server:
        target = Target("localhost", server.target.port)
        forwarder = Forwarder(target)
        forwarder.dialer._family = socket.AF_INET  # localhost is ::1 first
        with forwarder, udp_client() as client:
            for number in range(5):
                client.sendto(b"%d" % number, forwarder.udp)
            assert sorted(client.recv(10) for _ in range(5)) == [b"0", b"1", b"2", b"3", b"4"]


def test_idle_associations_end_and_come_back():
    with (
        UdpEcho() as server,
        Forwarder(server.target, udp_timeout_ms=40) as forwarder,
        udp_client() as client,
    ):
        before = fds()
        for _ in range(2):
            client.sendto(b"x", forwarder.udp)
            assert client.recv(10) == b"x"
            until(lambda: forwarder.node.flows == 0, "the association timed out")
            assert fds() == before
            assert not forwarder.listener.udp_ports[0].flows
        assert len(server.sources) == 2


def test_nobody_listens_and_then_somebody_does():
    port = free_port(socket.SOCK_DGRAM)
    with Forwarder(Target("127.0.0.1", port)) as forwarder, udp_client() as client:
        client.sendto(b"lost", forwarder.udp)
        until(lambda: forwarder.node.flows == 1, "the association")
        with gevent.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
            late.bind(("127.0.0.1", port))
            late.settimeout(0.05)
            while True:
                client.sendto(b"found", forwarder.udp)
                try:
                    assert late.recv(10) == b"found"
                    break
                except TimeoutError:
                    continue


def test_associations_are_limited():
    with UdpEcho() as server, Forwarder(server.target, max_flows=1) as forwarder, udp_client() as one:
        one.sendto(b"x", forwarder.udp)
        assert one.recv(1) == b"x"
        with udp_client() as two:
            two.sendto(b"x", forwarder.udp)
            until(lambda: any(n.key == "udp_flows_full" for n in forwarder.notices), "it is said")
        assert forwarder.node.flows == 1


def test_stop_closes_everything():
    gc.collect()
    before = fds()
    with Server(echo) as server:
        with Forwarder(server.target) as forwarder:
            sock = forwarder.dial()
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            with udp_client() as client:
                client.sendto(b"x", forwarder.udp)
                until(lambda: forwarder.node.flows == 2, "both flows")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        sock.close()
    until(lambda: fds() <= before, "all descriptors are closed")
