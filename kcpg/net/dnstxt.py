"""Asks a name server for TXT records, without blocking a greenlet that carries traffic.

dnspython reads `/etc/resolv.conf` and makes and reads the messages; the sockets are gevent's. A name is
absolute, as kcptube asks it: no search list.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import gevent.socket
import gevent.timeout

# resolv.conf(5) defaults: two rounds; 3 s instead of 5 s a try, so that the next server has its turn sooner.
ROUNDS = 2
TRY_S = 3.0
MAX_SERVERS = 3  # resolv.conf(5): MAXNS
# What fits an unfragmented packet nearly everywhere (DNS flag day 2020); longer answers come by TCP.
_PAYLOAD_BYTES = 1232
_DNS_PORT = 53

Server = tuple[str, int]  # numeric address and port of a name server


@dataclass(frozen=True, slots=True)
class Records:
    """The character-strings of all TXT records of a name, sorted, each once; good for `ttl_s` seconds."""

    texts: tuple[bytes, ...]
    ttl_s: int


@dataclass(frozen=True, slots=True)
class NoRecords:
    """Why there is no answer."""

    text: str


def system_servers() -> list[Server]:
    """The name servers of `/etc/resolv.conf`, read anew; it changes with the network."""
    try:
        found = dns.resolver.Resolver().nameservers
    except (dns.exception.DNSException, OSError):
        return []
    return [(server, _DNS_PORT) for server in found if isinstance(server, str)][:MAX_SERVERS]


def look_up(name: str, servers: Sequence[Server] | None = None, try_s: float = TRY_S) -> Records | NoRecords:
    """The TXT records of `name`; takes as long as ROUNDS tries of every server (None: the system's) at most.

    Raises nothing.
    """
    places = system_servers() if servers is None else servers
    if not places:
        return NoRecords("no name server is configured (/etc/resolv.conf)")
    try:
        wanted = dns.name.from_text(name)
    except dns.exception.DNSException as error:
        return NoRecords(f"{name!r} is not a name: {error}")
    failure = ""
    for _ in range(ROUNDS):
        for place in places:
            try:
                with gevent.timeout.Timeout(try_s, TimeoutError("no answer")):
                    answer = _ask(wanted, place)
            except Exception as error:  # whatever it is, somebody waits for an answer
                failure = f"name server {place[0]}: {_words(error)}"
                continue
            if isinstance(answer, Records | NoRecords):
                return answer
            failure = f"name server {place[0]}: {answer}"
    return NoRecords(failure)


def _ask(name: dns.name.Name, place: Server) -> Records | NoRecords | str:
    """One server's answer; its trouble in words if another one may know better."""
    query = dns.message.make_query(name, dns.rdatatype.TXT, use_edns=0, payload=_PAYLOAD_BYTES)
    answer = _by_udp(query, place)
    if answer.flags & dns.flags.TC:
        answer = _by_tcp(query, place)
    code = answer.rcode()
    if code == dns.rcode.NXDOMAIN:
        return NoRecords("there is no such name")
    if code != dns.rcode.NOERROR:
        return dns.rcode.to_text(code)
    assert isinstance(answer, dns.message.QueryMessage)
    found = answer.resolve_chaining()
    if found.answer is None:
        return NoRecords("the name has no TXT record")
    texts = {bytes(text) for record in found.answer for text in record.strings}
    return Records(tuple(sorted(texts)), found.minimum_ttl)


def _by_udp(query: dns.message.Message, place: Server) -> dns.message.Message:
    with gevent.socket.socket(_family(place), socket.SOCK_DGRAM) as sock:
        sock.connect(place)  # the kernel then takes datagrams of this source only
        sock.send(query.to_wire())
        while True:
            answer = _read(query, sock.recv(65535))
            if answer is not None:
                return answer


def _by_tcp(query: dns.message.Message, place: Server) -> dns.message.Message:
    with gevent.socket.socket(_family(place), socket.SOCK_STREAM) as sock:
        sock.connect(place)
        message = query.to_wire()
        sock.sendall(len(message).to_bytes(2, "big") + message)
        size = int.from_bytes(_exactly(sock, 2), "big")
        answer = _read(query, _exactly(sock, size))
    if answer is None or answer.flags & dns.flags.TC:
        raise EOFError("a malformed answer")
    return answer


def _read(query: dns.message.Message, data: bytes) -> dns.message.Message | None:
    """The message if it is the answer to `query`: id, question and all; otherwise wait on (RFC 5452)."""
    try:
        answer = dns.message.from_wire(data, ignore_trailing=True, raise_on_truncation=False)
    except (dns.exception.DNSException, ValueError):
        return None
    return answer if query.is_response(answer) and isinstance(answer, dns.message.QueryMessage) else None


def _exactly(sock: gevent.socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError("the answer ends too early")
        data += part
    return bytes(data)


def _family(place: Server) -> int:
    return int(socket.AF_INET6 if ":" in place[0] else socket.AF_INET)


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
