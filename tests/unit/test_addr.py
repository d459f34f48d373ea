"""Packed socket addresses: round trips, v4-mapped forms, what a person reads."""

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.net import addr


@settings(deadline=None)
@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_address_survives_packing(ip, port):
    packed = addr.pack(str(ip), port)
    assert len(packed) == (16 if ip.version == 4 else 28)
    assert addr.to_tuple(packed)[:2] == (socket.inet_ntop(addr.family(packed), ip.packed), port)
    assert addr.from_tuple(addr.to_tuple(packed)) == packed
    assert addr.port(packed) == port
    assert addr.port(addr.with_port(packed, 1)) == 1


@settings(deadline=None)
@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_ipv4_on_a_dual_stack_socket_is_mapped_and_back(ip, port):
    packed = addr.pack(str(ip), port)
    mapped = addr.for_family(packed, addr.AF_INET6)
    assert addr.family(mapped) == addr.AF_INET6
    assert addr.to_tuple(mapped)[0] == f"::ffff:{ip}"
    assert addr.unmapped(mapped) == packed
    assert addr.for_family(mapped, addr.AF_INET) == packed
    assert addr.text(mapped) == addr.text(packed) == f"{ip}:{port}"
    assert addr.source_key(mapped) == ip.packed


def test_a_kernel_takes_and_gives_the_same_bytes():
    for host, kind in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with socket.socket(kind, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
            where = sock.getsockname()
            assert addr.to_tuple(addr.pack(host, where[1])) == where
            assert addr.text(addr.from_tuple(where)) == (
                f"{host}:{where[1]}" if kind == socket.AF_INET else f"[{host}]:{where[1]}"
            )


def test_ipv6_has_no_ipv4_form():
    assert addr.for_family(addr.pack("2001:db8::1", 1), addr.AF_INET) is None


def test_zone_becomes_the_scope():
    packed = addr.pack("fe80::1%lo", 5)
    assert addr.to_tuple(packed)[3] == socket.if_nametoindex("lo")
    with pytest.raises(ValueError, match="no network interface"):
        addr.pack("fe80::1%nosuchif", 5)


@pytest.mark.parametrize("bad", ["", "localhost", "1.2.3", "1.2.3.4.5", "::g", "01.2.3.4"])
def test_what_is_not_numeric_is_refused(bad):
    assert not addr.is_numeric(bad)
    with pytest.raises(ValueError, match="not a numeric IP address"):
        addr.pack(bad, 1)


def test_port_range():
    with pytest.raises(ValueError, match="outside"):
        addr.pack("::1", 65536)


def test_brackets():
    assert addr.is_numeric("[::1]")
    assert addr.pack("[::1]", 9) == addr.pack("::1", 9)


def test_one_ipv6_customer_is_one_source():
    one = addr.source_key(addr.pack("2001:db8:1:2::1", 1))
    assert one == addr.source_key(addr.pack("2001:db8:1:2:ffff::9", 2))
    assert one != addr.source_key(addr.pack("2001:db8:1:3::1", 1))
    assert len(one) == 8


def test_one_ipv6_site_has_many_sources():
    one = addr.site_key(addr.pack("2001:db8:1:2::1", 1))
    assert one == addr.site_key(addr.pack("2001:db8:1:ffff::9", 2)) and len(one) == 6
    assert one != addr.site_key(addr.pack("2001:db8:2:2::1", 1))
    assert addr.site_key(addr.pack("192.0.2.1", 1)) == addr.source_key(addr.pack("::ffff:192.0.2.1", 9))


def test_loopback():
    assert addr.is_loopback(addr.pack("127.9.9.9", 1))
    assert addr.is_loopback(addr.pack("::1", 1))
    assert addr.is_loopback(addr.pack("::ffff:127.0.0.1", 1))
    assert not addr.is_loopback(addr.pack("10.0.0.1", 1))
