"""Socket addresses as the kernel wants them, and how a person reads them.

Inside the node an address is the packed ``sockaddr_in`` (16 bytes) or ``sockaddr_in6`` (28 bytes) of the
C library, so that the batched system calls take it as it is and a dictionary can use it as a key.
Layouts: ip(7) and ipv6(7); the family is in host byte order, the port in network order. Where a socket
listens on every address of the machine, the one that was asked (4 or 16 bytes) stands behind it: to another
local address is another path, and the answer leaves from the right one (`kcpg.net.pktinfo`).
"""

from __future__ import annotations

import socket
import struct
import sys
from functools import lru_cache
from typing import Any

from netaddr import AddrFormatError, IPAddress, IPNetwork

# The constants' values are those of this machine's C library; monkey patching does not change them.
AF_INET = int(socket.AF_INET)
AF_INET6 = int(socket.AF_INET6)
_AF_UNIX = int(socket.AF_UNIX)

_SIN = struct.Struct("=H2s4s8x")
_SIN6 = struct.Struct("=H2s4s16sI")
_PORT = struct.Struct(">H")
_LOW = 0 if sys.byteorder == "little" else 1  # where the low byte of the family stands
_MAPPED = b"\x00" * 10 + b"\xff\xff"
# A router hands one customer at least a /64, so limits per source count that prefix as one (RFC 6177).
_V6_SOURCE_PREFIX_BITS = 64
_V6_SITE_PREFIX_BITS = 48  # and a site at most this: 65,536 of them
# Addresses in text that are remembered: reading one costs 10 us, and every flow asks for its target.
_MAX_PARSED = 1024


def pack(host: str, port: int) -> bytes:
    """The packed address of a numeric `host` (``192.0.2.1``, ``2001:db8::1``, ``fe80::1%eth0``).

    Raises ValueError when `host` is a name or not an address, or `port` is outside 0..65535.
    """
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"port {port} is outside 0..65535")
    bare, _, zone = strip_brackets(host).partition("%")
    address = _parse(bare)
    if address.version == 4:
        return _SIN.pack(AF_INET, _PORT.pack(port), address.packed)
    return _SIN6.pack(AF_INET6, _PORT.pack(port), bytes(4), address.packed, _scope(zone))


def packed(ip: bytes, port: int) -> bytes:
    """The packed address of an IPv4 or IPv6 address of 4 or 16 bytes."""
    if len(ip) == 4:
        return _SIN.pack(AF_INET, _PORT.pack(port), ip)
    return _SIN6.pack(AF_INET6, _PORT.pack(port), bytes(4), ip, 0)


def strip_brackets(host: str) -> str:
    """``[::1]`` as ``::1``; anything else unchanged."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def is_numeric(host: str) -> bool:
    """Whether `host` is an address that needs no name server."""
    try:
        _parse(strip_brackets(host).partition("%")[0])
    except ValueError:
        return False
    return True


def from_tuple(where: tuple[Any, ...]) -> bytes:
    """The packed form of an address tuple as Python's socket functions return it."""
    if len(where) == 2:
        return _SIN.pack(AF_INET, _PORT.pack(where[1]), socket.inet_pton(socket.AF_INET, where[0]))
    host, port, flow, scope = where
    ip = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return _SIN6.pack(AF_INET6, _PORT.pack(port), struct.pack(">I", flow), ip, scope)


def to_tuple(addr: bytes) -> tuple[Any, ...]:
    """The address tuple Python's socket functions take for a packed address."""
    if family(addr) == AF_INET:
        _, port, ip = _SIN.unpack_from(addr)
        return socket.inet_ntop(socket.AF_INET, ip), _PORT.unpack(port)[0]
    _, port, flow, ip, scope = _SIN6.unpack_from(addr)
    host = socket.inet_ntop(socket.AF_INET6, ip)
    return host, _PORT.unpack(port)[0], struct.unpack(">I", flow)[0], scope


