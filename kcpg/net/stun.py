"""Finds out the public address of a tunnel socket, and keeps the way to it open.

A STUN server is asked through the listening socket itself: only so does it see the address that peers have to
send to, and only so does the question keep the NAT's mapping alive. The answer comes among the tunnel's
datagrams; `UdpIo` offers what carries STUN's cookie to `UdpSocket.stun`, which is set only while an answer is
expected, and which takes an answer only from the address that was asked (see `kcpg.core.stun` for the rest).
"""

from __future__ import annotations

import _socket
import errno
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gevent
from gevent.event import AsyncResult

from kcpg.core import stun
from kcpg.net import Notice
from kcpg.net import addr as addresses
from kcpg.net.resolve import Answer, Resolver, Unresolved
from kcpg.net.udp import UdpSocket

_TRY_LATER = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.EINTR})


@dataclass(frozen=True, slots=True)
class Timing:
    """When to ask. Seconds."""

    first_wait_s: float = 0.5  # RTO of RFC 8489 §6.2.1; doubled after every request
    requests: int = 7  # Rc of RFC 8489
    last_wait_s: float = 8.0  # after the last request: Rm times RTO of RFC 8489
    keep_s: float = 25.0
    # Asked again 25 to 30 s after an answer: the shortest NAT time-outs for UDP seen are 30 s, and nodes that
    # start together drift apart.
    keep_spread_s: float = 5.0
    retry_s: float = 2.0
    # After a failure, doubled every time; no longer than between two answers, for the mapping's sake.
    most_retry_s: float = 25.0


