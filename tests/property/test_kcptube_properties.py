"""Whatever comes, nothing of the kcptube dialect raises, and what is sent is what is read."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.core.env import Env
from kcpg.core.flow import Kind, Open, Reset, ResetCode, Target
from kcpg.core.kcptube import messages
from kcpg.core.kcptube.cipher import ALGORITHMS, Cipher
from kcpg.core.kcptube.dialer import DialSettings, TubeDialer
from kcpg.core.kcptube.fec import ShardReceiver, ShardSender
from kcpg.core.kcptube.flow import TubeFlow
from kcpg.core.kcptube.listener import ListenSettings, TubeListener
from kcpg.core.kcptube.messages import Carries, Settings
from kcpg.core.kcptube.wire import STRANGERS_LIMIT, Format
from kcpg.core.native.dial.pathchoice import Destination
from kcpg.core.replaycache import ReplayCache
from tests.engines import twin

WALL_S = 1_700_000_000
PASSWORD = b"qwerty1234"
SERVER, CLIENT = b"server", b"client"


class TubePair:
    """A dialer and a listener whose datagrams are carried by hand."""

    def __init__(self, engine: str, wire_format: Format, tunnels: int, seed: int = 1) -> None:
        kcp = twin(engine, "Kcp")
        self.rng = random.Random(seed)
        self.now_ms = 1000
        self.sockets = 0
        env = Env(
            entropy=self.rng.randbytes,
            rng=self.rng,
            wall_s=lambda: WALL_S,
            open_socket=self._open,
            close_socket=lambda sock: None,
            report=lambda event: None,
            resolve=lambda host, port, resolved: resolved([SERVER]),
        )
        targets = (Destination("server", (3000,)),)
        self.d = TubeDialer(DialSettings("d", targets, wire_format, tunnels=tunnels), env, kcp)
        self.l = TubeListener(ListenSettings("l", wire_format), env, kcp)
        self.l.on_flow = lambda flow, request, now_ms: self._take(flow)
        self.taken: list[Any] = []
        self.sent: list[tuple[str, int, bytes]] = []
        self.d.start(self.now_ms)
        self.l.start(self.now_ms)

    def _open(self) -> int:
        self.sockets += 1
        return self.sockets

    def _take(self, flow: Any) -> None:
        self.taken.append(flow)
        if flow.asked:
            flow.link.flow_taken(flow)

    def step(self, ms: int = 1, hurt: Any = lambda datagram: datagram) -> None:
        """Carry everything, once each way."""
        self.now_ms += ms
        for leg, other, source in ((self.d, self.l, CLIENT), (self.l, self.d, SERVER)):
            leg.advance(self.now_ms)
            for sock, _, datagram in leg.transmit(self.now_ms):
                self.sent.append((leg.name, sock, datagram))
                other.receive(sock, source, hurt(datagram), self.now_ms)
            other.advance(self.now_ms)

    def up(self) -> TubeFlow:
        """With a flow that has carried something."""
        flow = self.d.dial(Open(Kind.TCP, None, "x"), self.now_ms)
        assert isinstance(flow, TubeFlow)
        for _ in range(400):
            self.step(5)
            if not flow.opening and self.taken:
                break
            if not flow.opening and not self.d.settings.tunnels and self.d.links:
                flow.write(b"hello")
        return flow


FORMATS = [Format(algorithm, PASSWORD) for algorithm in ALGORITHMS] + [
    Format("AES-GCM", PASSWORD, 1400, (3, 2)),
    Format("none", b"", 1400, (3, 2)),
]


@pytest.mark.parametrize("wire_format", FORMATS, ids=lambda each: f"{each.algorithm}{each.fec}")
@settings(max_examples=30)  # each makes a pair of legs and goes through a handshake
@given(data=st.data())
def test_any_bytes_are_counted_drops(wire_format: Format, data: st.DataObject) -> None:
    pair = TubePair("compiled", wire_format, 1)
    pair.up()
    for leg, sock in ((pair.l, 1), (pair.d, 1)):
        before = sum(leg.wire.drops.values())
        noise = data.draw(st.lists(st.binary(max_size=80), max_size=20))
        for each in noise:
            leg.receive(sock, b"somebody", each, pair.now_ms)
        assert sum(leg.wire.drops.values()) - before <= len(noise)
        if wire_format.algorithm not in ("none", "XOR"):
            assert sum(leg.wire.drops.values()) - before == len(noise)


@pytest.mark.parametrize("wire_format", FORMATS, ids=lambda each: f"{each.algorithm}{each.fec}")
@settings(max_examples=30)  # each makes a pair of legs and goes through a handshake
@given(data=st.data())
def test_authentic_nonsense_raises_nothing(wire_format: Format, data: st.DataObject) -> None:
    """What a peer with the password may send: every layer below the seal, down to the messages."""
    pair = TubePair("compiled", wire_format, 1)
    pair.up()
    peer = Cipher(wire_format.algorithm, wire_format.password, (7, 3))
    stamp = WALL_S.to_bytes(4, "little")
    convs = [0, 5, *(link.conv.number for link in pair.l.links)]
    for number in range(data.draw(st.integers(1, 12))):
        body = data.draw(st.binary(max_size=60))
        kind = data.draw(st.integers(0, 3))
        conv = data.draw(st.sampled_from(convs))
        if kind:
            push = messages_of(conv, 81 + kind % 4, number, body)
            body = (b"\0\0\0\1" + bytes((kind,)) + push) if wire_format.has_fec else push
        datagram = peer.seal(stamp + body)
        pair.l.receive(1, data.draw(st.sampled_from([CLIENT, b"other"])), datagram, pair.now_ms)
        pair.d.receive(1, SERVER, peer.seal(stamp + body), pair.now_ms)
        pair.step(data.draw(st.sampled_from([0, 1, 300, 40_000])))


def messages_of(conv: int, command: int, sn: int, body: bytes) -> bytes:
    """A KCP segment."""
    fields = (conv.to_bytes(4, "little"), bytes((command, 0)), (128).to_bytes(2, "little"), bytes(4))
    return b"".join(fields) + sn.to_bytes(4, "little") + bytes(4) + len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize("tunnels", [0, 1])
@settings(max_examples=30)
@given(seed=st.integers(0, 1 << 32))
def test_flipped_and_cut_datagrams_do_no_harm(tunnels: int, seed: int) -> None:
    pair = TubePair("compiled", Format("AES-GCM", PASSWORD), tunnels, seed)
    flow = pair.up()
    assert not flow.opening and len(pair.taken) == 1
    sent = flow.write(b"x" * 5000)
    rng = random.Random(seed)

    def hurt(datagram: bytes) -> bytes:
        if rng.random() < 0.1:
            return datagram[: rng.randrange(len(datagram))]
        if rng.random() < 0.1:
            at = rng.randrange(len(datagram))
            return datagram[:at] + bytes((datagram[at] ^ 1 << rng.randrange(8),)) + datagram[at + 1 :]
        return datagram

    got = b""
    for _ in range(1000):
        pair.step(20, hurt)
        got += pair.taken[0].read(1 << 16) or b""
        if len(got) == sent + 5 * (got[:5] == b"hello"):
            break
    assert got.removeprefix(b"hello") == b"x" * 5000
    assert pair.l.wire.drops.keys() <= {"auth"}


SETTINGS = st.builds(
    Settings,
    number=st.integers(0, (1 << 32) - 1),
    ports=st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
    out_bytes_s=st.integers(0, (1 << 64) - 1),
    in_bytes_s=st.integers(0, (1 << 64) - 1),
    target=st.none()
    | st.builds(Target, st.from_regex(r"[a-z0-9:.-]{1,60}", fullmatch=True), st.integers(1, 65535)),
)


@given(SETTINGS, st.sampled_from(list(Carries)))
def test_settings_are_read_as_they_were_told(settings: Settings, carries: Carries) -> None:
    assert messages.read_settings(messages.pack_settings(carries, settings)) == settings


@given(st.binary(min_size=1, max_size=400))
def test_no_message_raises(message: bytes) -> None:
    messages.split(message)
    messages.read_settings(message)
    messages.read_id(message)
    messages.read_code(message)
    messages.read_mux_target(message)
    assert isinstance(messages.read_reason(message, ResetCode.INTERNAL), Reset)


@given(st.data(), st.sampled_from([(1, 1), (2, 1), (3, 2), (10, 3)]))
def test_shards_in_any_order_give_only_what_was_sent(data: st.DataObject, code: tuple[int, int]) -> None:
    sender, receiver = ShardSender(*code, 9), ShardReceiver(*code, 9)
    sizes = data.draw(st.lists(st.integers(0, 90), min_size=1, max_size=40))
    blocks = [messages_of(9, 81, number, bytes((number,)) * size) for number, size in enumerate(sizes)]
    frames = [frame for block in blocks for frame in sender.frames(block)]
    chosen = data.draw(st.lists(st.sampled_from(frames), max_size=2 * len(frames)))
    for frame in chosen:
        group, index = int.from_bytes(frame[:4], "big"), frame[4]
        for block in receiver.take(group, index, frame[5:] if index < code[0] else frame[9:]):
            assert block in blocks


@given(st.lists(st.tuples(st.integers(0, 1 << 33), st.integers(0, 255), st.binary(max_size=60)), max_size=60))
def test_any_shards_raise_nothing(shards: list[tuple[int, int, bytes]]) -> None:
    receiver = ShardReceiver(2, 2, 9)
    for group, index, contents in shards:
        receiver.take(group & 0xFFFFFFFF, index, contents)
        assert receiver.held <= 8 * 4


@given(st.lists(st.integers(0, 300), max_size=300))
def test_what_was_seen_lately_is_known_and_memory_is_bounded(marks: list[int]) -> None:
    seen = ReplayCache(50, 1000)
    for now_ms, mark in enumerate(marks):
        seen.add(mark.to_bytes(2, "big"), now_ms)
        assert len(seen) <= 50
        assert all(each.to_bytes(2, "big") in seen for each in marks[max(0, now_ms - 24) : now_ms + 1])


def test_a_port_that_is_used_again_is_answered_again(engine: str) -> None:
    pair = TubePair(engine, Format("AES-GCM", PASSWORD), 0)
    pair.up()
    for _ in range(60):  # the first answer is acknowledged and old
        pair.step(100)
    second = pair.up()
    assert not second.opening and pair.l.counters.links_opened == 2


def test_requests_beyond_the_limit_are_dropped(engine: str) -> None:
    pair = TubePair(engine, Format("none", b""), 0)
    peer = Cipher("none", b"")
    stamp = WALL_S.to_bytes(4, "little")
    request = messages_of(0, 81, 0, messages.pack_settings(Carries.MUX, Settings()))
    for number in range(STRANGERS_LIMIT + 10):
        pair.l.receive(1, b"%d" % number, peer.seal(stamp + request), pair.now_ms)
    assert pair.l.wire.drops == {"strangers_overflow": 10}
    pair.l.advance(pair.now_ms)
    assert len(pair.l.links) == STRANGERS_LIMIT
    pair.l.advance(pair.now_ms + 40_000)
    pair.l.advance(pair.now_ms + 80_000)
    assert not pair.l.links and not pair.l._greetings and not pair.l._convs


def test_whoever_asks_and_acknowledges_nothing_gets_few_answers(engine: str) -> None:
    pair = TubePair(engine, Format("none", b""), 1)
    pair.up()
    (link,) = pair.l.links
    number = link.conv.number
    peer = Cipher("none", b"")
    stamp = WALL_S.to_bytes(4, "little")
    start = link.conv.kcp.rcv_nxt
    for turn in range(4000):
        for feature in (b"\x13\0\0", messages.mux_data(Carries.TCP, 77)):
            sn = start + 2 * turn + (feature[0] == 0x26)
            datagram = peer.seal(stamp + messages_of(number, 81, sn, feature))
            pair.l.receive(1, CLIENT, datagram, pair.now_ms)
        pair.l.advance(pair.now_ms)
        pair.l.transmit(pair.now_ms)
    assert link.conv.kcp.queued <= 600
    assert pair.l.wire.drops["control_overflow"] > 1000
