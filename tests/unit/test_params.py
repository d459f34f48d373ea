"""Link parameters: how they travel and how two nodes settle them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcpg.core.native.handshake.params import (
    DELIVERIES,
    FEC_AUTO,
    MAX_VERDICT_BYTES,
    Fec,
    Incarnation,
    LinkParams,
    Offer,
    Verdict,
    negotiate,
    pack_answer,
    pack_offer,
    read_answer,
    read_offer,
)
from kcpg.core.seal.seal import ALGORITHMS

bps = st.integers(0, (1 << 64) - 1)
windows = st.integers(1, 65535)
ranges = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(lambda pair: (min(pair), max(pair)))
fecs = st.just(FEC_AUTO) | st.integers(0, 255).flatmap(
    lambda data: st.builds(Fec, st.just(data), st.integers(0, 255 - data))
)
params = st.builds(
    LinkParams,
    version=st.integers(0, 255),
    algorithm=st.sampled_from(ALGORITHMS),
    datagram_bytes=st.integers(256, 65507),
    snd_wnd=windows,
    rcv_wnd=windows,
    outbound_bps=bps,
    inbound_bps=bps,
    keep_alive_s=st.integers(0, 65535),
    udp_delivery=st.sampled_from(DELIVERIES),
    fec_out=fecs,
    fec_in=fecs,
    ports=st.lists(ranges, max_size=15).map(tuple),
)


incarnations = st.builds(Incarnation, st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8))


@given(
    params,
    st.none() | st.integers(0, (1 << 32) - 1),
    st.binary(min_size=32, max_size=32),
    st.none() | incarnations,
)
def test_an_offer_survives_the_journey(
    offered: LinkParams, cid: int | None, proof: bytes, incarnation: Incarnation | None
) -> None:
    offer = Offer(offered, cid, proof if cid is not None else b"", incarnation)
    assert read_offer(pack_offer(offer)) == offer


@given(params, st.integers(0, (1 << 32) - 1), st.booleans(), st.booleans())
def test_an_answer_survives_the_journey(agreed: LinkParams, cid: int, accepted: bool, resumed: bool) -> None:
    verdict = Verdict(accepted, "fec: you 20:4, here off; each sends by its own", resumed)
    assert read_answer(pack_answer(cid, agreed, verdict)) == (cid, agreed, verdict)


@given(st.binary(max_size=200))
def test_garbage_never_raises(data: bytes) -> None:
    read_offer(data)
    read_answer(data)


@given(params, st.integers(0, 300), st.binary(max_size=3))
def test_damage_never_raises(offered: LinkParams, at: int, put: bytes) -> None:
    for read, packed in (
        (read_offer, pack_offer(Offer(offered, incarnation=Incarnation(bytes(16), bytes(8))))),
        (read_answer, pack_answer(1, offered, Verdict(True))),
    ):
        read(packed[:at] + put + packed[at + 2 :])


def test_a_newer_peer_is_understood() -> None:
    """Unknown fields are skipped, missing ones have the default, numbers may be wider."""
    assert read_offer(b"") == Offer(LinkParams())
    assert read_offer(b"\xc8\x03new" + b"\x04\x08" + bytes(6) + b"\x01\x00") == Offer(LinkParams(snd_wnd=256))


@pytest.mark.parametrize(
    "data",
    [
        b"\x0f\x17" + bytes(23),  # a dialer with a life too short
        b"\x04",  # no length
        b"\x04\x04\0\0",  # cut short
        b"\x04\x01\x05\x04\x01\x05",  # twice
        b"\x02\x01\x06",  # an algorithm that does not exist
        b"\x03\x02\x00\xff",  # a datagram too small
        b"\x03\x04\x7f\xff\xff\xff",  # and one too big
        b"\x04\x01\x00",  # no window
        b"\x06\x09\x01" + bytes(8),  # a rate beyond u64
        b"\x0a\x03\x01\x01\x01",  # three FEC numbers
        b"\x0a\x02\xf0\x10",  # a code of 256 shards
        b"\x0b\x04\x00\x09\x00\x08",  # a range backwards
        b"\x0b\x03\x00\x09\x00",  # half a range
        b"\x0b\x40" + b"\x00\x01" * 32,  # sixteen ranges
        b"\x0c\x05\x00\x00\x00\x01\x00",  # a proof of one byte
    ],
)
def test_malformed_offers(data: bytes) -> None:
    assert read_offer(data) is None


def test_an_answer_needs_a_verdict() -> None:
    assert read_answer(bytes(4)) is None
    assert read_answer(b"\0\0\0\1" + b"\x0d\x01\x01") is None
    assert read_answer(b"\0\0\0\1" + b"\x0d\x02\x01\x00") == (1, LinkParams(), Verdict(True))


def test_equal_nodes_agree_without_a_word() -> None:
    assert negotiate(LinkParams(), LinkParams()) == (LinkParams(), Verdict(True))


def test_the_lower_limit_counts_in_each_direction() -> None:
    offer = LinkParams(outbound_bps=100, inbound_bps=0, snd_wnd=500, rcv_wnd=4000, keep_alive_s=5)
    mine = LinkParams(outbound_bps=70, inbound_bps=900, snd_wnd=3000, rcv_wnd=2000, ports=((1, 2),))
    agreed, verdict = negotiate(offer, mine)
    assert (agreed.outbound_bps, agreed.inbound_bps) == (100, 70)
    assert (agreed.snd_wnd, agreed.rcv_wnd) == (500, 3000)
    assert (agreed.keep_alive_s, agreed.ports) == (5, ((1, 2),))
    assert verdict == Verdict(True)
    assert agreed.mirrored().outbound_bps == 70 and agreed.mirrored().mirrored() == agreed


def test_what_differs_is_said() -> None:
    mine = LinkParams(datagram_bytes=1200, fec_out=FEC_AUTO)
    agreed, verdict = negotiate(LinkParams(fec_out=Fec(20, 4)), mine)
    assert (agreed.fec_out, agreed.fec_in, agreed.datagram_bytes) == (Fec(20, 4), FEC_AUTO, 1200)
    assert (agreed.mirrored().fec_out, agreed.mirrored().fec_in) == (FEC_AUTO, Fec(20, 4))
    assert agreed.fec_text() == ", fec 20:4 out, auto in"
    assert verdict.text == (
        "fec: you 20:4, here auto; each sends by its own; mtu: you 1400, here 1200; using the smaller"
    )
    assert verdict.accepted


@pytest.mark.parametrize("algorithm", ALGORITHMS[1:])
def test_ciphers_are_never_negotiated(algorithm: str) -> None:
    for offer, mine in (
        (LinkParams(algorithm=algorithm), LinkParams()),
        (LinkParams(), LinkParams(algorithm=algorithm)),
    ):
        _, verdict = negotiate(offer, mine)
        assert not verdict.accepted
        assert verdict.text == f"encryption_algorithm: you {offer.algorithm}, here {mine.algorithm}"


def test_another_version_is_refused() -> None:
    assert not negotiate(replace(LinkParams(), version=2), LinkParams())[1].accepted


def test_a_long_verdict_is_cut() -> None:
    read = read_answer(pack_answer(1, LinkParams(), Verdict(True, "é" * 300)))
    assert read is not None and read[2].text == "é" * (MAX_VERDICT_BYTES // 2)
