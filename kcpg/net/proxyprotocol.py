"""The PROXY protocol: the address of the application, said before the first byte of a TCP connection.

Versions 1 (text, only understood) and 2 (binary), after HAProxy's doc/proxy-protocol.txt. What is written is
told to targets; what is read comes from a balancer in front of a client, which must send it on every
connection: a header that is optional could be forged.
"""

from __future__ import annotations

import struct

from kcpg.net import addr as addresses
from kcpg.net.preamble import Malformed, Script, Until

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21  # version 2 and the command
_TCP4, _TCP6 = 0x11, 0x21
_V4, _V6 = struct.Struct(">4s4sHH"), struct.Struct(">16s16sHH")
TEXT_MAX_BYTES = 107  # of a header of version 1
BODY_MAX_BYTES = 4096  # of a header of version 2: addresses and what balancers add, certificates at most


def header(source: str, target: bytes | None) -> bytes:
    """Version 2, for a flow from `source` (`ip:port`) to a packed address, None if it has none.

    A source that is no such address, a UNIX socket's for instance, gives LOCAL: the target then uses what
    the connection itself shows.
    """
    came_from = _source(source)
    if came_from is None:
        return SIGNATURE + struct.pack(">BBH", _LOCAL, 0, 0)
    there = addresses.unmapped(target) if target is not None else b""
    if len(there or came_from) == len(came_from) and addresses.family(came_from) == addresses.AF_INET:
        ip, there_ip = came_from[4:8], there[4:8] or bytes(4)
        body = _V4.pack(ip, there_ip, addresses.port(came_from), addresses.port(there) if there else 0)
        return SIGNATURE + struct.pack(">BBH", _PROXY, _TCP4, len(body)) + body
    came_from, there = _as_v6(came_from), _as_v6(there or addresses.packed(bytes(16), 0))
    body = _V6.pack(came_from[8:24], there[8:24], addresses.port(came_from), addresses.port(there))
    return SIGNATURE + struct.pack(">BBH", _PROXY, _TCP6, len(body)) + body


def read() -> Script[str]:
    """Take a header of either version; gives the source, empty if the header has none."""
    first = yield 1
    if first == b"P":
        rest = yield Until(b"\r\n", TEXT_MAX_BYTES)
        return _read_text(first + rest)
    if first != SIGNATURE[:1]:
        raise Malformed("no PROXY protocol header")
    head = yield len(SIGNATURE) + 3
    if first + head[:11] != SIGNATURE or head[11] >> 4 != 2:
        raise Malformed("no PROXY protocol header")
    command, kind, size = head[11] & 0x0F, head[12], int.from_bytes(head[13:], "big")
    if command > 1 or size > BODY_MAX_BYTES:
        raise Malformed("a PROXY protocol header that is not understood")
    body = (yield size) if size else b""
    if command == 0:  # the balancer's own connection, a health check
        return ""
    if kind == _TCP4 and size >= _V4.size:
        ip, _, port, _ = _V4.unpack_from(body)
    elif kind == _TCP6 and size >= _V6.size:
        ip, _, port, _ = _V6.unpack_from(body)
    elif kind in (_TCP4, _TCP6):
        raise Malformed("a PROXY protocol header without its addresses")
    else:
        return ""
    return addresses.text(addresses.packed(ip, port))


def _read_text(line: bytes) -> str:
    words = line.decode("ascii", "replace").rstrip("\r\n").split(" ")
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return ""
    if len(words) != 6 or words[:2] not in (["PROXY", "TCP4"], ["PROXY", "TCP6"]):
        raise Malformed("no PROXY protocol header")
    try:
        return addresses.text(addresses.pack(words[2], int(words[4])))
    except ValueError:
        raise Malformed("a PROXY protocol header without its addresses") from None


def _source(text: str) -> bytes | None:
    host, _, port = text.rpartition(":")
    try:
        bare = addresses.strip_brackets(host).partition("%")[0]
        return addresses.unmapped(addresses.pack(bare, int(port)))
    except ValueError:
        return None


def _as_v6(addr: bytes) -> bytes:
    mapped = addresses.for_family(addr, addresses.AF_INET6)
    assert mapped is not None
    return mapped
