"""Groups of shards on a path that the input is: both engines hand on the same, and keep to their room."""

from __future__ import annotations

import random

from kcpg.core.fec.plan import plan_fixed
from tests.engines import ENGINES, twin
from tests.fuzz.draw import Draw, magnitude
from tests.property.test_fec_groups import COUNTERS, MAX, Frame, frames_of, take

CODES = ((1, 1), (2, 1), (3, 2), (5, 5), (12, 6), (200, 55))


def run(data: bytes) -> object:
    """Shards of an honest sender, in any order, some of them changed, and shards of nobody."""
    draw = Draw(data)
    plan, room = plan_fixed(*draw.pick(CODES)), 1 + draw.below(60)
    first = draw.pick((0, 7, (1 << 31) - 3, (1 << 32) - 5))
    frames = frames_of(plan, random.Random(draw.number()), 60, first)
    compiled, python = (twin(engine, "GroupReceiver")(MAX, room) for engine in ENGINES)
    at = 0
    while draw.more:
        frame = frames[at % len(frames)]
        at += 1 + draw.pick((0, 0, 0, 1, 2, 40))
        frame = _changed(frame, draw)
        assert take(compiled, frame) == take(python, frame), frame
        facts = [tuple(getattr(made, name) for name in COUNTERS) for made in (compiled, python)]
        assert facts[0] == facts[1] and compiled.held <= room
    told = tuple(magnitude(getattr(python, name)) for name in COUNTERS)
    for made in (compiled, python):
        made.forget()
        assert made.held == 0
    return told


def _changed(frame: Frame, draw: Draw) -> Frame:
    kind, contents = frame
    match draw.below(10):
        case 0:
            return 1 - kind, contents
        case 1:
            return kind, contents[: draw.below(len(contents) + 1)]
        case 2:
            return kind, contents + draw.bytes(draw.below(9))
        case 3 | 4 if contents:
            where = draw.below(min(len(contents), 12))
            return kind, contents[:where] + bytes((draw.number(),)) + contents[where + 1 :]
        case 5:
            return draw.below(2), draw.bytes(draw.below(80))
    return frame
