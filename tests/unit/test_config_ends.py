"""Keys of the ways in and out beside plain ports, and of the tunnel's sockets."""

from __future__ import annotations

import socket

import pytest

from kcpg.app import legsettings
from kcpg.app.config import Severity, load_text, load_texts
from kcpg.net.local import Bind
from kcpg.net.udp import SocketOptions, open_udp
from tests.unit.config_texts import CLIENT, SERVER, errors, relay, said

NO_PORT = CLIENT.replace("listen_port=59000\n", "")


def leg(text, side="ingress"):
    loaded = load_text("a.conf", text)
    assert loaded.ok, loaded.problems
    return getattr(loaded.nodes[0], side)


def binds(text):
    return legsettings.local_listen(leg(text), 10, lambda name: [name]).binds


def test_a_proxy_is_for_this_machine_unless_told_otherwise():
    assert binds(NO_PORT + "socks_port=1080\n") == (Bind("127.0.0.1", 1080, udp=False, proxy=True),)
    (six,) = binds(NO_PORT + "socks_port=1080\nipv6_only=yes\ndestination_address=::2\n")
    assert six.host == "::1"
    open_ = NO_PORT + "socks_port=1080\nlisten_on=192.0.2.9\n"
    assert [bind.host for bind in binds(open_)] == ["192.0.2.9"]
    assert said(load_text("a.conf", open_), Severity.WARNING, "socks_port")
    assert not said(load_text("a.conf", NO_PORT + "socks_port=1080\n"), Severity.WARNING, "socks_port")


def test_a_proxy_beside_a_port():
    assert binds(CLIENT + "socks_port=1080\n") == (
        Bind("", 59000),
        Bind("127.0.0.1", 1080, udp=False, proxy=True),
    )
    assert "proxy at 1080" in legsettings.where(leg(CLIENT + "socks_port=1080\n"))


def test_a_port_that_is_used_twice_is_found():
    other = CLIENT.replace("59000", "1080")
    loaded = load_texts({"a.conf": NO_PORT + "socks_port=1080\n", "b.conf": other})
    assert [problem.key for problem in loaded.errors] == ["listen_port"]
    assert errors(CLIENT + "socks_port=59000\n")


def test_unix_sockets():
    assert binds(NO_PORT + "listen_path=/run/a.sock\n") == (Bind("", 0, udp=False, path="/run/a.sock"),)
    bare = SERVER.replace("destination_port=8000\ndestination_address=::1\n", "")
    settings = legsettings.local_dial(leg(bare + "destination_path=/run/b.sock\n", "egress"))
    assert settings.path == "/run/b.sock" and settings.target is None
    both = legsettings.local_dial(leg(SERVER + "destination_path=/run/b.sock\n", "egress"))
    assert both.path and both.target is not None, "TCP there, UDP here"
    assert errors(bare + "destination_path=/run/b.sock\ndestination_port=80\n"), "a port without an address"
    assert errors(NO_PORT + "listen_path=run/a.sock\n") == [(6, "listen_path"), (0, "listen_port")][:1]
    assert errors(NO_PORT + f"listen_path=/{'x' * 120}\n")


@pytest.mark.parametrize(("value", "want"), [("v2", True), ("V2", True), ("off", False)])
def test_the_proxy_protocol(value, want):
    client = legsettings.local_listen(leg(CLIENT + f"proxy_protocol={value}\n"), 10, lambda name: [name])
    server = legsettings.local_dial(leg(SERVER + f"proxy_protocol={value}\n", "egress"))
    assert client.proxy_protocol is server.proxy_protocol is want
    assert errors(CLIENT + "proxy_protocol=v1\n")


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("dscp=46", SocketOptions(dscp=46)),
        ("dscp=ef", SocketOptions(dscp=46)),
        ("dscp=AF41", SocketOptions(dscp=34)),
        ("dscp=CS1", SocketOptions(dscp=8)),
        ("bind_device=eth0", SocketOptions(device="eth0")),
        ("fwmark=0x1F", SocketOptions(fwmark=31)),
        ("fwmark=51820", SocketOptions(fwmark=51820)),
    ],
)
def test_options_of_sockets_reach_every_tunnel(line, want):
    assert legsettings.socket_options(leg(CLIENT + line, "egress")) == want
    assert legsettings.socket_options(leg(SERVER + line)) == want
    (node,) = relay(outside=line).nodes
    assert legsettings.socket_options(node.ingress) == legsettings.socket_options(node.egress) == want


@pytest.mark.parametrize(
    "line",
    ["dscp=64", "dscp=fast", "bind_device=a/b", "bind_device=" + "x" * 16, "fwmark=-1", "fwmark=4294967296",
     "fwmark=0x100000000", "fwmark=x"],
)  # fmt: skip
def test_options_that_are_none(line):
    assert [key for _, key in errors(CLIENT + line)] == [line.partition("=")[0]]


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_the_kernel_has_the_code_point(host):
    opened = open_udp(host, 0, options=SocketOptions(dscp=46))
    try:
        assert opened.sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 46 << 2
        if opened.family == socket.AF_INET6:
            assert opened.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == 46 << 2
    finally:
        opened.close()


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(OSError, match="bind_device=nowhere0"):
        open_udp("127.0.0.1", 0, options=SocketOptions(device="nowhere0"))
