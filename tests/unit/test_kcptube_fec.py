"""kcptube's FEC: the bytes of shards, what is rebuilt, and what is not trusted."""

from __future__ import annotations

import random
import struct

import pytest

from kcpg.core.fec import code as fec
from kcpg.core.kcptube.fec import GROUPS, ShardReceiver, ShardSender, is_segments

CONV = 0x11223344


def segment(size: int, number: int = CONV) -> bytes:
    return struct.pack("<IBBHIIII", number, 81, 0, 128, 1, 2, 3, size) + bytes(range(256)) * (size // 256 + 1)


def block(size: int, number: int = CONV) -> bytes:
    return segment(size, number)[: 24 + size]


def parts(frame: bytes) -> tuple[int, int, bytes]:
    """Group, index, contents."""
    group, index = struct.unpack_from(">IB", frame)
    return group, index, frame[5:]


def test_the_bytes_of_a_group() -> None:
    sender = ShardSender(2, 2, CONV)
    first, second = block(30), segment(30)[24:78]
    assert sender.frames(first) == [bytes.fromhex("0000000000") + first]
    shard, *parity = sender.frames(second)
    assert shard == bytes.fromhex("0000000001") + second
    blocks = [bytes([0, 54]) + first, bytes([0, 54]) + second]
    for row, frame in enumerate(parity):
        assert frame[:9].hex() == f"00000000{2 + row:02x}11223344"
        assert frame[9:] == fec.combine([[3, 2], [5, 4]][row], blocks, 56)
    assert parts(sender.frames(first)[0])[:2] == (1, 0)


@pytest.mark.parametrize(("data", "parity"), [(1, 1), (3, 2), (20, 4), (100, 155)])
def test_any_parity_gives_back_what_was_lost(data: int, parity: int) -> None:
    rng = random.Random(f"{data}:{parity}")
    sender, receiver = ShardSender(data, parity, CONV), ShardReceiver(data, parity, CONV)
    for _ in range(20):
        frames = [frame for _ in range(data) for frame in sender.frames(block(1200))]
        lost = set(rng.sample(range(data), min(data, parity)))
        found = []
        for frame in frames:
            group, index, contents = parts(frame)
            if index not in lost:
                found += receiver.take(group, index, contents if index < data else contents[4:])
        assert found == [block(1200)] * len(lost)
    assert receiver.untrusted == 0 and receiver.held == 0


def test_a_shorter_block_makes_the_rest_untrusted() -> None:
    """As a kcptube sends it."""
    receiver, short, long = ShardReceiver(2, 1, CONV), block(10), block(500)
    blocks = [len(short).to_bytes(2, "big") + short + bytes(490), len(long).to_bytes(2, "big") + long]
    (parity,) = fec.Code(2, 1).encode(blocks)
    assert receiver.take(0, 0, short) == []
    assert receiver.take(0, 2, bytes(parity)) == []
    assert receiver.untrusted == 1 and receiver.rebuilt == 0


def test_blocks_of_unequal_length_get_no_parity() -> None:
    """A kcptube would rebuild the longer ones wrongly, and deliver them."""
    sender = ShardSender(3, 2, CONV)
    sent = [sender.frames(block(size)) for size in (500, 10, 500, 400, 400, 400)]
    assert [len(frames) for frames in sent] == [1, 1, 1, 1, 1, 3]
    assert [parts(frames[0])[:2] for frames in sent] == [(g, i) for g in (0, 1) for i in range(3)]
    assert sender.groups == 1 and sender.parity_bytes == 2 * (2 + 24 + 400)


def test_wrong_parity_is_not_believed() -> None:
    """Older versions of kcptube send it."""
    receiver, rng = ShardReceiver(2, 1, CONV), random.Random(1)
    for group in range(500):
        assert receiver.take(group, 0, block(500)) == []
        assert receiver.take(group, 2, rng.randbytes(526)) == []
    assert receiver.untrusted == 500


def test_old_groups_are_forgotten_and_numbers_may_wrap() -> None:
    receiver = ShardReceiver(3, 1, CONV)
    for group in range((1 << 32) - 100, (1 << 32) + 100):
        receiver.take(group & 0xFFFFFFFF, 0, block(10))
        assert receiver.held <= GROUPS
    assert receiver.take((99 - GROUPS) & 0xFFFFFFFF, 1, block(10)) == []
    assert receiver.held == GROUPS


def test_a_late_shard_of_the_group_before_does_no_harm() -> None:
    sender, receiver = ShardSender(2, 1, CONV), ShardReceiver(2, 1, CONV)
    one = [frame for _ in range(2) for frame in sender.frames(block(100))]
    two = [frame for _ in range(2) for frame in sender.frames(block(100))]
    receiver.take(*parts(two[0]))
    receiver.take(*parts(one[0]))
    group, index, contents = parts(two[2])
    assert receiver.take(group, index, contents[4:]) == [block(100)]


def test_segments() -> None:
    assert is_segments(block(0), CONV) and is_segments(block(5) + block(7), CONV)
    assert not is_segments(b"", CONV) and not is_segments(block(5)[:-1], CONV)
    assert not is_segments(block(5, CONV + 1), CONV) and not is_segments(block(5) + b"x", CONV)
