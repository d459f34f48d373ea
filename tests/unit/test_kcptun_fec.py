"""kcptun's FEC: its matrix, its shards, and that a receiver finds D and P out."""

from __future__ import annotations

import random

import pytest

from kcpg.core.kcp.params import CMD_PUSH, HEADER
from kcpg.core.kcptun import fec
from kcpg.core.kcptun.fec import DATA, GROUPS, PARITY, Shape, ShardReceiver
from tests.engines import twin

NUMBER = 0x12345678


def body(size: int, sn: int = 0) -> bytes:
    """One segment with so many bytes."""
    return HEADER.pack(NUMBER, CMD_PUSH, 0, 128, 0, sn, 0, size) + bytes((sn + i) & 255 for i in range(size))


def taken(receiver: ShardReceiver, shard: bytes) -> list[bytes]:
    number, kind = fec.HEADER.unpack_from(shard)
    assert kind in (DATA, PARITY)
    return receiver.take(number, kind == DATA, shard[fec.SHARD_BYTES :])


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((2, 1), ["0302"]),
        ((3, 2), ["010101", "0f0806"]),
        ((10, 3), ["8196afb8d2c4fee80302", "9681b8afc4d2e8fe0203", "bfd6620a066fdfb70504"]),
    ],
)
def test_the_matrix(shape: tuple[int, int], rows: list[str]) -> None:
    assert [row.hex() for row in fec.parity_rows(*shape)] == rows


def test_shards_byte_by_byte(engine: str) -> None:
    sender = twin(engine, "ShardSender")(3, 2)
    sent = [frame for text in (b"abc", b"defg", b"hi") for frame in sender.frames(text)]
    assert [frame.hex() for frame in sent] == [
        "00000000f1000500616263",
        "01000000f100060064656667",
        "02000000f10004006869",
        "03000000f20007006d6e0567",
        "04000000f2001b007f601c1f",
    ]
    assert (sender.groups, sender.parity_bytes) == (1, 12)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (5, 2), (10, 3), (20, 20), (200, 56)])
def test_any_d_of_the_shards_are_enough(engine: str, shape: tuple[int, int]) -> None:
    rng = random.Random(str(shape))
    sender, receiver = twin(engine, "ShardSender")(*shape), twin(engine, "ShardReceiver")(NUMBER)
    data, parity = shape
    for group in range(6):
        bodies = [body(rng.randrange(1300), sn=i) for i in range(data)]
        shards = [frame for each in bodies for frame in sender.frames(each)]
        assert len(shards) == data + parity
        lost = set(rng.sample(range(data + parity), parity)) if group > 2 else set()
        kept = [shard for place, shard in enumerate(shards) if place not in lost]
        rng.shuffle(kept[:data])
        back = [each for shard in kept for each in taken(receiver, shard)]
        assert sorted(back) == sorted(bodies[place] for place in lost if place < data)
    assert (receiver.shape.data, receiver.shape.parity) == shape
    assert receiver.untrusted == 0


@pytest.mark.parametrize("shape", [(1, 1), (5, 2), (10, 3), (128, 128)])
def test_the_shape_is_found_with_losses(shape: tuple[int, int]) -> None:
    data, parity = shape
    rng, length, found = random.Random(str(shape)), data + parity, Shape()
    for number in range(60 * length):
        if rng.random() > 1 / length:
            found.learn(number, number % length < data)
            assert (found.data, found.parity) in ((0, 0), shape)
    assert (found.data, found.parity) == shape


def test_a_peer_that_changes_its_shape_is_followed(engine: str) -> None:
    receiver = twin(engine, "ShardReceiver")(NUMBER)
    for shape in ((3, 1), (4, 2), (10, 3)):
        sender = twin(engine, "ShardSender")(*shape)
        back: list[bytes] = []
        for sn in range(12 * sum(shape)):
            for shard in sender.frames(body(100, sn)):
                if sn < 6 * sum(shape) or sn % shape[0]:
                    back += taken(receiver, shard)
        assert (receiver.shape.data, receiver.shape.parity) == shape
        assert len(back) >= 4


def test_the_number_begins_anew_before_it_overflows(engine: str) -> None:
    sender = twin(engine, "ShardSender")(10, 3)
    last = 0xFFFFFFFF // 13 * 13 - 13
    sender.number = last
    shards = [shard for sn in range(20) for shard in sender.frames(body(50, sn))]
    assert [fec.HEADER.unpack_from(shard)[0] for shard in shards] == [*range(last, last + 13), *range(13)]
    receiver = twin(engine, "ShardReceiver")(NUMBER)
    receiver.shape.data, receiver.shape.parity = 10, 3
    back = [each for i, shard in enumerate(shards) if i % 13 != 4 for each in taken(receiver, shard)]
    assert back == [body(50, 4), body(50, 14)]


def test_memory_is_bounded(engine: str) -> None:
    receiver = twin(engine, "ShardReceiver")(NUMBER)
    receiver.shape.data, receiver.shape.parity = 10, 3
    for number in range(0, 13_000, 2):
        if number % 13 < 10:
            receiver.take(number, True, body(10))
    assert receiver.held <= 10 * GROUPS
    shape = Shape()
    for number in range(0, 100_000, 3):
        shape.learn(number, True)
    assert len(shape._kinds) <= fec.SAMPLES


def test_what_is_rebuilt_must_be_segments_of_the_conversation(engine: str) -> None:
    sender, receiver = twin(engine, "ShardSender")(3, 1), twin(engine, "ShardReceiver")(NUMBER)
    receiver.shape.data, receiver.shape.parity = 3, 1
    shards = [
        shard for _ in range(3) for shard in sender.frames(b"no segment at all, but long enough for one")
    ]
    assert [taken(receiver, shard) for shard in shards[1:]] == [[], [], []]
    assert receiver.untrusted == 1


def test_without_a_shape_there_is_data_alone(engine: str) -> None:
    sender, shape = twin(engine, "ShardSender")(), Shape()
    numbers = [fec.HEADER.unpack_from(shard) for sn in range(30) for shard in sender.frames(body(9, sn))]
    assert numbers == [(number, DATA) for number in range(30)]
    sender.use(5, 2)
    shards = [shard for sn in range(10) for shard in sender.frames(body(9, sn))]
    found = [fec.HEADER.unpack_from(shard) for shard in shards]
    assert [number for number, _ in found] == list(range(35, 49)) and sender.groups == 2
    for number, kind in numbers + found:
        shape.learn(number, kind == DATA)
    assert (shape.data, shape.parity) == (0, 0)  # until the next group begins
    assert shape.learn(49, True) and (shape.data, shape.parity) == (5, 2)


def test_a_group_whose_begin_was_lost_tells_nothing() -> None:
    """Four data shards of five look like a group of four where the number fits."""
    shape = Shape()
    for number in [*range(36, 40), 40, 41, 42]:
        shape.learn(number, number < 40 or number == 42)
    assert (shape.data, shape.parity) == (0, 0)
