"""Sealed frames of a peer that violates the protocol, against the data plane of both engines, in step.

The peer has the keys, so nothing of it is dropped before its contents are looked at.
"""

from __future__ import annotations

import random
import struct
from typing import Any

from kcpg.core.fec.plan import plan_fixed
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.wire import frames
from kcpg.core.seal.seal import iv_bytes
from tests.fuzz.draw import Draw, magnitude
from tests.lockstep import ALGORITHM, OTHER_PATH, EngineRig, LockStep
from tests.property.test_fec_groups import frames_of
from tests.wires import C2S, PATH_A, key, make_wire

STEPS = 120
WINDOWS = (1, 4, 64, 1024)
KINDS = (*range(18), 128, 255)
LINK, LINKS = 0, 1


def run(data: bytes) -> object:
    """Side b of both engines, used by its applications meanwhile; side a is the attacker."""
    draw = Draw(data)
    flags = draw.number()
    params = KcpParams(
        nodelay=draw.below(3), interval_ms=draw.pick((1, 10, 30)), resend=draw.below(3), nc=bool(flags & 1),
        snd_wnd=draw.pick(WINDOWS), rcv_wnd=draw.pick(WINDOWS),
    )  # fmt: skip
    size, datagram_bytes = draw.pick(((1500, 1400), (1500, 600), (9000, 8972)))
    step = LockStep(params=params, links=LINKS, control=bool(flags & 2), max_datagram=size)
    for rig in step.rigs:
        for side in "ab":
            rig.link_wires[side][LINK].datagram_bytes = datagram_bytes
        if flags & 4:
            rig.link_wires["b"][LINK].fec_use(plan_fixed(3, 2), 8, False)
        rig.link_wires["b"][LINK].counts_losses = bool(flags & 8)
    attacker = make_wire("python", "a", max_datagram=9000).link_wire("attacker")
    attacker.install_tx(EngineRig.cid("b", LINK, 0), ALGORITHM, key(C2S, 0), bytes(iv_bytes(ALGORITHM)))
    shards = frames_of(plan_fixed(3, 2), random.Random(flags), 30, draw.pick((0, 2**32 - 5)))
    for _ in range(STEPS):
        if not draw.more:
            break
        _act(draw, step, attacker, shards)
        step.do("news", lambda rig: rig.news("b"), "b")
        step.now_ms += draw.pick((0, 0, 0, 1, 5, 40, 300, 20_000))
    wire = step.rigs[1].wires["b"]
    return tuple(sorted((name, magnitude(count)) for name, count in wire.drops.items()))


def _act(draw: Draw, step: LockStep, attacker: Any, shards: list[tuple[int, bytes]]) -> None:
    path = OTHER_PATH if draw.below(16) == 15 else PATH_A
    match draw.below(10):
        case 0 | 1 | 2:
            step.receive("b", path, attacker.seal(bytes((frames.KCP,)) + _segments(draw, step)))
        case 3:
            step.receive("b", path, attacker.seal(bytes((draw.pick(KINDS),)) + draw.bytes(draw.below(80))))
        case 4:
            step.receive("b", path, attacker.seal(_shard(draw, shards)))
        case 5:
            head = struct.pack("<IBB", draw.near(0), draw.below(8), draw.below(8))
            part = bytes((frames.KCP,)) + _segments(draw, step) if draw.below(2) else draw.blob(1400)
            step.receive("b", path, attacker.seal(bytes((frames.PIECE,)) + head + part))
        case 6:
            step.receive("b", path, draw.bytes(draw.below(80)))
        case 7:
            step.transmit("b")
        case _:
            _use(draw, step)


def _use(draw: Draw, step: LockStep) -> None:
    """What applications and the link do."""
    number = 1 + draw.below(4)
    if step.rigs[0].conv("b", LINK, number) is None:
        step.do("open", lambda rig: bool(rig.link_wires["b"][LINK].open(number, rig.params).conv), "b")
    name, arguments = _call(draw)
    if name == "close":
        step.do("close", lambda rig: rig.link_wires["b"][LINK].close(number), "b")
    elif name == "hurry":
        step.do("hurry", lambda rig: rig.link_wires["b"][LINK].hurry(step.now_ms), "b")
    else:
        step.do(name, lambda rig: getattr(rig.conv("b", LINK, number), name)(*arguments), "b")


def _call(draw: Draw) -> tuple[str, tuple[Any, ...]]:
    match draw.below(9):
        case 0 | 1:
            return "write", (draw.blob(20_000),)
        case 2:
            return "read", (draw.pick((1, 2000, 1 << 20)),)
        case 3:
            return "recv", ()
        case 4:
            return "send", (draw.blob(5000),)
        case 5:
            return "send_packets", ([draw.blob(1400) for _ in range(draw.below(5))], bool(draw.below(2)))
        case 6:
            return "recv_packets", (draw.pick((1, 5, 100)),)
        case 7:
            return "close", ()
        case _:
            return "hurry", ()


def _segments(draw: Draw, step: LockStep) -> bytes:
    """KCP segments at the edges of windows, numbers and lengths."""
    found = b""
    for _ in range(1 + draw.below(5)):
        number = 1 + draw.below(8) if draw.below(16) else draw.number(4)
        conv = step.rigs[1].conv("b", LINK, number)
        received, acked = (conv.rcv_nxt, conv.snd_una) if conv is not None else (0, 0)
        body = draw.blob(1300)
        size = len(body) if draw.below(16) else draw.number(4)
        found += struct.pack(
            "<IBBHIIII",
            number,
            draw.pick((81, 81, 81, 82, 82, 83, 84, 80)),
            draw.pick((0, 0, 0, 1, 2, 127, 0x80, 0xFF)),
            draw.pick((0, 1, 1024, 65535)),
            draw.near(1000),
            draw.near(received if draw.below(2) else acked),
            draw.near(acked),
            size,
        )
        found += body
    return found[:8900]


def _shard(draw: Draw, shards: list[tuple[int, bytes]]) -> bytes:
    """A shard of a group, as it is or changed."""
    kind, contents = draw.pick(shards)
    if draw.below(3) == 0 and contents:
        at = draw.below(min(len(contents), 12))
        contents = contents[:at] + bytes((draw.number(),)) + contents[at + 1 :]
    if draw.below(8) == 0:
        contents = contents[: draw.below(len(contents) + 1)]
    return bytes((frames.FEC_PARITY if kind else frames.FEC_DATA,)) + contents
