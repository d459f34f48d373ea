"""Whatever bytes come: kcptun's parsers and legs raise nothing but what they say, and keep little."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kcpg.app.config import load_text
from kcpg.core.env import Env
from kcpg.core.flow import Flow, Open
from kcpg.core.kcp.params import CMD_PUSH, HEADER
from kcpg.core.kcptun import cipher, fec, smux, snappy
from kcpg.core.kcptun.listener import ListenSettings, TunListener
from kcpg.core.kcptun.wire import Format
from tests.engines import twin

SECRET = bytes(range(32))
PIECES = st.lists(st.binary(max_size=200), max_size=30)
QUICK = [name for name in cipher.CRYPTS if name not in cipher.SLOW]


@given(st.sampled_from(QUICK), st.binary(max_size=2000))
def test_opening_never_raises(engine: str, crypt: str, datagram: bytes) -> None:
    twin(engine, "Cipher")(crypt, SECRET).open(datagram)


@given(
    st.sampled_from(cipher.CRYPTS), st.binary(min_size=1, max_size=300), st.binary(min_size=16, max_size=16)
)
def test_what_is_sealed_opens(engine: str, crypt: str, body: bytes, nonce: bytes) -> None:
    made = twin(engine, "Cipher")(crypt, SECRET)
    assert made.open(made.seal(nonce[: made.nonce_bytes], body)) == body


@given(PIECES, st.booleans())
def test_snappy_streams(pieces: list[bytes], begins: bool) -> None:
    reader = snappy.Reader()
    try:
        if begins:
            reader.feed(snappy.IDENTIFIER)
        for piece in pieces:
            reader.feed(piece)
            assert reader.held <= snappy.BLOCK_BYTES + snappy.HEADER_BYTES
    except snappy.Malformed:
        pass


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=10), st.integers(1, 500), st.data())
def test_snappy_damaged(texts: list[bytes], step: int, data: Any) -> None:
    writer, reader = snappy.Writer(), snappy.Reader()
    stream = bytearray(b"".join(map(writer.pack, texts)))
    harmed = bool(stream) and data.draw(st.booleans())
    if harmed:
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        back = b"".join(reader.feed(bytes(stream[at : at + step])) for at in range(0, len(stream), step))
    except snappy.Malformed:
        assert harmed
    else:
        assert harmed or back == b"".join(texts)


@given(PIECES, st.integers(0, 2))
def test_smux_streams(engine: str, pieces: list[bytes], version: int) -> None:
    parser = twin(engine, "Parser")(version)
    try:
        for piece in pieces:
            for command, number, body in parser.feed(piece):
                assert command <= smux.UPD and 0 <= number < 2**32 and len(body) < 65536
            assert parser.held < smux.FRAME_BYTES + smux.UPDATE_BYTES
    except smux.Malformed:
        pass


@given(st.integers(1, 20), st.integers(1, 8), st.randoms(use_true_random=False), st.integers(3, 20))
def test_what_is_rebuilt_is_what_was_lost(
    engine: str, data: int, parity: int, rng: random.Random, groups: int
) -> None:
    """Through any losses and reordering, nothing that was not sent comes out."""
    sender, receiver = twin(engine, "ShardSender")(data, parity), twin(engine, "ShardReceiver")(7)
    bodies = []
    for sn in range(groups * data):
        size = rng.randrange(100)
        bodies.append(HEADER.pack(7, CMD_PUSH, 0, 1, 0, sn, 0, size) + rng.randbytes(size))
    shards = [shard for body in bodies for shard in sender.frames(body)]
    kept = [shard for shard in shards if rng.random() > 0.15]
    for at in range(0, len(kept) - 4, 5):
        part = kept[at : at + 4]
        rng.shuffle(part)
        kept[at : at + 4] = part
    for shard in kept:
        number, kind = fec.HEADER.unpack_from(shard)
        for back in receiver.take(number, kind == fec.DATA, shard[fec.SHARD_BYTES :]):
            assert back in bodies
    assert receiver.shape.data in (0, data) and receiver.untrusted == 0


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.booleans(), st.binary(max_size=60)), max_size=200))
def test_shards_of_anybody(engine: str, shards: list[tuple[int, bool, bytes]]) -> None:
    receiver = twin(engine, "ShardReceiver")(7)
    for number, is_data, block in shards:
        receiver.take(number, is_data, block)
    assert receiver.held <= fec.GROUPS * fec.MAX_SHARDS


def _listener() -> TunListener:
    rng = random.Random(1)

    def nothing(*_: object) -> Any:
        raise AssertionError("a listener asks for no sockets and no names")

    env = Env(rng.randbytes, rng, lambda: 0, nothing, nothing, lambda event: None, nothing)
    leg = TunListener(ListenSettings("fuzz", Format("null", b"")), env)
    leg.start(0)
    return leg


SEGMENT = st.builds(
    lambda number, command, frg, wnd, sn, una, body, lies: (
        HEADER.pack(number, command, frg, wnd, 0, sn, una, len(body) + lies) + body
    ),
    st.integers(1, 3), st.integers(80, 85), st.sampled_from([0, 0, 0, 1, 255]), st.integers(0, 65535),
    st.integers(0, 5), st.integers(0, 3), st.one_of(
        st.binary(max_size=40),
        st.builds(smux.frame, st.integers(1, 2), st.integers(0, 5), st.integers(2, 6), st.binary(max_size=9)),
        st.builds(lambda data: snappy.Writer().pack(data), st.binary(min_size=1, max_size=40)),
    ), st.sampled_from([0, 0, 0, 1]),
)  # fmt: skip
SHARD = st.builds(
    lambda number, kind, body: fec.HEADER.pack(number, kind) + (len(body) + 2).to_bytes(2, "little") + body,
    st.integers(0, 20), st.sampled_from([fec.DATA, fec.PARITY]), SEGMENT,
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, 3), st.one_of(st.binary(max_size=60), SEGMENT, SHARD)), max_size=40))
def test_a_listener_takes_anything(datagrams: list[tuple[int, bytes]]) -> None:
    """With `null`, so that every datagram counts."""
    leg = _listener()
    flows: list[Flow] = []

    def on_flow(flow: Flow, _open: Open, _now_ms: int) -> None:
        flows.append(flow)

    leg.on_flow = on_flow
    for now_ms, (addr, datagram) in enumerate(datagrams):
        leg.receive(1, bytes([addr]), datagram, now_ms)
        leg.advance(now_ms)
        leg.transmit(now_ms)
    for flow in flows:
        flow.read(1000)
        flow.end()
    for now_ms in range(0, 200_000, 1000):
        leg.advance(now_ms)
        leg.transmit(now_ms)
    assert not leg.links and not leg.wire.convs


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.floats(), st.lists(st.integers())
)
NAMES = st.sampled_from(
    ["localaddr", "remoteaddr", "listen", "target", "key", "crypt", "mode", "mtu", "conn", "x"]
)


@given(st.dictionaries(NAMES, VALUES))
def test_files_of_kcptun(options: dict[str, object]) -> None:
    for problem in load_text("a.json", json.dumps(options)).problems:
        assert str(problem).startswith("a.json")
