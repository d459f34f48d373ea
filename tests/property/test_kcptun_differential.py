"""The compiled data plane of the kcptun dialect does what the plain one does, byte by byte."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kcpg.core.kcp.params import HEADER, KcpParams
from kcpg.core.kcptun import cipher, fec, smux
from kcpg.core.kcptun.wire import Format
from tests.engines import ENGINES, twin

SECRET = bytes(range(32))
PARAMS = KcpParams(snd_wnd=256, rcv_wnd=256)
NEAR, FAR = (1, b"near"), (2, b"far")
QUICK = [name for name in cipher.CRYPTS if name not in cipher.SLOW]


@given(st.sampled_from(cipher.CRYPTS), st.integers(0, 1 << 32), st.integers(1, 1450), st.integers(0, 9))
def test_datagrams(crypt: str, seed: int, size: int, harmed: int) -> None:
    rng = random.Random(seed)
    compiled, plain = (twin(engine, "Cipher")(crypt, SECRET) for engine in ENGINES)
    nonce, body = rng.randbytes(plain.nonce_bytes), rng.randbytes(size)
    sealed = plain.seal(nonce, body)
    assert compiled.seal(nonce, body) == sealed
    assert (compiled.overhead, compiled.mark, compiled.marks) == (plain.overhead, plain.mark, plain.marks)
    damaged = bytearray(sealed)
    for _ in range(harmed):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    for datagram in (sealed, bytes(damaged), sealed[: rng.randrange(len(sealed) + 1)]):
        assert compiled.open(datagram) == plain.open(datagram)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=300), st.integers(1, 60))
def test_what_was_seen(marks: list[tuple[int, int]], limit: int) -> None:
    compiled, plain = (twin(engine, "ReplayCache")(limit, 500) for engine in ENGINES)
    now_ms = 0
    for mark, later in marks:
        now_ms += later
        asked = mark.to_bytes(8, "big") * 2
        assert (asked in compiled) == (asked in plain)
        for each in (compiled, plain):
            each.add(asked, now_ms)
        assert len(compiled) == len(plain)


@given(st.integers(1, 12), st.integers(0, 6), st.integers(0, 1 << 32), st.floats(0, 0.5))
def test_shards(data: int, parity: int, seed: int, loss: float) -> None:
    rng = random.Random(seed)
    senders = [twin(engine, "ShardSender")(data, parity) for engine in ENGINES]
    receivers = [twin(engine, "ShardReceiver")(7) for engine in ENGINES]
    kept = []
    for sn in range(20 * data):
        if rng.random() < 0.01:
            data, parity = rng.randint(1, 9), rng.randint(0, 4)
            for sender in senders:
                sender.use(data, parity)
        size = rng.randrange(60)
        body = HEADER.pack(7, 81, 0, 1, 0, sn, 0, size) + rng.randbytes(size)
        made = [sender.frames(body) for sender in senders]
        assert made[0] == made[1]
        assert senders[0].parity_bytes == senders[1].parity_bytes and senders[0].groups == senders[1].groups
        kept += [shard for shard in made[0] if rng.random() >= loss]
        if rng.random() < 0.3:
            rng.shuffle(tail := kept[-5:])
            kept[-5:] = tail
    for shard in kept:
        number, kind = fec.HEADER.unpack_from(shard)
        back = [each.take(number, kind == fec.DATA, shard[fec.SHARD_BYTES :]) for each in receivers]
        assert back[0] == back[1]
        assert len({(each.held, each.rebuilt, each.untrusted) for each in receivers}) == 1


FRAMES = st.one_of(
    st.builds(smux.frame, st.just(1), st.sampled_from([0, 1, 2, 2, 2, 3]), st.integers(3, 5), st.just(b"")),
    st.builds(smux.frame, st.just(2), st.integers(2, 4), st.integers(3, 5), st.binary(max_size=9)),
    st.builds(smux.frames, st.integers(1, 2), st.integers(3, 5), st.binary(max_size=60), st.integers(1, 70)),
    st.builds(smux.update, st.integers(3, 5), st.integers(0, 1 << 33), st.integers(0, 99)),
    st.binary(max_size=20),
)


@given(st.lists(FRAMES, max_size=30), st.lists(st.integers(1, 80), min_size=1, max_size=40))
def test_streams_of_frames(frames: list[bytes], steps: list[int]) -> None:
    parsers = [twin(engine, "Parser")(0) for engine in ENGINES]
    stream, at = b"".join(frames), 0
    for turn in range(len(stream)):
        piece = stream[at : at + steps[turn % len(steps)]]
        at += len(piece)
        found: list[Any] = []
        for parser in parsers:
            try:
                found.append(parser.feed(piece))
            except smux.Malformed as error:
                found.append(str(error))
        assert found[0] == found[1]
        assert (parsers[0].held, parsers[0].version) == (parsers[1].held, parsers[1].version)
        if isinstance(found[0], str):
            break


class Pair:
    """Two wires of one engine that talk to each other, the second taking whatever comes."""

    def __init__(self, engine: str, crypt: str, shape: tuple[int, int]) -> None:
        kind = twin(engine, "TunWire")
        entropies = random.Random(1), random.Random(2)
        near, far = Format(crypt, b"word", 400, shape), Format(crypt, b"word", 400, (0, 0), True)
        self.near = kind(near, entropies[0].randbytes, lambda path, body: None)
        self.far = kind(far, entropies[1].randbytes, self.begin)
        self.convs = [self.near.converse(5, PARAMS, FAR)]

    def begin(self, path: tuple[int, bytes], body: bytes) -> Any:
        if len(self.convs) > 1:
            return None
        self.convs.append(self.far.converse(5, PARAMS, path))
        return self.convs[1]

    def step(self, now_ms: int, writes: list[bytes], fates: random.Random) -> list[Any]:
        """All that can be told apart from outside."""
        seen: list[Any] = []
        for conv, data in zip(self.convs, writes, strict=False):
            conv.want_room = True
            seen.append(conv.write(data[:100]))
            seen.append(conv.write_frames(1, 3, data, 700))
        for wire, other, path in ((self.near, self.far, NEAR), (self.far, self.near, FAR)):
            sent = []
            while found := wire.transmit(now_ms):
                sent += found
            seen += [sent, wire.deadline(), wire.backlog]
            for _, _, datagram in sent:
                fate = fates.random()
                for _ in range(0 if fate < 0.1 else 2 if fate > 0.95 else 1):
                    harmed = datagram[:-1] + bytes([datagram[-1] ^ 1]) if 0.1 < fate < 0.12 else datagram
                    other.receive(*path, harmed, now_ms)
            seen.append(sorted((conv.number, events) for conv, events in other.take_ready()))
        for conv in self.convs:
            seen += [conv.read(1 << 20), conv.heard_ms, conv.is_behind, conv.is_opening, conv.rx_bytes]
            seen += [conv.tx_bytes, conv.rx_datagrams, conv.tx_datagrams, conv.want_room, conv.kcp.in_flight]
            seen += [conv.sender and (conv.sender.data, conv.sender.parity, conv.sender.groups)]
            seen += [conv.receiver and (conv.receiver.rebuilt, conv.receiver.untrusted)]
        return [*seen, self.near.drops, self.far.drops, len(self.near.seen), len(self.far.seen)]


@given(
    st.sampled_from(QUICK), st.sampled_from([(0, 0), (2, 1), (5, 2), (3, 3)]), st.integers(0, 1 << 32),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 2000), st.integers(1, 60)), max_size=25),
)  # fmt: skip
def test_wires(crypt: str, shape: tuple[int, int], seed: int, steps: list[tuple[int, int, int]]) -> None:
    """A turn fits a vector here: after one that is cut, a held acknowledgement may leave earlier."""
    pairs = [Pair(engine, crypt, shape) for engine in ENGINES]
    fates = [random.Random(seed) for _ in ENGINES]
    now_ms = 0
    for near, far, later in [*steps, *[(0, 0, 100)] * 10]:
        now_ms += later
        writes = [bytes(near % 251 for _ in range(near)), bytes(far % 241 for _ in range(far))]
        compiled, plain = (pair.step(now_ms, writes, fate) for pair, fate in zip(pairs, fates, strict=True))
        assert compiled == plain


def test_a_turn_holds_back_for_its_pacer() -> None:
    """And parity leaves with its group."""
    pairs = [Pair(engine, "aes", (2, 1)) for engine in ENGINES]
    from kcpg.core.pacer import Pacer

    for pair in pairs:
        pair.convs[0].pacers = (Pacer(1_000_000, 400),)
    fates = [random.Random(3) for _ in ENGINES]
    for now_ms in range(0, 2000, 7):
        steps = [pair.step(now_ms, [bytes(2000)], fate) for pair, fate in zip(pairs, fates, strict=True)]
        assert steps[0] == steps[1]
