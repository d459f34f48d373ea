"""A name server on loopback, UDP and TCP, made of dnspython's messages."""

from __future__ import annotations

import socket

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import gevent
import gevent.server
import gevent.socket

from tests.net import processes


class DnsServer:
    """Serves `zone`: name -> list of (type, text); `asked` has the names. `broken` bends its answers."""

    def __init__(self, **zone: list[tuple[str, str]]) -> None:
        self.zone = {name.replace("_", ".") + ".": rows for name, rows in zone.items()}
        self.ttl = 60
        self.asked: list[str] = []
        self.broken: set[str] = set()
        self.rcode = dns.rcode.NOERROR

    def __enter__(self) -> DnsServer:
        self._udp = gevent.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", processes.free_ports(1)[0]))
        self.place = self._udp.getsockname()
        self._tcp = gevent.server.StreamServer(self.place, self._stream)
        self._tcp.start()
        self._job = gevent.spawn(self._packets)
        return self

    def __exit__(self, *_: object) -> None:
        self._job.kill()
        self._tcp.stop(timeout=0)
        self._udp.close()

    def answer(self, data: bytes, limit: int) -> dns.message.Message:
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text().lower()
        self.asked.append(name)
        answer = dns.message.make_response(query)
        answer.set_rcode(self.rcode)
        if name not in self.zone:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        seen = set()
        while name in self.zone and name not in seen:
            seen.add(name)
            for kind in dict.fromkeys(kind for kind, _ in self.zone[name]):
                texts = [text for one, text in self.zone[name] if one == kind]
                answer.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *texts))
            name = next((text for kind, text in self.zone[name] if kind == "CNAME"), "")
        if len(answer.to_wire(max_size=65535)) > limit:
            answer.answer.clear()
            answer.flags |= dns.flags.TC
        return answer

    def _packets(self) -> None:
        while True:
            data, where = self._udp.recvfrom(65535)
            answer = self.answer(data, 1232)
            if "silent" in self.broken:
                continue
            wire = answer.to_wire(max_size=65535)
            if "forged" in self.broken:  # another id, then garbage, before the right one
                self._udp.sendto(bytes((wire[0] ^ 1,)) + wire[1:], where)
                self._udp.sendto(b"\x00" * 5, where)
            self._udp.sendto(wire, where)

    def _stream(self, sock: gevent.socket.socket, _where: object) -> None:
        size = int.from_bytes(sock.recv(2), "big")
        wire = self.answer(sock.recv(size), 65535).to_wire(max_size=65535)
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
