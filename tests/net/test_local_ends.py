"""Ways to reach a node beside plain ports: a proxy's clients, balancers, UNIX sockets. Real sockets, and a
forwarder between."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import gevent
import gevent.server
import gevent.socket
import pytest

from kcpg.core.flow import Target
from kcpg.core.node import Node, NodeSettings
from kcpg.net import addr, preamble, proxyport
from kcpg.net.allow import AllowList
from kcpg.net.driver import Driver
from kcpg.net.local import Bind, LocalDialer, LocalDialSettings, LocalListener, LocalListenSettings
from kcpg.net.resolve import Resolver
from tests.net.sockets import Server, UdpEcho, assert_reset, echo, fds, read_all, udp_client, until


class Forwarder:
    """A node between these binds and what `settings` say of targets."""

    def __init__(self, bind, settings, **listen):
        self.notices = []
        self.listener = LocalListener(LocalListenSettings((bind,), **listen), self.notices.append)
        self.dialer = LocalDialer(settings, Resolver(), self.notices.append)
        self.node = Node(self.listener, self.dialer, NodeSettings())
        self.driver = Driver(self.node, report=self.notices.append)

    def __enter__(self):
        self.driver.start()
        self.where = self.listener.tcp_ports[0].sock.getsockname()
        return self

    def __exit__(self, *_):
        self.driver.stop()
        assert not [n for n in self.notices if n.key == "internal_error"], self.notices

    def dial(self):
        sock = gevent.socket.socket(socket.AF_UNIX if isinstance(self.where, str) else socket.AF_INET)
        sock.settimeout(5)
        sock.connect(self.where)
        return sock


def proxy(allow=None, **listen):
    settings = LocalDialSettings(any_target=True, allow=AllowList(allow))
    return Forwarder(Bind("127.0.0.1", 0, udp=False, proxy=True), settings, **listen)


def said(node, key):
    return [notice.text for notice in node.notices if notice.key == key]


def take(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"ended after {data!r}"
        data += piece
    return data


def socks_request(command, host, port):
    return b"\x05\x01\x00\x05" + bytes((command, 0, 1)) + socket.inet_aton(host) + struct.pack(">H", port)


# -- SOCKS5 and HTTP --


@pytest.mark.parametrize("in_pieces", [False, True])
def test_socks_connect_with_what_follows_at_once(in_pieces):
    with Server(echo) as target, proxy() as node, node.dial() as app:
        request = socks_request(1, *place(target)) + b"hello"
        for piece in [request[i : i + 1] for i in range(len(request))] if in_pieces else [request]:
            app.sendall(piece)
            gevent.sleep(0)
        assert take(app, 12) == b"\x05\x00" + b"\x05\x00\x00\x01" + socket.inet_aton(
            "127.0.0.1"
        ) + struct.pack(">H", node.where[1])
        app.shutdown(socket.SHUT_WR)
        assert read_all(app) == b"hello"
        until(lambda: node.node.flows == 0, "the flow is over")


def test_socks_by_name():
    with Server(echo) as target, proxy() as node, node.dial() as app:
        name = b"localhost"
        app.sendall(b"\x05\x01\x00\x05\x01\x00\x03" + bytes((len(name),)) + name)
        app.sendall(struct.pack(">H", place(target)[1]) + b"hello")
        assert take(app, 12)[2:4] == b"\x05\x00"
        assert take(app, 5) == b"hello"


def test_http_connect():
    with Server(echo) as target, proxy() as node, node.dial() as app:
        app.sendall(
            b"CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r" % (place(target)[0].encode(), place(target)[1])
        )
        gevent.sleep(0)
        app.sendall(b"\nhello")
        answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        assert take(app, len(answer) + 5) == answer + b"hello"


def test_a_target_that_is_not_allowed_is_refused_by_an_answer():
    with Server(echo) as target, proxy(allow=[]) as node, node.dial() as app:
        app.sendall(socks_request(1, *place(target)))
        assert read_all(app)[2:4] == b"\x05\x02", "not allowed by ruleset"
        until(lambda: not node.listener.flows, "nothing is left")
    with proxy(allow=[]) as node, node.dial() as app:
        app.sendall(b"CONNECT 127.0.0.1:9 HTTP/1.1\r\n\r\n")
        assert read_all(app).startswith(b"HTTP/1.1 403 ")


def test_what_is_no_request_is_answered_and_closed():
    with proxy() as node:
        with node.dial() as app:
            app.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_all(app).startswith(b"HTTP/1.1 405 ")
        with node.dial() as app:
            app.sendall(b"\x16\x03\x01\x02\x00")
            assert app.recv(10) == b""
        until(lambda: len(said(node, "preamble")) == 2, "both are told")


def test_silence_is_ended(monkeypatch):
    monkeypatch.setattr(preamble, "PREAMBLE_MS", 30)
    with proxy() as node, node.dial() as app:
        app.sendall(b"\x05")
        assert app.recv(10) == b""
        until(lambda: "too long" in "".join(said(node, "preamble")), "it is told why")


def test_a_request_counts_as_a_flow():
    with proxy(max_flows=2) as node, node.dial() as one, node.dial() as two:
        one.sendall(b"\x05")
        two.sendall(b"\x05")
        assert_reset(node)
        assert said(node, "flows_full")


def test_nothing_is_left_of_connections_that_end_during_their_request():
    with proxy() as node:
        before = fds()
        for _ in range(50):
            with node.dial() as app:
                app.sendall(b"\x05\x01")
        until(lambda: fds() == before, "the descriptors are given back")
        with node.dial() as app:
            app.sendall(b"\x05\x01\x00")
            assert take(app, 2) == b"\x05\x00"
            node.driver.stop()
            assert app.recv(1) == b"", "the node's end is the connection's end"


def associate(node):
    control = node.dial()
    control.sendall(socks_request(3, "0.0.0.0", 0))
    answer = take(control, 12)
    assert answer[2:6] == b"\x05\x00\x00\x01"
    return control, (socket.inet_ntoa(answer[6:10]), struct.unpack(">H", answer[10:])[0])


def place(server):
    return server.target.host, server.target.port


def head(where):
    return b"\x00\x00\x00\x01" + socket.inet_aton(where[0]) + struct.pack(">H", where[1])


def test_socks_packets_to_several_targets():
    with UdpEcho() as one, UdpEcho() as two, proxy() as node:
        control, relay = associate(node)
        with control, udp_client() as app:
            for where in (place(one), place(two)):
                for size in (0, 1, 1400, 9000):
                    data = os.urandom(size)
                    app.sendto(head(where) + data, relay)
                    assert app.recv(65535) == head(where) + data
            assert node.node.flows == 2
            app.sendto(b"nonsense", relay)
            app.sendto(b"\x00\x00\x01" + head(place(one))[3:] + b"fragment", relay)
            app.sendto(head(place(one)) + b"after", relay)
            assert app.recv(100) == head(place(one)) + b"after"
            with udp_client() as stranger:
                stranger.sendto(head(place(one)) + b"mine", relay)
                app.sendto(head(place(one)) + b"again", relay)
                assert app.recv(100) == head(place(one)) + b"again"
            before = fds()
            control.close()
            until(lambda: node.node.flows == 0, "the end of the connection ends the flows")
            assert fds() < before
            assert node.node.counters.finished == 2 and node.node.counters.reset == 0, "a clean end"


def test_an_association_has_a_limit_of_targets(monkeypatch):
    monkeypatch.setattr(proxyport, "MAX_TARGETS", 1)
    with UdpEcho() as one, UdpEcho() as two, proxy() as node:
        control, relay = associate(node)
        with control, udp_client() as app:
            for where in (place(one), place(two), place(one)):
                app.sendto(head(where) + b"x", relay)
            assert app.recv(100) == app.recv(100) == head(place(one)) + b"x"
            assert said(node, "socks_targets_full")


# -- the PROXY protocol --


def test_a_target_hears_where_a_flow_comes_from():
    with Server(echo) as target:
        settings = LocalDialSettings(Target(*place(target)), proxy_protocol=True)
        with Forwarder(Bind("127.0.0.1", 0), settings) as node, node.dial() as app:
            own = app.getsockname()
            app.sendall(b"hello")
            header = take(app, 28)
            assert header[12:16] == b"\x21\x11\x00\x0c"
            assert header[16:24] == socket.inet_aton(own[0]) + socket.inet_aton(place(target)[0])
            assert header[24:] == struct.pack(">HH", own[1], place(target)[1])
            assert take(app, 5) == b"hello"


def test_a_name_as_target_hears_it_too():
    with Server(echo) as target:
        settings = LocalDialSettings(Target("localhost", place(target)[1]), proxy_protocol=True)
        with Forwarder(Bind("127.0.0.1", 0), settings) as node, node.dial() as app:
            assert take(app, 16)[12:14] == b"\x21\x11"


def test_a_balancer_says_where_a_connection_comes_from():
    with Server(echo) as target:
        settings = LocalDialSettings(Target(*place(target)), proxy_protocol=True)
        with Forwarder(Bind("127.0.0.1", 0), settings, proxy_protocol=True) as node:
            with node.dial() as app:
                app.sendall(b"PROXY TCP4 192.0.2.77 198.51.100.1 4711 80\r\nhello")
                header = take(app, 28)
                assert header[16:20] == socket.inet_aton("192.0.2.77") and header[24:26] == b"\x12\x67"
                assert take(app, 5) == b"hello"
            with node.dial() as app:
                app.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert app.recv(1) == b"", "without a header nobody comes in"
            until(lambda: said(node, "preamble"), "it is told")


def test_a_balancer_in_front_of_a_proxy():
    with Server(echo) as target:
        settings = LocalDialSettings(any_target=True, proxy_protocol=True)
        bind = Bind("127.0.0.1", 0, udp=False, proxy=True)
        with Forwarder(bind, settings, proxy_protocol=True) as node, node.dial() as app:
            app.sendall(b"PROXY TCP4 192.0.2.77 198.51.100.1 4711 80\r\n" + socks_request(1, *place(target)))
            assert take(app, 12)[2:4] == b"\x05\x00"
            assert take(app, 28)[16:20] == socket.inet_aton("192.0.2.77")


# -- UNIX sockets --


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "app.sock")


def test_from_a_unix_socket_to_another(tmp_path, path):
    there = str(tmp_path / "target.sock")
    listener = gevent.socket.socket(socket.AF_UNIX)
    listener.bind(there)
    listener.listen()
    server = gevent.server.StreamServer(listener, lambda sock, _where: echo(sock))
    server.start()
    settings = LocalDialSettings(path=there, proxy_protocol=True)
    with Forwarder(Bind("", 0, udp=False, path=path), settings) as node, node.dial() as app:
        data = os.urandom(1_000_000)
        sending = gevent.spawn(lambda: (app.sendall(data), app.shutdown(socket.SHUT_WR)))
        got = read_all(app)
        sending.get()
        assert got[12:16] == b"\x20\x00\x00\x00", "a UNIX socket has no address to tell"
        assert got[16:] == data
        assert node.listener.tcp_ports
    server.stop()
    assert not os.path.exists(path), "its file goes with the node"


def test_a_file_that_a_killed_process_left_is_replaced_and_one_in_use_is_not(path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    bind, settings = Bind("", 0, udp=False, path=path), LocalDialSettings(path="/nowhere.sock")
    with Forwarder(bind, settings) as node:
        with pytest.raises(OSError, match=r"UNIX socket.*Address already in use"), Forwarder(bind, settings):
            pass
        with node.dial() as app:
            assert app.recv(1) == b"", "its target is not there"
        until(lambda: node.node.counters.refused >= 1, "the flow is refused")
    Path(path).write_text("precious")
    with pytest.raises(OSError, match="in use"), Forwarder(bind, settings):
        pass
    assert Path(path).read_text() == "precious"


def test_a_target_whose_queue_is_full_is_waited_for(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    listener.setblocking(False)
    first = socket.socket(socket.AF_UNIX)
    first.connect(path)
    with Forwarder(Bind("127.0.0.1", 0), LocalDialSettings(path=path)) as node, node.dial() as app:
        app.sendall(b"hello")
        until(lambda: node.node.flows == 1, "the flow waits")
        listener.accept()[0].close()
        other = []

        def came():
            try:
                other.append(listener.accept()[0])
            except BlockingIOError:
                return False
            return True

        until(came, "it connects once there is room")
        with gevent.socket.socket(fileno=other[0].detach()) as accepted:
            accepted.settimeout(5)
            assert take(accepted, 5) == b"hello"
            accepted.sendall(b"back")
            assert take(app, 4) == b"back"
    first.close()
    listener.close()


def test_packets_do_not_go_to_a_unix_socket(path):
    with Forwarder(Bind("127.0.0.1", 0), LocalDialSettings(path=path)) as node, udp_client() as app:
        app.sendto(b"x", node.listener.udp_ports[0].sock.getsockname())
        until(lambda: node.node.counters.refused == 1, "the flow is refused")


def test_the_text_of_a_unix_address():
    assert addr.text(struct.pack("=H", socket.AF_UNIX)) == "unix"
    assert addr.text(struct.pack("=H", socket.AF_UNIX) + b"/run/x.sock\0") == "unix"
