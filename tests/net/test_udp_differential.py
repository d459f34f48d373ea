"""The compiled `UdpIo` and the plain one, told the same over loopback sockets, do and count the same."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.wire.events import STRANGER
from kcpg.net import addr, udp
from tests.engines import ENGINES, twin
from tests.lockstep import LINK_WIRE_FACTS
from tests.wires import C2S, CID_A, CID_B, MASKS, S2C, key, taken

PARAMS = KcpParams(snd_wnd=1024, rcv_wnd=1024)
OF_PLACES = {"path", "source"}  # each engine has sockets of its own


class IoEnd:
    """A wire with one link, one socket and its `UdpIo`."""

    def __init__(self, engine: str, side: str, host: str, offload: bool) -> None:
        self.wire = twin(engine, "Wire")(**MASKS[side], max_datagram=1500)
        self.link_wire = self.wire.link_wire(side)
        self.link_wire.accept = lambda conv: self.link_wire.open(conv, PARAMS)
        cids, directions = ((CID_A, CID_B), (S2C, C2S)) if side == "a" else ((CID_B, CID_A), (C2S, S2C))
        self.link_wire.install_rx(cids[0], "AES-GCM", key(directions[0]), bytes(12))
        self.link_wire.install_tx(cids[1], "AES-GCM", key(directions[1]), bytes(12))
        self.socket = udp.open_udp(host)
        if not offload:
            self.socket.gso = False
            self.socket.sock.setsockopt(udp.SOL_UDP, udp.UDP_GRO, 0)
        self.io = twin(engine, "UdpIo")(self.wire)
        self.io.add(1, self.socket)

    @property
    def addr(self) -> bytes:
        return addr.from_tuple(self.socket.sock.getsockname())

    def receive(self, now_ms: int) -> int:
        """Until the socket is dry."""
        total = count = self.io.receive(1, now_ms)
        while count or self.io.more:
            count = self.io.receive(1, now_ms)
            total += count
        return total

    def facts(self) -> dict[str, Any]:
        """What both engines must agree about."""
        facts = {name: getattr(self.link_wire, name) for name in LINK_WIRE_FACTS if name not in OF_PLACES}
        return facts | {
            "errors": dict(self.io.errors),
            "in": self.io.datagrams_in,
            "out": self.io.datagrams_out,
            "drops": dict(self.wire.drops),
            "due": min(self.io.deadline_ms(), 1 << 62),
            "news": self.io.has_news(),
            "backlog": self.io.backlog,
            "troubled": self.io.troubled(),
            "faults": self.io.take_faults(),
            "too_big": list(self.io.take_too_big().values()),
            "strangers": [stranger[1:] for stranger in taken(self.wire, STRANGER)],
        }


class Both:
    """A pair of ends for each engine."""

    def __init__(self, host: str, offload: bool) -> None:
        self.pairs = [[IoEnd(engine, side, host, offload) for side in "ab"] for engine in ENGINES]
        for a, b in self.pairs:
            a.link_wire.set_path(1, b.addr)
            b.link_wire.set_path(1, a.addr)
        self.now_ms = 1000

    def do(self, side: int, act: Any) -> Any:
        """`act(end)` of this side in both engines; answers and facts must be equal."""
        answers = [act(pair[side]) for pair in self.pairs]
        assert answers[0] == answers[1]
        assert self.pairs[0][side].facts() == self.pairs[1][side].facts()
        return answers[0]

    def carry(self) -> None:
        """One turn of both sides. What a socket sent is there at once: this is loopback."""
        for side in (0, 1):
            self.do(side, lambda end: end.receive(self.now_ms))
            self.do(side, lambda end: end.io.transmit(self.now_ms))

    def noise(self, datagrams: bytes, size: int) -> None:
        """Send side 1 foreign datagrams of `size` bytes; the kernel joins them where it can."""
        for _, b in self.pairs:
            with socket.socket(b.socket.family, socket.SOCK_DGRAM) as sock:
                segment = [(udp.SOL_UDP, udp.UDP_SEGMENT, struct.pack("=H", size))]
                sock.sendmsg([datagrams], segment if size < len(datagrams) else [], 0, addr.to_tuple(b.addr))

    def close(self) -> None:
        for pair in self.pairs:
            for end in pair:
                end.socket.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["offload", "singly"])
def both(request: pytest.FixtureRequest, host: str) -> Iterator[Both]:
    made = Both(host, request.param)
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(3))
def test_random_traffic(both: Both, seed: int) -> None:
    rng = random.Random(seed)
    for number in (1, 2, 3):
        both.do(0, lambda end, number=number: bool(end.link_wire.open(number, PARAMS).conv))
    for _ in range(150):
        number = rng.randint(1, 3)
        data = rng.randbytes(rng.choice([1, 100, 5000, 300_000]))
        both.do(0, lambda end, n=number, data=data: end.link_wire.convs[n].write(data))
        both.carry()
        if number in both.pairs[0][1].link_wire.convs:
            both.do(1, lambda end, n=number: end.link_wire.convs[n].read(1 << 20))
        both.now_ms += rng.choice([0, 1, 5, 50])
    assert both.pairs[0][0].io.datagrams_out > 1000, f"seed {seed} sends too little to mean anything"


@pytest.mark.parametrize("size", [1, 20, 31, 32, 33, 700])
def test_foreign_datagrams_are_counted_one_by_one(both: Both, size: int) -> None:
    """Also where the kernel hands over ten of them as one."""
    both.noise(random.Random(size).randbytes(10 * size), size)
    assert both.do(1, lambda end: end.receive(both.now_ms)) == 10
    end = both.pairs[0][1]
    assert end.wire.drops == ({"short": 10} if size < 32 else {})
    assert end.io.datagrams_in == 10


def test_a_run_whose_last_datagram_is_short(both: Both) -> None:
    both.noise(bytes(9 * 40 + 7), 40)
    assert both.do(1, lambda end: end.receive(both.now_ms)) == 10
    assert both.pairs[0][1].wire.drops == {"short": 1}


def test_datagrams_that_are_too_big(both: Both) -> None:
    """EMSGSIZE, between others that leave."""
    sizes = [300, 300, 65_600, 300, 65_700, 200]
    for size in sizes:
        both.do(0, lambda end, size=size: end.wire.post(1, end.link_wire.path[1], bytes(size)))
    both_too_big = []
    for a, _ in both.pairs:
        assert a.io.transmit(both.now_ms) == -1
        both_too_big.append(list(a.io.take_too_big().values()))
    assert both_too_big[0] == both_too_big[1] == [65_700]
    both.do(1, lambda end: end.receive(both.now_ms))
    assert both.pairs[0][1].io.datagrams_in == 4


def test_what_a_dead_peer_answers_is_counted(both: Both) -> None:
    """ECONNREFUSED, which a connected socket is told when it receives."""
    for _, b in both.pairs:
        dead = udp.open_udp(addr.text(b.addr).rpartition(":")[0].strip("[]"))
        b.socket.sock.connect(dead.sock.getsockname())
        dead.close()
        b.socket.sock.send(b"is anybody there?")
    both.do(1, lambda end: end.receive(both.now_ms))
    for _, b in both.pairs:
        assert b.io.errors == {"refused": 1}


def test_unknown_destinations(both: Both, host: str) -> None:
    """Sockets that are gone, and addresses of the wrong family."""
    wrong = addr.pack("::1", 9) if host == "127.0.0.1" else addr.pack("127.0.0.1", 9)
    for sock, where in ((9, wrong), (1, wrong), (9, wrong)):
        both.do(0, lambda end, sock=sock, where=where: end.wire.post(sock, where, bytes(40)))
    both.do(0, lambda end: end.io.transmit(both.now_ms))
    assert both.pairs[0][0].io.errors["socket_gone"] == 2
    both.do(0, lambda end: end.io.remove(1))
    both.do(0, lambda end: end.wire.post(1, wrong, bytes(40)))
    both.do(0, lambda end: end.io.transmit(both.now_ms))
    assert both.pairs[0][0].io.errors["socket_gone"] == 3


def test_what_strangers_send_may_be_taken_first(both: Both) -> None:
    """A STUN handler gets what begins like STUN; what it refuses is the wire's."""
    from kcpg.core.stun import COOKIE, COOKIE_AT

    message = bytes(COOKIE_AT) + COOKIE + bytes(40)
    taken: list[list[bytes]] = [[], []]
    for seen, (_, b) in zip(taken, both.pairs, strict=True):
        b.socket.stun = lambda _source, datagram, seen=seen: len(seen) < 2 and not seen.append(datagram)
    both.noise(message * 3, len(message))
    both.do(1, lambda end: end.receive(both.now_ms))
    assert taken[0] == taken[1] == [message, message]
