"""The slot pool that the conversations of a leg share: nobody can fill it so that nothing moves any more."""

from __future__ import annotations

import random
import struct

from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcp.params import QUEUE_SEGMENTS
from kcpg.core.native.wire.conv import WRITABLE
from kcpg.core.native.wire.events import READY
from tests.wires import CID_A, CID_B, PATH_A, PATH_B, WirePair, make_wire

SLOTS = 4096
SLOT_BYTES = 1536  # 1,500, rounded up as the wire does


def tight_ends(engine: str) -> WirePair:
    """Two wires with a pool of SLOTS slots each, and windows of which ten could take a whole pool."""
    ends = WirePair(engine, KcpParams(nodelay=1, interval_ms=10, snd_wnd=400, rcv_wnd=400))
    ends.wires = {side: make_wire(engine, side, pool_bytes=SLOTS * SLOT_BYTES) for side in "ab"}
    ends.a, ends.b = (ends.wires[side].link_wire(side) for side in "ab")
    ends.install(CID_A, CID_B, 0)
    ends.a.set_path(*PATH_B)
    ends.b.set_path(*PATH_A)
    ends.b.accept = lambda number: ends.b.open(number, ends.params)
    return ends


def test_stalled_readers_leave_slots_for_a_live_flow(engine: str) -> None:
    """Sixty readers stop, their writers push what goes. Another flow goes on all the same, and so do they
    once they read: nothing of what had no room was lost.
    """
    ends = tight_ends(engine)
    stalled = [ends.open(number) for number in range(1, 61)]
    wrote = dict.fromkeys(stalled, 0)
    for _ in range(10):
        for conv in stalled:
            wrote[conv] += conv.write(bytes(60_000))
        ends.run(20)
    assert ends.wires["a"].held_slots < SLOTS * 3 // 4 and ends.wires["b"].held_slots < SLOTS * 3 // 4
    assert all(ends.peer(conv).unread and not conv.rmt_wnd for conv in stalled)
    resent = sum(conv.segments_resent_rto + conv.segments_resent_fast for conv in stalled)
    ends.run(5_000)
    assert sum(c.segments_resent_rto + c.segments_resent_fast for c in stalled) == resent, "it is not lost"
    assert not any(conv.in_flight for conv in stalled), "nor in flight"

    live = ends.open(61)
    data = random.Random(1).randbytes(200_000)
    sent, got = 0, bytearray()
    for _ in range(100):
        sent += live.write(data[sent : sent + 20_000])
        ends.run(20)
        got += ends.peer(live).read(1 << 20)
        if len(got) == len(data):
            break
    assert got == data

    read = dict.fromkeys(stalled, 0)
    for _ in range(200):
        for conv in stalled:
            read[conv] += len(ends.peer(conv).read(1 << 20))
        ends.run(20)
    assert read == wrote
    for conv in [*stalled, live]:
        ends.a.close(conv.conv)
        ends.b.close(conv.conv)
    assert ends.wires["a"].held_slots == ends.wires["b"].held_slots == 0


def test_a_link_leaves_slots_for_others(engine: str) -> None:
    """A hundred conversations of one link that nobody reads, from a peer that heeds no window."""
    ends = tight_ends(engine)
    for number in range(1, 101):
        conv = ends.b.open(number, ends.params)
        for sn in range(1, 400, 2):
            conv.input(push(number, sn, b"x"), ends.now_ms)
            conv.input(push(number, sn - 1, b"x"), ends.now_ms)
    assert ends.wires["b"].held_slots < SLOTS * 3 // 4
    other = ends.wires["b"].link_wire("other").open(1, ends.params)
    for sn in range(400):
        other.input(push(1, sn, bytes(1000)), ends.now_ms)
        other.read(1 << 20)
    assert other.segments_received == 400 and other.segments_refused == 0


def push(conv: int, sn: int, data: bytes) -> bytes:
    """A segment as a peer makes it that heeds nothing."""
    return struct.pack("<IBBHIIII", conv, 81, 0, 128, 0, sn, 0, len(data)) + data


def test_a_closed_gap_frees_what_waited_for_it(engine: str) -> None:
    """What lies beyond a gap may not take the last slots: the segment that closes the gap needs one."""
    ends = tight_ends(engine)
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


def test_a_relayed_flow_hears_of_segments_that_others_gave_back(engine: str) -> None:
    """What it waits for is in the pool, not in its own queue; without being told it would wait for ever."""
    ends = tight_ends(engine)
    holding = [ends.open(number) for number in range(1, 1000)]
    waiting = ends.open(1000)
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
