"""What a proxy's clients say: SOCKS5 (RFC 1928: CONNECT, UDP ASSOCIATE, without authentication) and HTTP's
CONNECT (RFC 9110 §9.3.6), told apart by the first byte. No sockets here; `kcpg.net.proxyport` has them."""

from __future__ import annotations

import _socket
from collections.abc import Callable
from dataclasses import dataclass

from kcpg.core.flow import Reset, ResetCode, Target
from kcpg.net import addr as addresses
from kcpg.net.preamble import Malformed, Script, Until

VERSION = b"\x05"
_CONNECT, _ASSOCIATE = 1, 3
_V4, _NAME, _V6 = 1, 3, 4
_NO_AUTHENTICATION, _NO_METHOD = b"\x00", b"\xff"
_ANYWHERE = b"\x00\x01" + bytes(6)  # reserved; 0.0.0.0:0, for answers where it has no meaning
REQUEST_MAX_BYTES = 16_384  # of an HTTP request's head: what web servers allow

_GENERAL, _FORBIDDEN, _NETWORK, _HOST, _REFUSED, _EXPIRED, _COMMAND, _ADDRESS = range(1, 9)
_ANSWERS = {
    ResetCode.REFUSED: _REFUSED,
    ResetCode.UNREACHABLE: _NETWORK,
    ResetCode.TIMEOUT: _EXPIRED,
    ResetCode.FORBIDDEN: _FORBIDDEN,
    ResetCode.NO_ROUTE: _HOST,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants. `target` None: packets (UDP ASSOCIATE), whose targets they say themselves."""

    target: Target | None
    accepted: Callable[[bytes], bytes]  # The answer, with the packed address of our end
    refused: Callable[[Reset], bytes]


def read() -> Script[Wish]:
    """Take a request of either protocol."""
    first = yield 1
    if first == VERSION:
        return (yield from _socks5())
    if first == b"\x04":
        raise Malformed("SOCKS4, which names no IPv6: use SOCKS5", b"\x00\x5b" + bytes(6))
    return (yield from _http(first))


def _socks5() -> Script[Wish]:
    (count,) = yield 1
    methods = (yield count) if count else b""
    if _NO_AUTHENTICATION not in methods:
        raise Malformed("SOCKS5 with a password only, and none is set here", VERSION + _NO_METHOD)
    yield VERSION + _NO_AUTHENTICATION
    head = yield 4
    if head[:1] != VERSION:
        raise Malformed("this is not SOCKS5")
    target = yield from _address(head[3])
    if head[1] == _CONNECT and target.port:
        return Wish(target, _accepted, _refused)
    if head[1] == _ASSOCIATE:
        return Wish(None, _accepted, _refused)
    raise Malformed("SOCKS5 has CONNECT and UDP ASSOCIATE here, nothing else", _answer(_COMMAND))


def _address(kind: int) -> Script[Target]:
    if kind == _NAME:
        (size,) = yield 1
        host = (yield size) if size else b""
        text = host.decode("utf-8", "replace")
    elif kind in (_V4, _V6):
        text = _ip_text((yield 4 if kind == _V4 else 16))
    else:
        raise Malformed("an address of an unknown kind", _answer(_ADDRESS))
    port = int.from_bytes((yield 2), "big")
    if not is_host(text):
        raise Malformed("a name that is none", _answer(_HOST))
    return Target(text, port)


def is_host(text: str) -> bool:
    """Whether this may be a name or an address, as far as OPEN can carry it."""
    return 0 < len(text.encode("utf-8", "replace")) <= 255 and text.isprintable() and " " not in text


def _ip_text(ip: bytes) -> str:
    return _socket.inet_ntop(_socket.AF_INET if len(ip) == 4 else _socket.AF_INET6, ip)


def _accepted(ours: bytes) -> bytes:
    bare = addresses.unmapped(ours)
    v4 = addresses.family(bare) == addresses.AF_INET
    ip = bare[4:8] if v4 else bare[8:24]
    return VERSION + bytes((0, 0, _V4 if v4 else _V6)) + ip + addresses.port(bare).to_bytes(2, "big")


def _refused(reason: Reset) -> bytes:
    return _answer(_ANSWERS.get(reason.code, _GENERAL))


def _answer(code: int) -> bytes:
    return VERSION + bytes((code,)) + _ANYWHERE


# -- HTTP --


def _http(first: bytes) -> Script[Wish]:
    if not first.isalpha():
        raise Malformed("neither SOCKS5 nor HTTP")
    head = first + (yield Until(b"\r\n\r\n", REQUEST_MAX_BYTES))
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Malformed("neither SOCKS5 nor HTTP", _status("400 Bad Request"))
    if words[0] != "CONNECT":
        text = "This proxy only has CONNECT: use it for https, or by SOCKS5.\n"
        raise Malformed(f"HTTP's {words[0][:10]}", _status("405 Method Not Allowed", "Allow: CONNECT", text))
    host, _, port = words[1].rpartition(":")
    host = addresses.strip_brackets(host)
    if not is_host(host) or not port.isdecimal() or not 0 < int(port) <= 0xFFFF:
        raise Malformed("HTTP's CONNECT without host:port", _status("400 Bad Request"))
    return Wish(Target(host, int(port)), _http_accepted, _http_refused)


def _http_accepted(_ours: bytes) -> bytes:
    return b"HTTP/1.1 200 Connection established\r\n\r\n"


def _http_refused(reason: Reset) -> bytes:
    status = "403 Forbidden" if reason.code is ResetCode.FORBIDDEN else "502 Bad Gateway"
    return _status(status, text=f"{reason}\n")


def _status(status: str, field: str = "", text: str = "") -> bytes:
    body = text.encode()
    fields = [field] if field else []
    fields += [f"Content-Length: {len(body)}", "Connection: close", "Content-Type: text/plain; charset=utf-8"]
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode() + body


# -- packets --


def read_packet(packet: bytes) -> tuple[bytes, Target, int] | None:
    """(the address as it stands, the target, where the payload begins) of a client's packet; None: none of
    ours, or a fragment."""
    if len(packet) < 5 or packet[2]:
        return None
    kind = packet[3]
    start, size = (5, packet[4]) if kind == _NAME else (4, {_V4: 4, _V6: 16}.get(kind, 0))
    end = start + size + 2
    if not size or len(packet) < end:
        return None
    raw = packet[start : start + size]
    host = raw.decode("utf-8", "replace") if kind == _NAME else _ip_text(raw)
    port = int.from_bytes(packet[end - 2 : end], "big")
    if not port or not is_host(host):
        return None
    return bytes(packet[3:end]), Target(host, port), end