def family(addr: bytes) -> int:
    """AF_INET or AF_INET6."""
    return addr[_LOW] | addr[1 - _LOW] << 8


def remote(addr: bytes) -> bytes:
    """The packed address without the local one behind it."""
    return addr[: _SIN.size if family(addr) == AF_INET else _SIN6.size]


def local(addr: bytes) -> bytes:
    """The local address behind a packed address, 4 or 16 bytes; b"" if there is none."""
    return addr[_SIN.size if family(addr) == AF_INET else _SIN6.size :]


def port(addr: bytes) -> int:
    """The port of a packed address."""
    return int.from_bytes(addr[2:4], "big")


def with_port(addr: bytes, port: int) -> bytes:
    """The same host at another port."""
    return addr[:2] + _PORT.pack(port) + addr[4:]


def for_family(addr: bytes, wanted: int) -> bytes | None:
    """`addr` in the form a socket of family `wanted` takes, or None where it cannot be reached from it.

    An IPv4 address on an AF_INET6 socket is written as v4-mapped (``::ffff:192.0.2.1``, RFC 4291 §2.5.5.2).
    """
    have = family(addr)
    if have == wanted:
        return addr
    if wanted == AF_INET6:
        _, port, ip = _SIN.unpack_from(addr)
        return _SIN6.pack(AF_INET6, port, bytes(4), _MAPPED + ip, 0)
    bare = unmapped(addr)
    return bare if family(bare) == wanted else None


def unmapped(addr: bytes) -> bytes:
    """A v4-mapped address as the IPv4 address it stands for; any other unchanged."""
    if family(addr) == AF_INET6 and addr[8:20] == _MAPPED:
        return _SIN.pack(AF_INET, addr[2:4], addr[20:24])
    return addr


def text(addr: bytes) -> str:
    """``192.0.2.1:80`` or ``[2001:db8::1]:80``, for logs; v4-mapped shown as IPv4. A UNIX socket's
    is `unix`."""
    v4 = addr[4:8] if family(addr) == AF_INET else addr[20:24] if addr[8:20] == _MAPPED else b""
    if v4:  # every connection's source is put into words
        return f"{v4[0]}.{v4[1]}.{v4[2]}.{v4[3]}:{port(addr)}"
    if family(addr) == _AF_UNIX:
        return "unix"
    host, number, _, scope = to_tuple(addr)
    zone = f"%{scope}" if scope else ""
    return f"[{host}{zone}]:{number}"


def source_key(addr: bytes) -> bytes:
    """What limits per sender count as one sender: the IPv4 address, or the /64 of the IPv6 address."""
    return _network(addr, _V6_SOURCE_PREFIX_BITS)


def site_key(addr: bytes) -> bytes:
    """What may have many senders: the IPv4 address, or the /48 of the IPv6 address."""
    return _network(addr, _V6_SITE_PREFIX_BITS)


def _network(addr: bytes, v6_bits: int) -> bytes:
    bare = unmapped(addr)
    if family(bare) == AF_INET:
        return bare[4:8]
    network = IPNetwork(IPAddress(int.from_bytes(bare[8:24], "big"), 6))
    network.prefixlen = v6_bits
    return bytes(network.network.packed[: v6_bits // 8])


def is_loopback(addr: bytes) -> bool:
    """Whether the address is this machine's own (127.0.0.0/8 or ::1)."""
    return bool(IPAddress(to_tuple(unmapped(addr))[0].partition("%")[0]).is_loopback())


@lru_cache(maxsize=_MAX_PARSED)
def _parse(host: str) -> IPAddress:
    try:
        return IPAddress(host)
    except (AddrFormatError, ValueError, TypeError) as error:
        raise ValueError(f"{host!r} is not a numeric IP address") from error


def _scope(zone: str) -> int:
    if not zone:
        return 0
    if zone.isdigit():
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except OSError as error:
        raise ValueError(f"there is no network interface {zone!r}") from error
