"""Acknowledgements that say as bits what else has arrived beyond a gap, so that losing one costs nothing."""

from __future__ import annotations

import random
import struct

import pytest

from kcpg.core.kcp.ackmap import MAP_BYTES, MAP_FLUSHES
from kcpg.core.kcp.kcp import Kcp, KcpParams
from tests.unit.kcp_pair import ACK, PUSH, KcpPair, Segment, new_kcp, segment, segments

WIDE = KcpParams(nodelay=1, interval_ms=10, resend=2, snd_wnd=8192, rcv_wnd=8192)


def mapping(engine: str, *, mtu: int = 1400, sn: int = 0) -> Kcp:
    kcp = new_kcp(engine, WIDE, mtu=mtu, sn=sn)
    kcp.ack_maps = True
    return kcp


def arrive(kcp: Kcp, *sns: int) -> list[Segment]:
    """These segments come in one batch; the acknowledgements that answer."""
    for sn in sns:
        kcp.input(segment(PUSH, sn=sn & 0xFFFFFFFF, ts=7), 1000)
    return [s for s in segments(kcp.flush(1000)) if s.cmd == ACK]


def named(ack: Segment) -> list[int]:
    """The segments that a payload names."""
    if not ack.payload:
        return []
    (base,) = struct.unpack_from("<I", ack.payload)
    bits = int.from_bytes(ack.payload[4:], "little")
    return [(base + j) & 0xFFFFFFFF for j in range(bits.bit_length()) if bits >> j & 1]


def map_of(base: int, *sns: int) -> bytes:
    bits = sum(1 << ((sn - base) & 0xFFFFFFFF) for sn in sns)
    return struct.pack("<I", base) + bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def test_each_acknowledgement_names_what_the_last_ones_told(engine: str) -> None:
    kcp = mapping(engine)
    arrive(kcp, *range(1, 9))  # 0 is missing
    (*others, last) = arrive(kcp, 9, 10)
    assert [ack.payload for ack in others] == [b""]
    assert named(last) == list(range(1, 11))
    for sn in range(11, 11 + MAP_FLUSHES):
        (ack,) = arrive(kcp, sn)
    assert named(ack)[0] > 8 - 8, "what was told longer ago is left out"
    assert kcp.acks_sent == 10 + MAP_FLUSHES, "no acknowledgement was sent twice"


def test_bits_reach_back_to_a_gap_that_was_filled(engine: str) -> None:
    kcp = mapping(engine, sn=2**32 - 100)
    start = 2**32 - 100
    arrive(kcp, *(start + j for j in range(1, 150) if j != 20))
    for j in range(150, 160):
        arrive(kcp, start + j)
    arrive(kcp, start + 20)  # still beyond the gap at `start`
    (ack,) = arrive(kcp, start + 160)
    assert (start + 20) & 0xFFFFFFFF in named(ack)
    assert ack.una == start


def test_without_a_gap_there_are_no_bits(engine: str) -> None:
    kcp = mapping(engine)
    assert [ack.payload for ack in arrive(kcp, 0, 1, 2)] == [b""]
    arrive(kcp, 4)
    assert [ack.payload for ack in arrive(kcp, 3)] == [b""]


@pytest.mark.parametrize("mtu", [24 + 5, 60, 100])
def test_bits_open_no_datagram_and_name_the_newest_if_room_is_short(engine: str, mtu: int) -> None:
    kcp = mapping(engine, mtu=mtu)
    arrive(kcp, *range(1, 2000))
    for datagram in (kcp.input(segment(PUSH, sn=2000, ts=7), 1000), *kcp.flush(1000))[1:]:
        (ack,) = segments([datagram])
        assert len(datagram) <= mtu
        assert named(ack) == list(range(2001 - len(named(ack)), 2001))
        assert len(named(ack)) == 8 * (mtu - 24 - 4)


def test_the_payload_is_bounded(engine: str) -> None:
    kcp = mapping(engine)
    arrive(kcp, *range(1, 8000))
    (ack,) = arrive(kcp, 8000)
    assert len(ack.payload) == MAP_BYTES


def flying(engine: str, count: int = 40, sn: int = 0) -> Kcp:
    """A conversation with so many segments in flight, all sent at 1000."""
    kcp = mapping(engine, sn=sn)
    kcp.input(segment(ACK, sn=sn, ts=0, una=sn), 900)  # tells the window
    for _ in range(count):
        kcp.send(b"x")
    kcp.flush(1000)
    assert kcp.in_flight == count
    return kcp


def test_what_the_bits_name_is_not_sent_again(engine: str) -> None:
    """The datagrams that acknowledged 1 to 30 were lost; those of 31 and 32 say it again."""
    kcp = flying(engine)
    for now, sn in ((1050, 31), (1051, 32)):
        bits = map_of(1, *range(1, sn + 1))
        kcp.input(segment(ACK, sn=sn, ts=1000, una=0, payload=bits), now)
    again = [s.sn for s in segments(kcp.flush(1052)) if s.cmd == PUSH]
    assert again == [0]
    assert kcp.resends_spurious == 0 and kcp.acked_bytes == 32 * 25


def test_a_peer_without_them_is_served_as_ever_and_skips_them(engine: str) -> None:
    kcp = flying(engine)
    kcp.ack_maps = False
    kcp.input(
        segment(ACK, sn=31, ts=1000, payload=map_of(1, *range(1, 31))) + segment(ACK, sn=32, ts=1000), 1050
    )
    assert kcp.acked_bytes == 2 * 25


@pytest.mark.parametrize("payload", [b"", b"\1", b"\0\0\0\0", bytes(3), b"\xff" * 5, b"\xff" * 1300])
def test_malformed_bits_do_nothing_worse_than_lie(engine: str, payload: bytes) -> None:
    kcp = flying(engine)
    assert kcp.input(segment(ACK, sn=39, ts=1000, payload=payload), 1050) == 0
    assert kcp.snd_una in (0, 7, 40)


def test_needless_resends_are_recognised(engine: str) -> None:
    kcp = flying(engine)
    kcp.input(segment(ACK, sn=38, ts=1000), 1050)
    kcp.input(segment(ACK, sn=39, ts=1000), 1051)
    kcp.flush(1052)
    assert kcp.segments_resent_fast == 38
    kcp.input(segment(ACK, sn=0, ts=1000, una=0, payload=map_of(1, *range(1, 11))), 1060)
    assert kcp.resends_spurious == 11


def test_lost_acknowledgements_cause_no_resend(engine: str) -> None:
    """10 % of the datagrams of both directions are lost: a segment that got lost is sent again, no other."""
    pair = KcpPair(engine, WIDE, delay_ms=25, seed=3)
    rng = random.Random(4)
    pair.left.ack_maps = pair.right.ack_maps = True
    pair.to_left.lose = lambda datagram: rng.random() < 0.1
    lost = 0

    def lose(datagram: bytes) -> bool:
        nonlocal lost
        hit = rng.random() < 0.1
        lost += hit
        return hit

    pair.to_right.lose = lose
    for _ in range(1500):
        for _ in range(2):
            pair.left.send(bytes(1300))
        pair.exchange()
        while pair.right.recv() is not None:
            pass
        pair.now += 1
    resent = pair.left.segments_resent_fast + pair.left.segments_resent_rto + pair.left.segments_resent_tail
    assert lost > 250 and resent <= lost
    assert pair.right.duplicates_received <= 0.01 * lost
