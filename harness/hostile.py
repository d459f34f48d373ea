"""Attacks a node of yours, and measures what an honest peer feels: `python -m harness hostile`.

    python -m harness hostile ATTACK HOST:PORT KEY=… [ALGORITHM=AES-GCM] [SECONDS=10] [SEED=1]

HOST:PORT is a server whose target echoes, KEY its `encryption_key` (`kcpg keygen`). HOST is an address of
this machine or of a private network. ATTACK is one of those below; `list` prints them. The last line of
output is a report as JSON: what was sent, and how long an honest peer waited before, during and after.
"""

from __future__ import annotations

import ipaddress
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from harness.malicious_peer import Honest, Order, Party, attacks
from harness.rawlink import RawLink, open_socket, opening, push
from kcpg.core.flow import Kind, Open
from kcpg.core.native.handshake.keys import RootKeys, parse_key
from kcpg.core.native.handshake.outcomes import Accepted
from kcpg.core.native.link.convflow import ConvFlow
from kcpg.core.native.wire import frames

AT_ONCE = 16  # Datagrams of an attack between two looks at the honest peer

QUESTIONS = 20  # Before and after

ANSWER_S = 30.0  # Then an honest question counts as lost

KEEP_S = 20.0  # A link that says nothing for a minute may be closed

Make = Callable[[], RawLink]
Attack = Callable[[Make, random.Random], Iterator[RawLink]]


