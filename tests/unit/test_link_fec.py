"""FEC in the data plane of a link, both engines and between them: what is protected, rebuilt, and how large
it gets."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kcpg.core.congestion import CongestionController
from kcpg.core.fec.plan import OFF, plan_fixed
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.events import FRAME
from kcpg.core.seal.seal import iv_bytes
from tests.engines import twin
from tests.wires import C2S, CID_B, MASKS, WirePair, key, lossy

WAIT_MS = 8
UNORDERED = KcpParams(nodelay=1, interval_ms=10, resend=2, snd_wnd=512, rcv_wnd=512)
PAIRS = [("python", "python"), ("compiled", "compiled"), ("python", "compiled"), ("compiled", "python")]


def make(
    engine: str, other: str | None = None, data: int = 4, parity: int = 2, bulk: bool = True
) -> WirePair:
    """Both ends protect what they send."""
    ends = WirePair(engine, UNORDERED, engine_b=other)
    for link_wire in (ends.a, ends.b):
        link_wire.fec_use(plan_fixed(data, parity), WAIT_MS, bulk)
    return ends


class Opened:
    """Tells the type of each datagram of side a."""

    def __init__(self, ends: WirePair) -> None:
        self._mask = twin("python", "HeaderMask")(MASKS["a"]["mask_tx"])
        self._sealer = twin("python", "Sealer")("AES-GCM", key(C2S), bytes(iv_bytes("AES-GCM")))
        self._pn = 0
        self.types: list[int] = []
        self.lose: Callable[[int, int], bool] = lambda number, kind: False
        ends.lose = self._see

    def _see(self, sender: str, datagram: bytes) -> bool:
        if sender != "a":
            return False
        mask = self._mask.mask(datagram[-16:])
        header = bytes(x ^ y for x, y in zip(datagram[:8], mask, strict=False))
        plaintext = self._sealer.open(self._pn, header, datagram[8:])
        assert plaintext is not None and header[:4] == CID_B.to_bytes(4, "big")
        self._pn += 1
        self.types.append(plaintext[0])
        return self.lose(len(self.types) - 1, plaintext[0])


@pytest.mark.parametrize(("engine", "other"), PAIRS)
def test_a_lost_datagram_is_rebuilt_and_not_resent(engine: str, other: str) -> None:
    ends = make(engine, other)
    opened = Opened(ends)
    opened.lose = lambda number, kind: number == 1
    conv = ends.open()
    for piece in (b"one ", b"two ", b"three ", b"four"):
        conv.send(piece)
        ends.step()
    assert opened.types == [frames.FEC_DATA] * 4 + [frames.FEC_PARITY] * 2
    assert [ends.peer(conv).recv() for _ in range(4)] == [b"one ", b"two ", b"three ", b"four"]
    ends.run(500)
    assert (ends.b.fec.rebuilt, ends.b.fec.lost, ends.b.fec.malformed) == (1, 0, 0)
    assert conv.segments_resent_fast + conv.segments_resent_rto + conv.segments_resent_tail == 0
    assert conv.idle


@pytest.mark.parametrize(("engine", "other"), PAIRS)
def test_sparse_data_is_protected_by_time(engine: str, other: str) -> None:
    ends = make(engine, other)
    opened = Opened(ends)
    opened.lose = lambda number, kind: number == 0
    conv = ends.open()
    conv.send(b"x" * 64)
    ends.step()
    assert ends.wires["a"].deadline() == ends.now_ms + WAIT_MS and not ends.wires["a"].backlog
    ends.run(WAIT_MS - 1)
    assert opened.types == [frames.FEC_DATA] and not ends.b.convs
    ends.run(1)
    assert opened.types[1:] and set(opened.types[1:]) == {frames.FEC_PARITY}
    assert ends.peer(conv).recv() == b"x" * 64
    ends.run(500)
    assert ends.wires["a"].deadline() is None and conv.idle


def test_acknowledgements_travel_bare(engine: str) -> None:
    ends = make(engine)
    opened = Opened(ends)
    ends.open()
    ends.a.accept = lambda number: ends.a.open(number, UNORDERED)
    ends.b.open(2, UNORDERED).send(b"from b")
    ends.run(500)
    assert opened.types == [frames.KCP] and ends.a.convs[2].recv() == b"from b"


def test_packets_are_protected(engine: str) -> None:
    ends = make(engine)
    opened = Opened(ends)
    opened.lose = lambda number, kind: number in (0, 2)
    conv = ends.open()
    ends.b.open(1, UNORDERED)
    sent = [bytes([n]) * (50 + n) for n in range(4)]
    for packet in sent:
        assert conv.send_datagram(packet)
    ends.run(20)
    assert opened.types == [frames.FEC_DATA] * 4 + [frames.FEC_PARITY] * 2
    got = [ends.peer(conv).recv_datagram() for _ in range(4)]
    assert sorted(got) == sorted(sent) and got[:2] == [sent[1], sent[3]]


@pytest.mark.parametrize("controlled", [False, True])
def test_no_datagram_is_longer_than_agreed(engine: str, controlled: bool) -> None:
    ends = make(engine)
    if controlled:
        ends.a.adapt(CongestionController(1400))
    conv = ends.open()
    conv.write(b"x" * 300_000)
    room = ends.a.frame_room - 4
    assert conv.send_datagram(bytes(room)) and not conv.send_datagram(bytes(room + 1))
    ends.run(2_000)
    sizes = {len(datagram) for sender, datagram in ends.sent if sender == "a"}
    assert max(sizes) == ends.a.datagram_bytes == 1400


@pytest.mark.parametrize("bulk", [False, True])
def test_a_long_transfer_fills_whole_datagrams_where_bulk_is_left_out(engine: str, bulk: bool) -> None:
    """A short one keeps room for FEC to the end, as that is protected."""
    ends = make(engine, bulk=bulk)
    opened = Opened(ends)
    conv = ends.open()

    def transfer(size: int) -> tuple[int, int]:
        """(the longest segment payload, how many frames were protected)"""
        first = len(opened.types)
        left = size
        while left or not conv.idle:
            left -= conv.write(bytes(min(left, conv.room * 1300)))
            ends.run(1)
            while ends.peer(conv).read(1 << 20):
                pass
        longest = max(len(datagram) for sender, datagram in ends.sent if sender == "a")
        ends.sent.clear()
        return longest, opened.types[first:].count(frames.FEC_DATA)

    longest, protected = transfer(80_000)
    assert longest <= 1400 and protected >= 59 and conv.kcp_mtu == ends.a.kcp_mtu == ends.a.frame_room
    longest, protected = transfer(3_000_000)
    assert longest == 1400
    if bulk:
        assert protected > 2000
        return
    assert protected < 600, "the beginning, and nothing of the end"
    longest, protected = transfer(80_000)
    assert conv.kcp_mtu == ends.a.frame_room and protected > 50


def test_a_frame_too_long_for_a_shard_travels_bare(engine: str) -> None:
    """A conversation that was opened before this link had FEC (it was resumed with another setting)."""
    ends = WirePair(engine, UNORDERED)
    conv = ends.open()
    ends.a.fec_use(plan_fixed(4, 2), WAIT_MS, True)
    opened = Opened(ends)
    conv.send(b"x" * 1351)
    conv.send(b"x" * 100)
    ends.run(100)
    assert opened.types[:2] == [frames.KCP, frames.FEC_DATA]
    assert max(len(datagram) for _, datagram in ends.sent) == 1400
    assert [len(ends.peer(conv).recv()) for _ in range(2)] == [1351, 100]


def test_bulk_is_spared_where_that_is_wanted(engine: str) -> None:
    ends = make(engine, bulk=False)
    opened = Opened(ends)
    bulk, small = ends.open(1), ends.open(2)
    bulk.write(b"x" * 300_000)
    small.write(b"keystroke")
    ends.step()
    assert frames.KCP in opened.types and frames.FEC_DATA in opened.types
    assert opened.types.count(frames.FEC_DATA) == 1
    ends.run(2_000)
    assert ends.peer(small).read(100) == b"keystroke"
    assert len(ends.peer(bulk).read(1 << 20)) > 200_000


def test_an_idle_link_holds_nothing(engine: str) -> None:
    ends = make(engine)
    opened = Opened(ends)
    opened.lose = lambda number, kind: number != 1
    ends.open().send(b"one")
    ends.step()
    ends.a.convs[1].send(b"two")
    ends.step()
    assert ends.b.fec.held == 1
    ends.b.fec.forget()
    assert ends.b.fec.held == 0


def test_a_plan_may_change_and_end(engine: str) -> None:
    ends = make(engine)
    opened = Opened(ends)
    conv = ends.open()
    conv.send(b"one")
    ends.step()
    ends.a.fec_use(plan_fixed(1, 1), WAIT_MS, True)
    ends.step()
    assert opened.types[-1] == frames.FEC_PARITY, "the open group is closed"
    conv.send(b"two")
    ends.step()
    assert opened.types[-2:] == [frames.FEC_DATA, frames.FEC_PARITY]
    ends.a.fec_use(OFF, WAIT_MS, True)
    conv.send(b"three")
    ends.step()
    assert opened.types[-1] == frames.KCP
    ends.run(300)
    assert conv.idle and not ends.wires["a"].drops and not ends.wires["b"].drops


def test_shards_that_cannot_be_are_counted(engine: str) -> None:
    ends = WirePair(engine)
    rng = random.Random("malformed")
    for _ in range(300):
        ends.a.send(rng.choice((frames.FEC_DATA, frames.FEC_PARITY)), rng.randbytes(rng.randrange(60)))
        ends.step()
    drops = ends.wires["b"].drops
    assert drops["fec_malformed"] > 100 and set(drops) <= {"fec_malformed", "frame_malformed"}
    assert ends.b.fec.malformed == drops["fec_malformed"]


def test_a_shard_may_carry_only_data(engine: str) -> None:
    """No control frame, and no shard within a shard."""
    ends = WirePair(engine)
    for group, inner in enumerate((b"", bytes((frames.PING,)) + b"12345678", bytes((frames.FEC_DATA,)) * 20)):
        ends.a.send(frames.FEC_DATA, group.to_bytes(4, "big") + bytes((0, 1, 1)) + inner)
        ends.step()
    assert ends.wires["b"].drops == {"frame_malformed": 3} and ends.taken("b", FRAME) == []


@pytest.mark.parametrize(("engine", "other"), PAIRS)
@pytest.mark.parametrize("controlled", [False, True])
def test_streams_survive_loss_and_reordering(engine: str, other: str, controlled: bool) -> None:
    ends = make(engine, other, data=10, parity=3, bulk=not controlled)
    if controlled:
        ends.a.adapt(CongestionController(1400))
    ends.lose = lossy(random.Random(f"{engine} {other} {controlled}"), 0.08)
    conv = ends.open()
    data = random.Random("data").randbytes(400_000)
    got, at = b"", 0
    for _ in range(3_000):
        at += conv.write(data[at:])
        ends.run(2)
        if (peer := ends.b.convs.get(1)) is not None:
            got += peer.read(1 << 20)
        if len(got) == len(data):
            break
    assert got == data
    assert ends.b.fec.rebuilt > 0 and ends.b.fec.malformed == 0


def test_losses_are_counted_for_reports(engine: str) -> None:
    ends = WirePair(engine)
    ends.b.counts_losses = True
    opened = Opened(ends)
    opened.lose = lambda number, kind: number % 10 in (3, 4, 7)
    for _ in range(50):
        ends.a.send(frames.PAD, b"")
        ends.step()
    assert ends.b.losses() == (0, 0, 0), "they may yet come"
    assert ends.b.losses() == (50, 15, 10)
    ends.install(0xA1A1A1A1, 0xB1B1B1B1, 1)
    ends.lose = lambda sender, datagram: False
    ends.b.remove_rx(CID_B)
    ends.a.send(frames.PAD, b"")
    ends.step()
    ends.b.losses()
    assert ends.b.losses() == (51, 15, 10), "over all epochs"


def test_no_loss_escapes_between_reports(engine: str) -> None:
    """More datagrams than the replay window holds."""
    ends = WirePair(engine)
    ends.b.counts_losses = True
    for number in range(10_000):
        ends.a.send(frames.PAD, b"")
        for sock, addr, datagram in ends.wires["a"].transmit(1):
            if number % 100:
                ends.wires["b"].receive(sock, addr, datagram, 1)
    ends.b.losses()
    assert ends.b.losses() == (10_000, 100, 100)
