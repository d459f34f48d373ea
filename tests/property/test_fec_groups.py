"""Groups on a hostile path: the engines do the same, and what is handed on is what was sent, once."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.core.fec.plan import Plan, plan_fixed, plan_for
from tests.engines import ENGINES, twin

MAX = 64
COUNTERS = ("recovered", "lost", "duplicates", "late", "malformed", "unkept", "held")

plans = st.one_of(
    st.builds(plan_fixed, st.integers(1, 12), st.integers(1, 6)),
    st.builds(plan_for, st.floats(0.002, 0.5), st.floats(1, 8), st.integers(1, 20)),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.binary(max_size=MAX), st.integers(0, 4)),
        st.tuples(st.just("expire"), st.integers(0, 12)),
        st.tuples(st.just("use"), plans, st.integers(0, 20)),
        st.tuples(st.just("close")),
        st.tuples(st.just("parity")),
    ),
    max_size=80,
)

Frame = tuple[int, bytes]  # 0 data, 1 parity


def drive(engine: str, plan: Plan, script: list[Any], max_shards: int) -> list[object]:
    """Everything a sender answers."""
    made = twin(engine, "GroupSender")(MAX, max_shards)
    made.use(plan)
    now_ms, seen = 0, list[object]()
    for step in script:
        if step[0] == "send":
            now_ms += step[2]
            seen.append(made.protect(step[1], now_ms))
        elif step[0] == "expire":
            now_ms += step[1]
            made.expire(now_ms)
        elif step[0] == "use":
            made.use(step[1], step[2])
        elif step[0] == "close":
            made.close()
        else:
            seen.append(made.parity())
        seen.append((made.on, made.group, made.deadline, made.short))
    return seen


@given(plans, steps, st.integers(1, 30))
@settings(max_examples=40)
def test_senders_agree(plan: Plan, script: list[Any], max_shards: int) -> None:
    compiled, python = (drive(engine, plan, script, max_shards) for engine in ENGINES)
    assert compiled == python


def frames_of(plan: Plan, rng: random.Random, payloads: int, first: int) -> list[Frame]:
    """Shards of groups of random sizes, numbered from `first` on."""
    made = twin("python", "GroupSender")(MAX)
    made.use(plan)
    made.group = first
    frames: list[Frame] = []
    for n in range(payloads):
        payload = n.to_bytes(2, "big") + rng.randbytes(rng.choice((0, 5, MAX - 2)))
        frames.append((0, made.protect(payload, n)))
        if rng.random() < 0.1:
            made.close()
        while (contents := made.parity()) is not None:
            frames.append((1, contents))
    return frames


def hurt(frames: list[Frame], rng: random.Random, wrong: float) -> list[Frame]:
    """Lost, doubled, shuffled within reach; and `wrong` of them with damage no honest peer does."""
    kept = [frame for frame in frames if rng.random() > 0.15 for _ in range(1 + (rng.random() < 0.1))]
    order = sorted(range(len(kept)), key=lambda n: n + rng.random() * 30)
    return [damaged(kept[n], rng) if rng.random() < wrong else kept[n] for n in order]


def damaged(frame: Frame, rng: random.Random) -> Frame:
    kind, contents = frame
    choice = rng.randrange(4)
    if choice == 0:
        return 1 - kind, contents
    if choice == 1:
        return kind, contents[: rng.randrange(len(contents) + 1)]
    if choice == 2:
        return kind, contents + rng.randbytes(rng.randrange(1, 5))
    changed = bytearray(contents)
    changed[rng.randrange(min(len(changed), 12))] = rng.randrange(256)
    return kind, bytes(changed)


def take(made: Any, frame: Frame) -> list[bytes]:
    got: list[bytes] = (made.receive_parity if frame[0] else made.receive_data)(frame[1])
    return got


firsts = st.sampled_from([0, 7, (1 << 31) - 3, (1 << 32) - 5])


@given(plans, st.integers(0, 1 << 32), firsts, st.integers(1, 60), st.sampled_from([0.0, 0.05, 0.5]))
@settings(max_examples=60)
def test_receivers_agree_on_anything(plan: Plan, seed: int, first: int, room: int, wrong: float) -> None:
    rng = random.Random(seed)
    frames = hurt(frames_of(plan, rng, 80, first), rng, wrong)
    compiled, python = (twin(engine, "GroupReceiver")(MAX, room) for engine in ENGINES)
    for frame in frames:
        assert take(compiled, frame) == take(python, frame), frame
        for name in COUNTERS:
            assert getattr(compiled, name) == getattr(python, name), (name, frame)
        assert compiled.held <= room
    compiled.forget()
    assert compiled.held == 0


@given(plans, st.integers(0, 1 << 32), firsts)
@settings(max_examples=40)
def test_each_payload_once_and_all_that_can_be_rebuilt(
    engine: str, plan: Plan, seed: int, first: int
) -> None:
    """Against the definition: a group of k with at least k shards there gives all its payloads."""
    rng = random.Random(seed)
    sent = frames_of(plan, rng, 60, first)
    arrived = hurt(sent, rng, 0.0)
    made = twin(engine, "GroupReceiver")(MAX)
    got = [payload for frame in arrived for payload in take(made, frame)]
    assert len(got) == len(set(got)), "nothing twice"
    groups: dict[bytes, list[Frame]] = {}
    for frame in sent:
        groups.setdefault(frame[1][:4], []).append(frame)
    there = set(arrived)
    expected = set()
    for frames in groups.values():
        payloads = [contents[7:] for kind, contents in frames if kind == 0]
        known = [frame for frame in frames if frame in there]
        enough = len(known) >= len(payloads)
        expected |= {
            p for (kind, c), p in zip(frames, payloads, strict=False) if enough or (kind, c) in there
        }
    assert made.late == 0 or len(groups) > 32
    assert set(got) == expected or made.late
