"""Groups of shards: what they look like, when they close, and what a receiver makes of what comes."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from kcpg.core.fec.group import GROUP_WAIT_MS, HEADER, PARITY_OVERHEAD_BYTES
from kcpg.core.fec.plan import OFF, Plan, plan_fixed
from kcpg.core.fec.receiver import GROUPS, LATE_IN_A_ROW
from tests.engines import twin

FOUR_TWO = Plan(4, (0, 2, 2, 2, 2))
MAX = 100


def sender(engine: str, plan: Plan = FOUR_TWO, **options: int) -> Any:
    made = twin(engine, "GroupSender")(MAX, **options)
    made.use(plan)
    return made


def receiver(engine: str, **options: int) -> Any:
    return twin(engine, "GroupReceiver")(MAX, **options)


def parity(made: Any) -> list[bytes]:
    out = []
    while (contents := made.parity()) is not None:
        out.append(contents)
    return out


def group(engine: str, payloads: list[bytes], number: int = 0, plan: Plan = FOUR_TWO) -> tuple[Any, Any]:
    """Data and parity frames of one group with that number."""
    made = sender(engine, plan)
    data = [made.protect(payload, 0) for payload in payloads]
    made.close()
    head = struct.pack(">I", number)
    return [head + each[4:] for each in data], [head + each[4:] for each in parity(made)]


PAYLOADS = [b"one", b"", b"three three", b"4" * MAX]


def test_layout(engine: str) -> None:
    made = sender(engine)
    data = [made.protect(payload, 7) for payload in PAYLOADS]
    assert data == [bytes((0, 0, 0, 0, i, 4, 2)) + payload for i, payload in enumerate(PAYLOADS)]
    frames = parity(made)
    blocks = [struct.pack(">H", len(payload)) + payload for payload in PAYLOADS]
    expected = twin("python", "Code")(4, 2).encode(blocks)
    assert frames == [bytes((0, 0, 0, 0, 4 + r, 4, 2, 4)) + expected[r] for r in range(2)]
    assert len(frames[0]) == MAX + PARITY_OVERHEAD_BYTES
    assert made.group == 1 and made.protect(b"", 8)[:5] == bytes((0, 0, 0, 1, 0))


def test_a_group_that_closes_early_counts_as_padded_with_empty_blocks(engine: str) -> None:
    made = sender(engine, Plan(4, (0, 1, 2, 2, 2)))
    made.protect(b"only", 0)
    made.close()
    expected = twin("python", "Code")(4, 2).encode([b"\0\4only", b"", b"", b""])
    assert parity(made) == [bytes((0, 0, 0, 0, 4, 4, 1, 1)) + expected[0]]


def test_groups_close_by_age(engine: str) -> None:
    made = sender(engine)
    assert made.deadline is None
    made.protect(b"a", 1000)
    made.protect(b"b", 1005)
    assert made.deadline == 1000 + GROUP_WAIT_MS
    made.expire(1000 + GROUP_WAIT_MS - 1)
    assert made.parity() is None
    made.expire(1000 + GROUP_WAIT_MS)
    assert made.deadline is None and len(parity(made)) == 2
    made.expire(5000)
    assert made.parity() is None


def test_times_beyond_32_bits(engine: str) -> None:
    made = sender(engine)
    made.use(FOUR_TWO, 20)
    made.protect(b"a", 1 << 40)
    assert made.deadline == (1 << 40) + 20


def test_off_and_another_plan(engine: str) -> None:
    made = twin(engine, "GroupSender")(MAX)
    assert not made.on
    made.use(FOUR_TWO)
    made.protect(b"a", 0)
    made.use(FOUR_TWO, 30)
    assert made.deadline == 30 and made.parity() is None, "the same plan leaves the group open"
    made.use(plan_fixed(10, 3))
    assert len(parity(made)) == 2, "another one closes it"
    assert made.protect(b"b", 0)[4:7] == bytes((0, 10, 3))
    made.use(OFF)
    assert not made.on and parity(made)


def test_a_sender_without_room_makes_fewer_parity_shards(engine: str) -> None:
    made = sender(engine, max_shards=3)
    for _ in range(8):
        made.protect(b"x", 0)
    frames = parity(made)
    assert [frame[4:8] for frame in frames] == [b"\4\4\2\4", b"\5\4\2\4", b"\4\4\1\4"] and made.short == 1


@pytest.mark.parametrize("lost", [(0, 1), (2, 3), (0, 3), (1, 4), (3, 5), (4, 5)])
def test_any_two_of_four_and_two(engine: str, lost: tuple[int, ...]) -> None:
    data, extra = group(engine, PAYLOADS)
    made = receiver(engine)
    got = []
    for index, frame in enumerate([*data, *extra]):
        if index not in lost:
            got += (made.receive_data if index < 4 else made.receive_parity)(frame)
    assert sorted(got) == sorted(PAYLOADS)
    assert made.recovered == sum(index < 4 for index in lost)


def test_parity_first(engine: str) -> None:
    data, extra = group(engine, PAYLOADS)
    made = receiver(engine)
    assert made.receive_parity(extra[1]) == [] == made.receive_parity(extra[0])
    assert made.receive_data(data[3]) == [PAYLOADS[3]]
    assert made.receive_data(data[1]) == [PAYLOADS[1], PAYLOADS[0], PAYLOADS[2]]
    assert made.receive_data(data[0]) == [], "it was rebuilt"
    assert made.duplicates == 1 and made.recovered == 2


def test_a_lone_shard_and_its_copies(engine: str) -> None:
    data, extra = group(engine, [b"ping"])
    made = receiver(engine)
    assert made.receive_parity(extra[1]) == [b"ping"]
    assert made.receive_data(data[0]) == [] == made.receive_parity(extra[0])
    assert made.receive_parity(extra[1]) == [] and made.duplicates == 2
    assert made.held == 0


def test_groups_out_of_order_and_across_the_wrap(engine: str) -> None:
    """Shards of 20 groups, interleaved backwards, the first of each lost."""
    made = receiver(engine)
    numbers = [(0xFFFFFFF6 + n) & 0xFFFFFFFF for n in range(20)]
    frames = {n: group(engine, [b"%d" % n, b"second", b"3", b"4"], n) for n in numbers}
    got = []
    for number in reversed(numbers):
        got += [payload for frame in frames[number][0][1:] for payload in made.receive_data(frame)]
    for number in reversed(numbers):
        got += made.receive_parity(frames[number][1][1])
    assert got[60:] == [b"%d" % n for n in reversed(numbers)]
    assert made.recovered == 20 and made.late == 0 and made.held == 1


def test_late_shards(engine: str) -> None:
    made = receiver(engine)
    old, old_extra = group(engine, PAYLOADS, 100)
    made.receive_data(old[0])
    made.receive_data(group(engine, PAYLOADS, 100 + GROUPS)[0][0])
    assert made.receive_data(old[1]) == [PAYLOADS[1]], "it may be new"
    assert made.receive_parity(old_extra[0]) == []
    assert made.late == 2 and made.held == 1


def test_a_peer_that_counts_anew_is_followed(engine: str) -> None:
    made = receiver(engine)
    made.receive_data(group(engine, PAYLOADS, 1 << 30)[0][0])
    for number in range(LATE_IN_A_ROW - 1):
        assert made.receive_data(group(engine, [b"x"], number)[0][0]) == [b"x"]
    data, extra = group(engine, PAYLOADS, LATE_IN_A_ROW - 1)
    got = [payload for frame in data[1:] for payload in made.receive_data(frame)]
    assert got + made.receive_parity(extra[0]) == [*PAYLOADS[1:], PAYLOADS[0]]
    assert made.late == LATE_IN_A_ROW and made.recovered == 1


def test_what_stays_lost_is_counted(engine: str) -> None:
    made = receiver(engine)
    data, extra = group(engine, PAYLOADS, 0)
    made.receive_data(data[2])
    made.receive_parity(extra[0])
    assert made.lost == 0
    made.receive_data(group(engine, PAYLOADS, GROUPS)[0][0])
    assert made.lost == 3 and made.held == 1
    made.forget()
    assert made.held == 0 and made.lost == 3, "without parity nobody knows how many there were"


def test_memory_is_bounded_and_the_oldest_gives_way(engine: str) -> None:
    made = receiver(engine, max_shards=6)
    frames = [group(engine, PAYLOADS, number) for number in range(3)]
    for data, _ in frames:
        for frame in data[1:]:
            made.receive_data(frame)
            assert made.held <= 6
    assert made.receive_parity(frames[0][1][0]) == [], "group 0 was given up"
    assert made.receive_data(frames[0][0][0]) == [PAYLOADS[0]], "and what comes of it is handed on"
    assert made.receive_data(frames[0][0][1]) == [] and made.duplicates == 1
    assert made.receive_parity(frames[2][1][0]) == [PAYLOADS[0]], "group 1 gave way"
    assert made.recovered == 1 and made.held == 1


def test_no_room_at_all(engine: str) -> None:
    made = receiver(engine, max_shards=1)
    data, extra = group(engine, PAYLOADS)
    assert [made.receive_data(frame) for frame in data[:3]] == [[payload] for payload in PAYLOADS[:3]]
    assert made.receive_parity(extra[0]) == [] and made.unkept == 3
    assert made.receive_data(data[3]) == [PAYLOADS[3]] and made.held == 0


MALFORMED_DATA = [
    b"",
    bytes(6),
    HEADER.pack(0, 0, 0, 2),  # no data shards
    HEADER.pack(0, 4, 4, 2),  # a parity shard's index
    HEADER.pack(0, 0, 200, 56),  # more than 255 in all
    HEADER.pack(0, 0, 4, 2) + bytes(MAX + 1),
]
MALFORMED_PARITY = [
    b"",
    HEADER.pack(0, 4, 4, 2) + b"\4",
    HEADER.pack(0, 4, 4, 2) + b"\4\0",  # no length in the block
    HEADER.pack(0, 3, 4, 2) + b"\4\0\0",  # a data shard's index
    HEADER.pack(0, 6, 4, 2) + b"\4\0\0",
    HEADER.pack(0, 4, 4, 2) + b"\0\0\0",  # k
    HEADER.pack(0, 4, 4, 2) + b"\5\0\0",
    HEADER.pack(0, 4, 4, 2) + b"\4" + bytes(MAX + 3),
]


def test_malformed(engine: str) -> None:
    made = receiver(engine)
    for count, contents in enumerate(MALFORMED_DATA, 1):
        assert made.receive_data(contents) == [] and made.malformed == count, contents
    for count, contents in enumerate(MALFORMED_PARITY, 1 + len(MALFORMED_DATA)):
        assert made.receive_parity(contents) == [] and made.malformed == count, contents
    assert made.held == 0


def test_shards_that_contradict_each_other(engine: str) -> None:
    data, extra = group(engine, PAYLOADS)
    made = receiver(engine)
    made.receive_data(data[2])
    wrong_data = [HEADER.pack(0, 0, 5, 2) + b"x"]
    wrong_parity = [
        extra[0][:7] + b"\2" + extra[0][8:],  # k = 2, but shard 2 came
        extra[0][:7] + b"\4" + extra[0][8:16],  # shorter than what came
        HEADER.pack(0, 4, 4, 2)[:5] + b"\3\2\3" + bytes(50),  # another D
    ]
    for contents in wrong_parity:
        assert made.receive_parity(contents) == []
    for contents in wrong_data:
        assert made.receive_data(contents) == []
    assert made.malformed == 4
    made.receive_parity(extra[0])
    assert made.receive_parity(extra[1][:-1]) == [], "another length than its sibling"
    assert made.receive_parity(extra[1][:7] + b"\3" + extra[1][8:]) == [], "another k"
    assert made.malformed == 6
    assert made.receive_data(data[0]) == [PAYLOADS[0]]
    assert sorted(made.receive_parity(extra[1])) == sorted((PAYLOADS[1], PAYLOADS[3]))


def test_a_rebuilt_block_that_is_no_payload_is_dropped(engine: str) -> None:
    made = receiver(engine)
    assert made.receive_parity(HEADER.pack(0, 1, 1, 1) + b"\1" + b"\0\5abcd") == [], "longer than its block"
    assert made.receive_parity(HEADER.pack(1, 1, 1, 1) + b"\1" + b"\0\2abcd") == [], (
        "padded with other than zeros"
    )
    assert made.malformed == 2 and made.recovered == 0 and made.held == 0
    assert made.receive_data(HEADER.pack(0, 0, 1, 1) + b"true") == [b"true"]