def conversations(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """Conversations without an OPEN, each with one empty segment at the end of its window."""
    link, number = make(), 0
    while True:
        link.send(frames.KCP, b"".join(push(number + at, 1023) for at in range(1, 41)))
        number = (number + 40) % 0xFFFF
        yield link


def fragments(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """Messages of 128 segments of one byte, of which the last never comes."""
    link, number = make(), 0
    while True:
        number = number % 0xFFFF + 1
        for first in range(0, 127, 40):
            parts = (push(number, sn, b"x", 127 - sn) for sn in range(first, min(first + 40, 127)))
            link.send(frames.KCP, b"".join(parts))
            yield link


def flows(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """Flows, as many as the node gives."""
    link, number = make(), 0
    while True:
        link.send(frames.KCP, b"".join(push(number + at, 0, opening()) for at in range(1, 21)))
        number = (number + 20) % 0xFFFF
        link.drain()
        yield link


def stalled(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """Flows whose answers are never acknowledged."""
    link, number, data = make(), 0, bytes(1000)
    while True:
        number = number % 0xFFFF + 1
        link.send(frames.KCP, push(number, 0, opening()))
        for sn in range(1, 200):
            link.send(frames.KCP, push(number, sn, data))
            if sn % AT_ONCE == 0:
                link.drain()
                yield link


def links(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """Links from one address, kept by a PING now and then."""
    held: list[tuple[RawLink, float]] = []
    while True:
        link = make()
        held.append((link, time.monotonic()))
        if time.monotonic() - held[0][1] > KEEP_S:
            held = [(each, time.monotonic()) for each, _ in held]
            for each, _ in held:
                each.send(frames.PING, bytes(8))
        yield link


def handshakes(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """Handshakes that are begun and never finished."""
    link = make()
    while True:
        link.post(link.first())
        link.drain()
        yield link


def moves(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """A link with thousands of flows, each datagram from another port."""
    link = make()
    for number in range(1, 20_000, 40):
        link.send(frames.KCP, b"".join(push(number + at, 0, opening()) for at in range(40)))
        link.drain()
        if number % 640 == 1:
            yield link
    while True:
        sock = open_socket(link.where[0])
        link.send(frames.PAD, bytes(7), sock)
        sock.close()
        yield link


def resets(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """RESETs of flows that are or were, over and over, none of them acknowledged."""
    link, number = make(), 0
    while True:
        number = number % 4096 + 1
        link.send(frames.KCP, push(number, 0, opening()))
        for _ in range(3):
            link.send(frames.RESET, frames.pack_reset(rng.randint(1, number), 4, "why"))
        link.drain()
        yield link


def rekeys(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """New keys without a pause."""
    link = make()
    while True:
        if not link.renew():
            link = make()
        yield link


def names(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """Targets by names that no name server will answer for; the node must let its clients choose."""
    link, number = make(), 0
    while True:
        number = number % 0xFFFF + 1
        target = b"%016x.invalid" % rng.getrandbits(64)
        link.send(frames.KCP, push(number, 0, opening(target, 80)))
        link.drain()
        yield link


def words(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """Sources and targets that would move a terminal's cursor or end a log's line."""
    link, number = make(), 0
    evil = ("\x1b[2J\x1b[1;31m", "\r\nerror forged: line\n", "\u202e", "\x9b", "\x00", "\x07")
    while True:
        number = number % 0xFFFF + 1
        source = rng.choice(evil).encode() + rng.randbytes(8)
        link.send(frames.KCP, push(number, 0, opening(source[:200], 80, source)))
        link.send(frames.RESET, frames.pack_reset(number, 3, rng.choice(evil)))
        link.drain()
        yield link


def nonsense(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """Sealed frames of every kind with anything in them, and segments far outside of every window."""
    link = make()
    while True:
        for _, payloads in attacks(Honest(1, 1, 1, 128), str(rng.random()), AT_ONCE):
            for payload in payloads[:AT_ONCE]:
                link.send(payload[0], payload[1:])
            link.drain()
            yield link


def strangers(make: Make, rng: random.Random) -> Iterator[RawLink]:
    """Random bytes, copies of one INIT and changed copies of it, from many ports: nobody here has the key."""
    link = make()
    init = link.first()
    socks = [open_socket(link.where[0]) for _ in range(64)]
    while True:
        for _ in range(AT_ONCE):
            at = rng.randrange(8, len(init))
            changed = init[:at] + bytes((init[at] ^ 1 << rng.randrange(8),)) + init[at + 1 :]
            link.post(rng.choice((init, changed, rng.randbytes(rng.randrange(32, 640)))), rng.choice(socks))
        yield link


ATTACKS: dict[str, Attack] = {
    each.__name__: each
    for each in (
        conversations, fragments, flows, stalled, links, handshakes, moves, resets, rekeys, names, words,
        nonsense, strangers,
    )
}  # fmt: skip


class Questions:
    """An honest peer with one flow: asks, waits for the echo, asks again."""

    def __init__(self, order: Order) -> None:
        self._party = Party(order)
        if not self._party.live(ANSWER_S, lambda: self._party.leg.link is not None):
            raise SystemExit("there is no link: is it this key, and does the node listen there?")
        flow = self._party.leg.dial(Open(Kind.TCP, None, "honest"), _now_ms())
        assert isinstance(flow, ConvFlow), flow
        self._flow = flow
        self._asked_s = 0.0
        self._question = self._answer = b""

    def live(self, seconds: float, times_ms: list[float]) -> None:
        """Go on for this long, or until an answer is there; its time is appended."""
        if not self._question:
            self._question, self._answer, self._asked_s = (
                str(time.monotonic()).encode(),
                b"",
                time.monotonic(),
            )
            self._flow.write(self._question)

        def complete() -> bool:
            self._answer += self._flow.read(65536) or b""
            return len(self._answer) >= len(self._question)

        if self._party.live(seconds, complete):
            if self._answer != self._question:
                raise SystemExit(f"asked {self._question!r}, answered {self._answer!r}: the target must echo")
            times_ms.append((time.monotonic() - self._asked_s) * 1000)
            self._question = b""

    @property
    def waited_s(self) -> float:
        """Since when an answer is outstanding."""
        return time.monotonic() - self._asked_s if self._question else 0.0

    def ask(self, count: int) -> list[float]:
        """The times of so many answers; fewer if one does not come."""
        times_ms: list[float] = []
        while len(times_ms) < count and self.waited_s < ANSWER_S:
            self.live(ANSWER_S, times_ms)
        return times_ms


def maker(name: str, order: Order, made: list[RawLink]) -> Make:
    """Makes links for an attack and collects them. Raises ValueError for a bad key."""
    key = parse_key(order.key)
    if key is None:
        raise ValueError("KEY is not what kcpg keygen prints")
    rng, root = random.Random(f"{name}:{order.seed}"), RootKeys.from_key(key)

    def make() -> RawLink:
        link = RawLink((order.host, order.port), root, order.algorithm, rng)
        made.append(link)
        if name != "strangers" and not isinstance(link.shake(), Accepted):
            raise ConnectionRefusedError(f"the link number {len(made)} is refused")
        return link

    return make


def run(name: str, order: Order, seconds: float) -> dict[str, object]:
    """Attack for so long, and tell what came of it."""
    made: list[RawLink] = []
    make, rng, refused = maker(name, order, made), random.Random(order.seed), 0
    honest = Questions(order)
    before, during = honest.ask(QUESTIONS), list[float]()
    attack, end_s = ATTACKS[name](make, rng), time.monotonic() + seconds
    while time.monotonic() < end_s:
        try:
            for _ in range(AT_ONCE):
                next(attack)
        except ConnectionRefusedError:
            refused += 1
            attack = ATTACKS[name](make, rng)
        honest.live(0.001, during)
    after = honest.ask(QUESTIONS)
    for link in made:
        link.close()
    return {
        "attack": name,
        "links": len(made) - refused,
        "refused": refused,
        "datagrams": sum(link.sent_datagrams for link in made),
        "bytes": sum(link.sent_bytes for link in made),
        "before_ms": summary(before),
        "during_ms": summary(during),
        "after_ms": summary(after),
        "unanswered": len(after) < QUESTIONS,
    }


def summary(times_ms: Sequence[float]) -> dict[str, float]:
    """How many, the middle one, the longest."""
    if not times_ms:
        return {"count": 0}
    middle, longest = statistics.median(times_ms), max(times_ms)
    return {"count": len(times_ms), "median": round(middle, 3), "longest": round(longest, 3)}


def _now_ms() -> int:
    return time.monotonic_ns() // 10**6


def main(words: Sequence[str]) -> int:
    """Attack; returns 1 if the honest peer got no answer afterwards."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    plain = [word for word in words if "=" not in word]
    if plain == ["list"]:
        for name, attack in ATTACKS.items():
            print(f"{name:14} {attack.__doc__}")
        return 0
    if len(plain) != 2 or plain[0] not in ATTACKS or "KEY" not in given:
        print(f"{__doc__}\nThe attacks are: {', '.join(ATTACKS)}", file=sys.stderr)
        return 2
    host, _, port = plain[1].rpartition(":")
    host = host.strip("[]")
    if not ipaddress.ip_address(host).is_private:
        print(f"{host} is neither of this machine nor of a private network", file=sys.stderr)
        return 2
    algorithm, seed = given.get("ALGORITHM", "AES-GCM"), given.get("SEED", "1")
    order = Order(host, int(port), given["KEY"], algorithm, seed, AT_ONCE)
    try:
        report = run(plain[0], order, float(given.get("SECONDS", "10")))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report), flush=True)
    return 1 if report["unanswered"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
