"""A party that has the key and violates the protocol: `python -m harness.malicious_peer ORDER`.

An attacker on the path cannot forge a datagram that a node accepts. This party can: it dials like any client,
with the product's own plain-Python core, and opens a flow that it uses honestly. Under the keys of its link
it sends what no client would: segments far outside the window or of conversations that nobody opened,
acknowledgements of data that was never sent, wrong lengths, meaningless frames.

ORDER is JSON (see `Order`). The last line of output is the report.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kcpg.core.env import Env, Resolved
from kcpg.core.flow import Kind, Open
from kcpg.core.native.dial.dialer import DialSettings, TunnelDialer
from kcpg.core.native.dial.pathchoice import Destination
from kcpg.core.native.handshake.keys import RootKeys, parse_key
from kcpg.core.native.handshake.params import LinkParams
from kcpg.core.native.link.convflow import ConvFlow
from kcpg.core.native.link.link import Link
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.wire import Conv, Wire

SEGMENT = struct.Struct("<IBBHIIII")  # KCP's: conv, cmd, frg, wnd, ts, sn, una, length of the data behind it

PUSH, ACK, ASK, TELL = 81, 82, 83, 84

UNUSED = 128  # Frame types from here on are unlikely to be assigned

HALF = 1 << 31  # A serial number further ahead than this is behind (RFC 1982)

DATA_BYTES = 1000

FLOOD_CONVS = 3000  # Conversations that nobody opened, each with a segment that cannot be delivered

# Datagrams of an attack that leave together, and the pause after them: as much as sockets and lines hold.
AT_ONCE = 4
GAP_S = 0.002

ANSWER_S = 20.0  # For the link, and for each honest answer, over a line that loses


@dataclass(frozen=True)
class Order:
    """What to attack."""

    host: str
    port: int
    key: str  # `encryption_key` of the node's configuration
    algorithm: str
    seed: str
    count: int  # Datagrams of each attack, but for the flood of conversations


class Honest(NamedTuple):
    """The state of the conversation that goes on during the attacks."""

    conv: int
    sent: int  # Serial number of the next segment to the peer; the peer has all before it
    taken: int  # Serial number of the peer's next segment
    window: int  # The peer's window, in segments

    @classmethod
    def of(cls, conv: Conv) -> Honest:
        """The state of a conversation with nothing in flight."""
        return cls(conv.conv, conv._tx.snd_nxt, conv._rx.rcv_nxt, conv._tx.rmt_wnd)


class Party:
    """A dialling leg with real sockets; addresses are packed as text."""

    def __init__(self, order: Order) -> None:
        self._family = socket.AF_INET6 if ":" in order.host else socket.AF_INET
        self._sockets: dict[int, socket.socket] = {}
        env = Env(
            entropy=os.urandom,
            rng=random.Random(order.seed),
            wall_s=lambda: int(time.time()),
            open_socket=self._open,
            close_socket=lambda number: self._sockets.pop(number).close(),
            report=lambda event: print(f"{event.kind}: {event.text}", flush=True),
            resolve=_resolve,
        )
        key = parse_key(order.key)
        assert key is not None, "the harness makes its keys itself"
        settings = DialSettings(
            "malicious peer", [Destination(order.host, [order.port])], LinkParams(algorithm=order.algorithm)
        )
        self.leg = TunnelDialer(settings, RootKeys.from_key(key), env, Wire)
        self.leg.start(_now_ms())

    def _open(self) -> int:
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("", 0))
        self._sockets[sock.fileno()] = sock
        return sock.fileno()

    def live(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Do what a node does, for this long or until a condition holds; returns whether it does."""
        end_s = time.monotonic() + seconds
        while not until():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return False
            due_ms = self.leg.deadline()
            wait_s = left_s if due_ms is None else min(left_s, max(due_ms - _now_ms(), 0) / 1000)
            for number in select.select(list(self._sockets), [], [], wait_s)[0]:
                self._receive(number)
            self.leg.advance(_now_ms())
            self._transmit()
        return True

    def _receive(self, number: int) -> None:
        while number in self._sockets:
            try:
                datagram, source = self._sockets[number].recvfrom(65535)
            except BlockingIOError:
                return
            self.leg.receive(number, _pack(source[0], source[1]), datagram, _now_ms())

    def _transmit(self) -> None:
        while batch := self.leg.transmit(_now_ms()):
            for number, target, datagram in batch:
                host, _, port = target.decode().rpartition(" ")
                self._sockets[number].sendto(datagram, (host, int(port)))


