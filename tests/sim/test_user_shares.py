"""Many users of one listener: each gets his part of the bandwidth, whatever one of them does."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace
from typing import Any

import pytest

from kcpg.core.env import Env
from kcpg.core.flow import Kind, Open, Reset
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.dial.dialer import DialSettings, TunnelDialer
from kcpg.core.native.dial.pathchoice import Destination
from kcpg.core.native.handshake.keys import KeyPair, RootKeys
from kcpg.core.native.handshake.params import LinkParams
from kcpg.core.native.listener import ListenSettings, TunnelListener
from kcpg.core.native.users import User
from tests.engines import twin

WALL_S = 1_800_000_000
DELAY_MS = 10
TCP = Open(Kind.TCP, None, "test")


class Download:
    """Stands for the splice of a flow at the listener: sends as much as goes, or some bytes now and then."""

    def __init__(self, flow: Any) -> None:
        self.flow = flow
        self.over = False
        flow.splice = self
        self.ready(flow, 2)

    def ready(self, flow: Any, events: int) -> None:
        while self.flow.write(bytes(16_384)):
            pass

    def on_reset(self, flow: Any, reason: Reset) -> None:
        self.flow.splice = None


class Reader:
    """Stands for the splice of a flow at a dialer: takes what comes, and counts it."""

    def __init__(self, flow: Any) -> None:
        self.flow = flow
        self.over = False
        self.got = 0
        flow.splice = self

    def ready(self, flow: Any, events: int) -> None:
        while data := self.flow.read(1 << 16):
            self.got += len(data)

    def on_reset(self, flow: Any, reason: Reset) -> None:
        self.flow.splice = None


class Crowd:
    """A listener and a dialer for each of its users, in virtual time, `DELAY_MS` apart."""

    def __init__(self, engine: str, users: list[User], paths: dict[int, int], users_bps: int = 0) -> None:
        self.rng = random.Random(7)
        self.now_ms = 5_000
        self.readers: dict[int, list[Reader]] = {}
        self._heap: list[tuple[int, int, int, bytes, int]] = []
        self._count = 0
        listener = KeyPair(b"l" * 32)
        keys = RootKeys.from_pair(listener)
        pairs = [KeyPair(bytes((n, n >> 8)) * 16, listener.own.public) for n in range(1, len(users) + 1)]
        known = tuple(
            replace(user, public_key=pair.own.public) for user, pair in zip(users, pairs, strict=True)
        )
        wire = twin(engine, "Wire")
        kcp = KcpParams(nodelay=1, interval_ms=30, resend=2, snd_wnd=64, rcv_wnd=64)
        settings = ListenSettings("l", params=params(), kcp=kcp, users=known, users_bps=users_bps)
        self.listener = TunnelListener(settings, keys, self._env(), wire)
        self.listener.on_flow = lambda flow, request, now_ms: Download(flow)
        self.listener.start(self.now_ms)
        self.dialers = []
        for n, pair in enumerate(pairs):
            dial = DialSettings(
                "d", [Destination("l", (3000,))], params=params(), kcp=kcp, paths=paths.get(n, 1)
            )
            self.dialers.append(TunnelDialer(dial, RootKeys.from_pair(pair), self._env(), wire))

    def _env(self) -> Env:
        return Env(
            entropy=self.rng.randbytes,
            rng=self.rng,
            wall_s=lambda: WALL_S,
            open_socket=self._socket,
            close_socket=lambda sock: None,
            report=lambda event: None,
            resolve=lambda host, port, answer: answer([b"l"]),
            source_key=lambda addr: addr,
        )

    def _socket(self) -> int:
        self._count += 1
        return self._count

    def download(self, user: int, flows: int) -> None:
        """So many downloads of a user begin."""
        for _ in range(flows):
            flow = self.dialers[user].dial(TCP, self.now_ms)
            assert not isinstance(flow, Reset)
            self.readers.setdefault(user, []).append(Reader(flow))
            flow.write(b"x")  # the OPEN leaves with it

    def start(self) -> None:
        for dialer in self.dialers:
            dialer.start(self.now_ms)
        self.run(500)
        assert all(dialer.link is not None for dialer in self.dialers)

    def run(self, ms: int) -> None:
        legs = [self.listener, *self.dialers]
        for _ in range(ms):
            self.now_ms += 1
            due = {n for n, leg in enumerate(legs) if (leg.deadline() or 1 << 62) <= self.now_ms}
            while self._heap and self._heap[0][0] <= self.now_ms:
                _, _, to, datagram, sock = heapq.heappop(self._heap)
                n = to >> 32
                source = b"l" if n else b"%d" % sock
                legs[n].receive(to & 0xFFFF if n else 3000, source, datagram, self.now_ms)
                due.add(n)
            for n in due:
                leg = legs[n]
                leg.advance(self.now_ms)
                for sock, addr, datagram in leg.transmit(self.now_ms):
                    to = 0 if n else self._owner(int(addr))
                    self._count_datagram(to, datagram, (n << 20 | sock) if n else 0)

    def _count_datagram(self, to: int, datagram: bytes, sock: int) -> None:
        self._order = getattr(self, "_order", 0) + 1
        heapq.heappush(self._heap, (self.now_ms + DELAY_MS, self._order, to, datagram, sock))

    @staticmethod
    def _owner(source: int) -> int:
        return (source >> 20) << 32 | (source & 0xFFFFF)

    def rates(self, ms: int) -> list[float]:
        """What each user's downloads get from now on, in bit/s."""
        before = self._got()
        self.run(ms)
        return [(after - got) * 8000 / ms for after, got in zip(self._got(), before, strict=True)]

    def _got(self) -> list[int]:
        return [sum(one.got for one in self.readers.get(n, ())) for n in range(len(self.dialers))]


