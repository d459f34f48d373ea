"""Why does nobody answer at an address? What can be found out without the other side's help."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import replace

import gevent
import gevent.socket

from kcpg.app.config.model import Dialect, LegConfig

# How long an ICMP message may take: most round trips are shorter.
ICMP_LIMIT_S = 1.0

# Ports that are asked whether the machine tells what is closed. One may be in use; hosts send few at once.
CONTROL_PORTS = 3

_HIGH_PORTS = range(49_152, 65_536)  # Those that nobody registers (RFC 6335)

CLOSED = "nothing listens on this port: the machine there says so (port unreachable)"

_UNKNOWN = (
    "something listens there and does not answer: another password or key, or a program that is not kcpg"
    " (kcpg status at the server shows datagrams under another password)"
)

_SILENT = (
    "no answer at all: UDP is blocked on the way, the address is wrong, or the passwords differ"
    " (kcpg status at the server shows datagrams under another password, if they arrive)"
)

_ALSO_CLOCK = "; with dialect=kcptube, clocks that differ are another cause"

# Whose protocol a peer may speak, other than that of the configuration, with the cipher it has by default.
_OTHERS = ((Dialect.KCPTUBE, ""), (Dialect.KCPTUN, "aes"))

Answers = Callable[[LegConfig], bool]


class Diagnosis:
    """Of the silent destinations of one leg; what is found about a host is asked once."""

    def __init__(self, answers: Answers) -> None:
        """`answers`: whether somebody answers a trial of this configuration. Must not raise."""
        self._answers = answers
        self._hosts: dict[str, str] = {}

    def explain(self, config: LegConfig) -> str:
        """Why the only destination of this leg says nothing, as far as anybody can tell from here."""
        (host,), (port,) = config.addresses, config.ports
        if host not in self._hosts:
            self._hosts[host] = ""  # others that are silent meanwhile get the general answer
            self._hosts[host] = self._other_dialect(config)
        if found := self._hosts[host]:
            return found
        text = _UNKNOWN if tells_closed_ports(host, port) else _SILENT
        return text + (_ALSO_CLOCK if config.is_kcptube else "")

    def _other_dialect(self, config: LegConfig) -> str:
        if config.key is not None or not config.password:
            return ""
        for dialect, algorithm in _OTHERS:
            if dialect is config.dialect:
                continue
            if config.is_kcptun:  # nobody else knows its ciphers
                algorithm = "AES-GCM"
            other = replace(config, dialect=dialect, algorithm=algorithm or config.algorithm, fec=None)
            if self._answers(other):
                cipher = f" and encryption_algorithm={algorithm}" if algorithm else ""
                name = dialect.value
                return f"a {name} answers there with this password: write dialect={name}{cipher}"
        return ""


def tells_closed_ports(host: str, port: int) -> bool:
    """Whether the machine answers for ports where nobody listens; then one that is silent is not closed."""
    ports = random.sample([each for each in _HIGH_PORTS if each != port], CONTROL_PORTS)
    jobs = [gevent.spawn(is_closed, host, each) for each in ports]
    gevent.wait(jobs, ICMP_LIMIT_S + 0.5)
    closed = any(job.value for job in jobs)
    gevent.killall(jobs)
    return closed


def is_closed(host: str, port: int) -> bool:
    """Whether the machine says within ICMP_LIMIT_S that nobody listens on this port."""
    try:
        rows = gevent.socket.getaddrinfo(host, port, 0, gevent.socket.SOCK_DGRAM)
        with gevent.socket.socket(rows[0][0], gevent.socket.SOCK_DGRAM) as sock:
            sock.connect(rows[0][4])
            sock.send(b"\0")
            with gevent.Timeout(ICMP_LIMIT_S, False):
                sock.recv(1)
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
    return False