class StunClient:
    """Asks the STUN server `host`:`port` through `sock`, about each family that both can use.

    `found(address)` is called from a greenlet with the packed public address whenever it is another than
    before; `report` takes failures. One server address is kept as long as it answers.
    """

    def __init__(
        self, host: str, port: int, sock: UdpSocket, resolver: Resolver, *,
        found: Callable[[bytes], None], report: Callable[[Notice], None], timing: Timing | None = None,
    ) -> None:  # fmt: skip
        self.host = host
        self.port = port
        self.sock = sock
        self.resolver = resolver
        self.found = found
        self.timing = timing or Timing()
        self._report = report
        self._waiting: dict[bytes, _Lane] = {}
        self._lanes = [_Lane(self, family) for family in _families(sock, host)]
        self._jobs: list[gevent.Greenlet] = []

    def start(self) -> None:
        """Begin to ask."""
        if not self._lanes:
            text = "is of an address family that this listening socket does not have"
            self._report(Notice("stun_failed", f"STUN server {self._name} {text}"))
        self._jobs = [gevent.spawn(lane.run) for lane in self._lanes]

    def stop(self) -> None:
        """Ask no more; called before the socket is closed. Idempotent."""
        jobs, self._jobs = self._jobs, []
        gevent.killall(jobs, block=False)
        self._waiting.clear()
        self.sock.stun = None

    @property
    def public(self) -> list[bytes]:
        """The public addresses known, packed, IPv4 first."""
        return [lane.public for lane in self._lanes if lane.public is not None]

    # For the lanes.

    def expect(self, server: bytes, lane: _Lane) -> None:
        """Let `lane` have what comes from this address."""
        self._waiting[server] = lane
        self.sock.stun = self._take

    def expect_no_more(self, server: bytes) -> None:
        """The answer is there or given up."""
        self._waiting.pop(server, None)
        if not self._waiting:
            self.sock.stun = None

    def failed(self, lane: _Lane, reason: str) -> None:
        """Say so if an address is lost, or if no family works; that one of two does not is ordinary."""
        if lane.public is not None or all(one.failure for one in self._lanes):
            self._report(Notice("stun_failed", f"STUN server {self._name}: {reason}; asking again"))

    def _take(self, source: bytes, datagram: bytes) -> bool:
        lane = self._waiting.get(source)
        return lane is not None and lane.take(source, datagram)

    @property
    def _name(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Lane:
    """One address family: asks, retries, waits, asks again, for ever."""

    def __init__(self, client: StunClient, family: int) -> None:
        self.public: bytes | None = None
        self.failure = ""  # why the last round failed; empty before its end and after a success
        self._client = client
        self._family = family
        self._server: bytes | None = None  # the one that answered last
        self._turn = 0
        self._transaction = b""
        self._answer: AsyncResult = AsyncResult()

    def run(self) -> None:
        timing = self._client.timing
        retry_s = timing.retry_s
        while True:
            self.failure = self._round()
            if not self.failure:
                retry_s = timing.retry_s
                gevent.sleep(timing.keep_s + random.random() * timing.keep_spread_s)
                continue
            self._server = None
            self._client.resolver.forget(self._client.host)
            self._client.failed(self, self.failure)
            gevent.sleep(retry_s)
            retry_s = min(2 * retry_s, timing.most_retry_s)

    def take(self, source: bytes, datagram: bytes) -> bool:
        """Whether this is the answer; the round goes on with it."""
        answer = stun.read(datagram, self._transaction)
        if answer is None:
            return False
        self._client.expect_no_more(source)
        self._answer.set(answer)
        return True

    def _round(self) -> str:
        """One transaction; why it failed, or nothing."""
        server = self._server or self._resolve()
        if isinstance(server, str):
            return server
        self._transaction = os.urandom(stun.TRANSACTION_BYTES)
        self._answer = AsyncResult()
        self._client.expect(server, self)
        try:
            error = self._ask(server)
        finally:
            self._client.expect_no_more(server)
        if error:
            return error
        answer = self._answer.get(block=False) if self._answer.ready() else None
        if answer is None:
            return f"no answer from {addresses.text(server)}"
        if isinstance(answer, stun.Refused):
            return f"{addresses.text(server)} refuses: {answer.code} {answer.reason}".rstrip()
        return self._learn(server, answer)

    def _resolve(self) -> bytes | str:
        """One of the server's addresses, another one after each failure."""
        result: AsyncResult = AsyncResult()
        client = self._client
        client.resolver.resolve(client.host, client.port, result.set, self._family)
        answer: Answer = result.get()
        if isinstance(answer, Unresolved):
            return answer.text
        fitting = [a for a in (addresses.for_family(one, client.sock.family) for one in answer) if a]
        if not fitting:
            return "no address that this socket can reach"
        self._turn += 1
        return fitting[(self._turn - 1) % len(fitting)]

    def _ask(self, server: bytes) -> str:
        """Send the request until there is an answer or the time is over; why that was impossible, or
        nothing."""
        timing = self._client.timing
        request, where = stun.request(self._transaction), addresses.to_tuple(server)
        wait_s = timing.first_wait_s
        for number in range(1, timing.requests + 1):
            try:
                self._client.sock.sock.sendto(request, where)
            except OSError as error:
                if error.errno not in _TRY_LATER:
                    return f"{addresses.text(server)} cannot be asked: {error.strerror}"
            if self._answer.wait(wait_s if number < timing.requests else timing.last_wait_s) is not None:
                break
            wait_s *= 2
        return ""

    def _learn(self, server: bytes, answer: stun.Mapped) -> str:
        public = addresses.unmapped(addresses.packed(answer.ip, answer.port))
        if addresses.family(public) != self._family:
            return f"{addresses.text(server)} answers with an address of another family"
        self._server = server
        if public != self.public:
            self.public = public
            self._client.found(public)
        return ""


def _families(sock: UdpSocket, host: str) -> Sequence[int]:
    """The families that the socket can send by, and the server has as far as its name tells."""
    if sock.family == addresses.AF_INET:
        own = [addresses.AF_INET]
    else:
        bound = sock.sock.getsockname()[0]
        only = sock.sock.getsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY)
        dual = bound == "::" and not only
        own = [addresses.AF_INET, addresses.AF_INET6] if dual else [addresses.AF_INET6]
    if not addresses.is_numeric(host):
        return own
    theirs = addresses.family(addresses.unmapped(addresses.pack(host, 0)))
    return [family for family in own if family == theirs]