def attacks(honest: Honest, seed: str, count: int) -> Iterator[tuple[str, list[bytes]]]:
    """The attacks by name: payloads of datagrams, type byte first; `count` of each, except for the flood."""
    rng = random.Random(f"malicious peer:{seed}")
    own, sent, taken, window = honest
    data, times = rng.randbytes(DATA_BYTES), range(count)

    def kcp(number: int, command: int, sn: int, una: int = taken, body: bytes = b"") -> bytes:
        head = SEGMENT.pack(number, command, 0, 1024, rng.getrandbits(32), sn % 2**32, una % 2**32, len(body))
        return bytes((frames.KCP,)) + head + body

    yield "beyond the window", [kcp(own, PUSH, sent + window + 1 + at * 997, body=data) for at in times]
    yield "huge sn", [kcp(own, PUSH, sent + HALF - 1 - at, body=data) for at in times]
    yield "long gone sn", [kcp(own, PUSH, sent - 1 - at * 997, body=data) for at in times]
    yield "una of what was never sent", [kcp(own, ACK, 0, una=taken + 100 + at * 997) for at in times]
    yield "ack of what was never sent", [kcp(own, ACK, taken + 100 + at * 997) for at in times]
    yield "no such conversation", [kcp(rng.getrandbits(31) + HALF, TELL, 0) for _ in times]
    yield "questions of no conversation", [kcp(rng.getrandbits(31) + HALF, ASK, 0) for _ in times]
    yield "no such command", [kcp(own, rng.randrange(85, 256), sent, body=data) for _ in times]
    yield "length of more than there is", [kcp(own, PUSH, sent, body=data)[: -1 - at % 900] for at in times]
    yield "a piece of a header", [kcp(own, PUSH, sent)[: 2 + at % 23] for at in times]
    yield "frames that mean nothing", [bytes((rng.randrange(UNUSED, 256),)) + data for _ in times]
    yield (
        "shards of no group",
        [
            bytes((rng.choice((frames.FEC_DATA, frames.FEC_PARITY)),)) + rng.randbytes(at * 17 % DATA_BYTES)
            for at in times
        ],
    )
    yield "frames cut short", [bytes((kind,)) for kind in range(2, 15) if kind != frames.CLOSE] * 10
    yield "packets of no conversation", [bytes((frames.DATAGRAM,)) + rng.randbytes(4) + data for _ in times]
    # Without a request to open, each of them waits with its data until the node gives it up.
    yield (
        "conversations by the thousand",
        [kcp(2 + at, PUSH, 1 + at % 500, body=data) for at in range(FLOOD_CONVS)],
    )


def run(order: Order) -> dict[str, object]:
    """Run the attacks, each followed by an honest question."""
    party, errors, sent = Party(order), [], {}
    if not party.live(ANSWER_S, lambda: party.leg.link is not None and not party.leg.link.closed):
        return {"errors": ["there is no link"], "sent": {}}
    flow = party.leg.dial(Open(Kind.TCP, None, "malicious peer"), _now_ms())
    assert isinstance(flow, ConvFlow), flow
    if not _asks(party, flow, b"an honest question"):
        return {"errors": ["not even an honest question was answered"], "sent": {}}
    link, conv = party.leg.link, flow.conv
    assert link is not None and conv is not None
    for name, payloads in attacks(Honest.of(conv), order.seed, order.count):
        _send(party, link, payloads)
        sent[name] = len(payloads)
        print(f"{name}: {len(payloads)}", flush=True)
        if not _asks(party, flow, f"after {name}".encode()):
            errors.append(f"after {name}: an honest question was not answered")
            break
    if party.leg.link is not link:
        errors.append("the link did not survive")
    return {"errors": errors, "sent": sent}


def _send(party: Party, link: Link, payloads: Sequence[bytes]) -> None:
    for first in range(0, len(payloads), AT_ONCE):
        assert link.link_wire.path is not None
        for payload in payloads[first : first + AT_ONCE]:
            party.leg.wire.post(*link.link_wire.path, link.link_wire.seal(payload))
        party.live(GAP_S)


def _asks(party: Party, flow: ConvFlow, question: bytes) -> bool:
    """Whether the echo service behind the chain answers correctly."""
    answer = bytearray()
    assert flow.write(question) == len(question)

    def complete() -> bool:
        answer.extend(flow.read(65536) or b"")
        return len(answer) >= len(question) or flow.closed

    return party.live(ANSWER_S, complete) and bytes(answer) == question


def _resolve(host: str, port: int, resolved: Resolved) -> None:
    resolved([_pack(host, port)])


def _pack(host: str, port: int) -> bytes:
    return f"{host} {port}".encode()


def _now_ms() -> int:
    return time.monotonic_ns() // 10**6


def main(words: Sequence[str]) -> int:
    """Attack; returns 1 if the node did not withstand it."""
    report = run(Order(**json.loads(words[0])))
    print(json.dumps(report), flush=True)
    return 1 if report["errors"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