def params() -> LinkParams:
    return LinkParams(datagram_bytes=1200, snd_wnd=64, rcv_wnd=64)


def users(count: int, **values: Any) -> list[User]:
    return [User(f"u{n}", b"", **values) for n in range(count)]


def test_a_hundred_users_have_equal_parts_whatever_one_does() -> None:
    """One of them has 5 links and 40 downloads, each other one: he gets what they get, to within 5 %."""
    crowd = Crowd("compiled", users(100), {0: 5}, users_bps=40_000_000)
    crowd.start()
    for n in range(100):
        crowd.download(n, 40 if n == 0 else 1)
    crowd.run(3_000)
    rates = crowd.rates(5_000)
    fair = sum(rates) / 100
    print(f"greedy {rates[0] / fair:.3f} of the fair part, others {min(rates) / fair:.3f}"
          f" to {max(rates) / fair:.3f}, {sum(rates) / 1e6:.1f} Mbit/s of payload")  # fmt: skip
    assert all(0.95 <= rate / fair <= 1.05 for rate in rates)
    assert 0.85 * 40e6 <= sum(rates) <= 40e6


def test_what_others_leave_is_borrowed_and_given_back(engine: str) -> None:
    """Of four links of a user one downloads alone, then all: the limit holds, and is used, throughout."""
    crowd = Crowd(engine, users(1, outbound_bps=4_000_000), {0: 4})
    crowd.start()
    crowd.download(0, 1)
    crowd.run(2_000)
    (alone,) = crowd.rates(2_000)
    assert 0.85 * 4e6 <= alone <= 4.1e6
    crowd.download(0, 3)
    crowd.run(300)
    (together,) = crowd.rates(3_000)
    assert 0.85 * 4e6 <= together <= 4.1e6
    parts = [one.got for one in crowd.readers[0]]
    crowd.run(3_000)
    shares = [one.got - before for one, before in zip(crowd.readers[0], parts, strict=True)]
    assert max(shares) <= 1.1 * min(shares)


def test_users_with_less_to_do_leave_the_rest_to_others(engine: str) -> None:
    """Of three users one has a limit of his own; the others divide what he leaves."""
    three = users(3)
    three[0] = replace(three[0], outbound_bps=500_000)
    crowd = Crowd(engine, three, {}, users_bps=6_000_000)
    crowd.start()
    for n in range(3):
        crowd.download(n, 1)
    crowd.run(2_000)
    limited, *others = crowd.rates(3_000)
    assert 0.85 * 0.5e6 <= limited <= 0.51e6
    assert all(0.85 * 2.75e6 <= rate <= 2.8e6 for rate in others)


@pytest.mark.parametrize("links", [1, 3])
def test_an_idle_user_gets_his_part_at_once_and_the_total_holds(links: int) -> None:
    crowd = Crowd("compiled", users(2), {0: links}, users_bps=6_000_000)
    crowd.start()
    crowd.download(0, links)
    crowd.run(3_000)
    (all_of_it, _) = crowd.rates(1_000)
    assert all_of_it >= 0.85 * 6e6
    crowd.download(1, 1)
    crowd.run(200)
    rates = crowd.rates(1_000)
    assert rates[1] >= 0.8 * 3e6, "what he had lent is not waited for"
    after = crowd.rates(3_000)
    assert all(0.85 * 3e6 <= rate <= 3.05e6 for rate in after)
