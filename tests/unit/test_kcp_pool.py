"""The slot pool that the conversations of a leg share: nobody can fill it so that nothing moves any more."""

from __future__ import annotations

import random

from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcp.params import QUEUE_SEGMENTS
from kcpg.core.native.wire.conv import WRITABLE
from kcpg.core.native.wire.events import READY
from tests.wires import CID_A, CID_B, PATH_A, PATH_B, WirePair, make_wire

SLOTS = 512
SLOT_BYTES = 1536  # 1,500, rounded up as the wire does


def tight_ends() -> WirePair:
    """Two wires with a pool of SLOTS slots each, and windows of which two could take a whole pool."""
    ends = WirePair("compiled", KcpParams(nodelay=1, interval_ms=10, snd_wnd=400, rcv_wnd=400))
    ends.wires = {side: make_wire("compiled", side, pool_bytes=SLOTS * SLOT_BYTES) for side in "ab"}
    ends.a, ends.b = (ends.wires[side].link_wire(side) for side in "ab")
    ends.install(CID_A, CID_B, 0)
    ends.a.set_path(*PATH_B)
    ends.b.set_path(*PATH_A)
    ends.b.accept = lambda number: ends.b.open(number, ends.params)
    return ends


def test_stalled_readers_leave_slots_for_a_live_flow() -> None:
    """Three readers stop, their writers push what goes; a fourth flow goes on all the same."""
    ends = tight_ends()
    stalled = [ends.open(number) for number in (1, 2, 3)]
    for _ in range(20):
        for conv in stalled:
            conv.write(bytes(60_000))
        ends.run(20)
    assert SLOTS * 3 // 4 < ends.wires["b"].held_slots < SLOTS
    assert 3 * 32 <= ends.wires["a"].held_slots < SLOTS // 4, "each its 32, and a fair part of the rest"

    live = ends.open(4)
    data = random.Random(1).randbytes(200_000)
    sent, got = 0, bytearray()
    for _ in range(500):
        sent += live.write(data[sent : sent + 20_000])
        ends.run(20)
        got += ends.peer(live).read(1 << 20)
        if len(got) == len(data):
            break
    assert got == data

    for conv in stalled:
        ends.a.close(conv.conv)
    assert ends.wires["a"].held_slots == 0


def test_a_closed_gap_frees_what_waited_for_it() -> None:
    """What lies beyond a gap may not take the last slots: the segment that closes the gap needs one."""
    ends = tight_ends()
    convs = [ends.open(number) for number in (1, 2)]

    rng = random.Random(2)
    data = [rng.randbytes(400_000) for _ in convs]
    sent, got = [0, 0], [bytearray(), bytearray()]
    ends.lose = lambda sender, datagram: sender == "a" and rng.random() < 0.2
    for _ in range(2000):
        for j, conv in enumerate(convs):
            sent[j] += conv.write(data[j][sent[j] :])
        ends.run(20)
        for j, conv in enumerate(convs):
            if conv.conv in ends.b.convs:
                got[j] += ends.peer(conv).read(1 << 20)
        if got == data:
            break
    assert got == data
    assert ends.wires["b"].held_slots == 0


def test_a_relayed_flow_hears_of_segments_that_others_gave_back() -> None:
    """What it waits for is in the pool, not in its own queue; without being told it would wait for ever."""
    ends = tight_ends()
    holding = [ends.open(number) for number in (1, 2, 3, 4)]
    waiting = ends.open(9)
    while sum(conv.write(bytes(60_000)) for conv in holding):
        pass
    while waiting.write(bytes(60_000)):
        pass
    assert waiting.room == 0 and waiting.want_room and waiting.queued < QUEUE_SEGMENTS
    ends.taken("a", READY)
    waiting.take_events()
    assert (waiting,) not in ends.taken("a", READY) and not ends.wires["a"].news
    for conv in holding:
        ends.a.close(conv.conv)
    assert ends.wires["a"].news, "else a node that only moves bytes is not advanced"
    assert ends.taken("a", READY) == [(waiting,)] and waiting.take_events() == WRITABLE
    assert ends.taken("a", READY) == [], "said once"
