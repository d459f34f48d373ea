"""The handshake between two honest nodes, and what tampering on the way does to it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.core.native.handshake.envelope import INIT_MIN_BYTES, PAD_SPREAD_BYTES
from kcpg.core.native.handshake.handshake import Initiator, InitRequest
from kcpg.core.native.handshake.outcomes import Accepted, Refused, Reply, Resume, Retry
from kcpg.core.native.handshake.params import Fec, LinkParams, Verdict, negotiate
from kcpg.core.native.handshake.rekey_messages import RekeyInitiator, RekeyResponder
from kcpg.core.seal.seal import ALGORITHMS, HeaderMask, Sealer, xor
from tests.engines import twin
from tests.handshakes import KEYS, OTHER_KEYS, SOURCE, WALL_S, HandshakePair

SECRET = b"s" * 32


def request(pair: HandshakePair, datagram: bytes) -> InitRequest:
    got = pair.to_listener(datagram)
    assert isinstance(got, InitRequest)
    return got


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_round_trip_gives_both_the_same_link(engine: str, algorithm: str) -> None:
    params = LinkParams(algorithm=algorithm)
    ours, theirs, tries = HandshakePair(offer=params, mine=params).meet()
    assert tries == 1
    assert ours == theirs
    epoch = ours.epoch
    sealer = twin(engine, "Sealer")
    c2s = sealer(algorithm, epoch.c2s_key, epoch.c2s_iv)
    s2c = sealer(algorithm, epoch.s2c_key, epoch.s2c_iv)
    sealed = c2s.seal(0, b"header", b"hello")
    assert s2c.open(0, b"header", sealed) is None, "a reflected datagram"


def test_no_two_links_have_a_key_in_common() -> None:
    seen = set()
    for seed in range(20):
        accepted = HandshakePair(seed).meet()[0]
        epoch = accepted.epoch
        seen |= {epoch.c2s_key, epoch.s2c_key, epoch.c2s_iv, epoch.s2c_iv, accepted.session_secret}
    assert len(seen) == 100


def test_a_repeated_init_gets_the_same_link_again() -> None:
    """Also on another path: tries are cheap, and whichever answer comes first is the right one."""
    pair = HandshakePair()
    first, second = pair.init(), pair.init()
    assert first[8:] != second[8:]
    datagram, theirs = pair.accept(request(pair, first))
    again = pair.to_listener(second, source=b"elsewhere")
    assert isinstance(again, Reply) and again.kind == "repeat"
    assert again.datagram != datagram
    assert pair.to_dialer(again.datagram) == pair.to_dialer(datagram) == theirs


def test_a_forgotten_link_is_not_offered_again() -> None:
    pair = HandshakePair()
    asked = request(pair, pair.init())
    pair.accept(asked)
    asked.forget()
    assert isinstance(pair.to_listener(pair.init()), InitRequest)


def test_an_answer_is_forgotten_in_time() -> None:
    pair = HandshakePair()
    pair.accept(request(pair, pair.init()))
    pair.now_ms += 119_000
    assert isinstance(pair.to_listener(pair.init()), Reply)
    pair.now_ms += 1_000
    assert isinstance(pair.to_listener(pair.init()), InitRequest)


def test_a_refusal_says_why() -> None:
    pair = HandshakePair(mine=LinkParams(algorithm="AES-OCB"))
    asked = request(pair, pair.init())
    params, verdict = negotiate(asked.params, pair.mine)
    datagram = asked.refuse(params, verdict)
    assert datagram is not None
    assert pair.to_dialer(datagram) == Refused(
        Verdict(False, "encryption_algorithm: you AES-GCM, here AES-OCB")
    )


def test_nobody_is_talked_into_a_weaker_cipher() -> None:
    """Even a listener that knows the password cannot answer with another algorithm than offered."""
    pair = HandshakePair()
    asked = request(pair, pair.init())
    asked.params = replace(asked.params, algorithm="none")  # what a wicked listener would do
    done = asked.accept(LinkParams(algorithm="none"), Verdict(True), 77)
    assert done is not None and pair.to_dialer(done[0]) is None
    assert pair.dialer.drops == {"handshake_downgrade": 1}


def test_a_listener_that_accepts_more_than_was_offered_gets_what_was_offered() -> None:
    """Every holder of the key can be a listener. What it answers bounds buffers, windows and rates."""
    offer = LinkParams(datagram_bytes=1200, snd_wnd=32, rcv_wnd=64, outbound_bps=1000, inbound_bps=2000)
    pair = HandshakePair(offer=offer)
    asked = request(pair, pair.init())
    more = LinkParams(
        datagram_bytes=65_507,
        snd_wnd=65_535,
        rcv_wnd=65_535,
        outbound_bps=0,
        inbound_bps=1 << 63,
        udp_delivery="datagram",
        fec_out=Fec(200, 55),
        fec_in=Fec(20, 4),
        ports=((1, 2),),
    )
    done = asked.accept(more, Verdict(True), 77)
    assert done is not None
    ours = pair.to_dialer(done[0])
    assert isinstance(ours, Accepted)
    assert ours.params == replace(offer, fec_in=Fec(20, 4), ports=((1, 2),))


@pytest.mark.parametrize("version", [0, 2])
def test_an_answer_of_another_version_is_dropped(version: int) -> None:
    pair = HandshakePair()
    asked = request(pair, pair.init())
    done = asked.accept(LinkParams(version=version), Verdict(True), 77)
    assert done is not None and pair.to_dialer(done[0]) is None
    assert pair.dialer.drops == {"handshake_downgrade": 1}


def test_answers_are_never_longer_than_the_init() -> None:
    """With the longest parameters and verdict there are; and no length is the only one."""
    longest = LinkParams(ports=((1, 2),) * 15, outbound_bps=1 << 63)
    pair = HandshakePair(offer=longest, mine=longest)
    lengths = set()
    for _ in range(60):
        pair.dialer = pair.another(Resume(1, SECRET))
        init = pair.init()
        assert INIT_MIN_BYTES <= len(init) <= INIT_MIN_BYTES + PAD_SPREAD_BYTES
        done = request(pair, init).accept(longest, Verdict(True, "é" * 500), 5)
        assert done is not None and len(done[0]) <= len(init)
        assert isinstance(pair.to_dialer(done[0]), Accepted)
        pair.load = True
        init = pair.init()
        retry = pair.to_listener(init)
        assert isinstance(retry, Reply) and len(retry.datagram) <= len(init)
        lengths |= {len(init), len(done[0]), len(retry.datagram)}
        pair.load = False
    assert len(lengths) > 60


def flip(datagram: bytes, place: int) -> bytes:
    damaged = bytearray(datagram)
    damaged[place // 8 % len(damaged)] ^= 1 << place % 8
    return bytes(damaged)


@given(st.integers(0, 1 << 20), st.sampled_from(["flip", "cut", "extend"]))
def test_a_damaged_init_gets_no_answer(place: int, how: str) -> None:
    pair = HandshakePair()
    datagram = damage(pair.init(), place, how)
    assert pair.to_listener(datagram) is None
    assert set(pair.listener.drops) <= {"handshake_auth", "handshake_short"}
    assert isinstance(pair.to_listener(pair.init()), InitRequest)


@given(st.integers(0, 1 << 20), st.sampled_from(["flip", "cut", "extend"]), st.booleans())
@settings(max_examples=60)
def test_a_damaged_answer_changes_nothing(place: int, how: str, retry: bool) -> None:
    pair = HandshakePair()
    pair.load = retry
    got = pair.to_listener(pair.init())
    datagram = got.datagram if isinstance(got, Reply) else pair.accept(request_of(got))[0]
    assert pair.to_dialer(damage(datagram, place, how)) is None
    assert pair.dialer.drops == {"handshake_auth": 1}
    assert isinstance(pair.to_dialer(datagram), Retry if retry else Accepted)


def request_of(got: InitRequest | Reply | None) -> InitRequest:
    assert isinstance(got, InitRequest)
    return got


def damage(datagram: bytes, place: int, how: str) -> bytes:
    if how == "flip":
        return flip(datagram, place)
    if how == "cut":
        return datagram[: max(32, place % len(datagram))]
    return datagram + bytes(1 + place % 40)


@given(st.binary(min_size=32, max_size=800))
def test_garbage_gets_no_answer_and_leaves_nothing(garbage: bytes) -> None:
    pair = HandshakePair()
    assert pair.to_listener(garbage) is None
    assert pair.to_dialer(garbage) is None
    assert pair.listener.receive(garbage[:8], garbage[8:10], SOURCE, b"k", WALL_S, 0) is None
    assert footprint(pair) == (0, 0, 0)


def footprint(pair: HandshakePair) -> tuple[int, int, int]:
    listener = pair.listener
    return len(listener._salts), len(listener._sources), len(listener._answers)


def test_strangers_leave_nothing_at_all() -> None:
    """Well-formed INITs under another password, and our own answers sent back to us."""
    pair = HandshakePair()
    rng = random.Random(9)
    for _ in range(200):
        stranger = Initiator(OTHER_KEYS, LinkParams(), 5, rng.randbytes)
        assert pair.to_listener(stranger.init(WALL_S)) is None
    assert footprint(pair) == (0, 0, 0)
    datagram, _ = pair.accept(request(pair, pair.init()))
    before = footprint(pair)
    assert pair.to_listener(datagram) is None
    assert pair.to_dialer(pair.init()) is None
    assert footprint(pair) == before


def test_every_byte_looks_random() -> None:
    """Chi-square of each of the first 64 bytes, over 2,000 datagrams of each kind with one fixed seed.

    With 16 classes (15 degrees of freedom) and 256 positions, 50 is exceeded by chance once in 300 seeds.
    """
    pair = HandshakePair(seed=2)
    counts = {kind: [[0] * 16 for _ in range(64)] for kind in ("init", "retry", "resp", "data")}
    pair.load = True
    for _ in range(2000):
        init = pair.init()
        pair.now_ms += 100  # slow enough for the rate of one source
        got = pair.to_listener(init)
        assert isinstance(got, Reply) and got.kind == "retry"
        tally(counts["init"], init)
        tally(counts["retry"], got.datagram)
    pair.load = False
    _, accepted = pair.accept(request(pair, pair.init()))
    sealer, mask = Sealer("AES-GCM", accepted.epoch.c2s_key, accepted.epoch.c2s_iv), HeaderMask(KEYS.mask_c2s)
    for pn in range(2000):
        pair.now_ms += 30  # within the two minutes for which the answer is kept
        got = pair.to_listener(pair.init())
        assert isinstance(got, Reply) and got.kind == "repeat"
        tally(counts["resp"], got.datagram)
        header = accepted.server_cid.to_bytes(4, "big") + pn.to_bytes(4, "big")
        sealed = sealer.seal(pn, header, bytes(60))
        tally(counts["data"], xor(header, mask.mask(sealed[-16:])) + sealed)
    worst = max(chi_square(position) for positions in counts.values() for position in positions)
    assert worst < 50, worst


def tally(positions: list[list[int]], datagram: bytes) -> None:
    for place, byte in enumerate(datagram[:64]):
        positions[place][byte >> 4] += 1


def chi_square(counts: list[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def test_resuming_is_proved() -> None:
    pair = HandshakePair(resume=Resume(0xABCD, SECRET))
    asked = request(pair, pair.init())
    assert asked.resume_cid == 0xABCD
    assert asked.proves(SECRET)
    assert not asked.proves(b"x" * 32)
    assert not request(HandshakePair(), HandshakePair().init()).proves(SECRET)


def test_a_proof_is_good_for_one_handshake() -> None:
    """Proofs of two handshakes differ, so one cannot be copied into another."""
    pair = HandshakePair(resume=Resume(0xABCD, SECRET))
    first = request(pair, pair.init())
    pair.dialer = pair.another(Resume(0xABCD, SECRET))
    second = request(pair, pair.init())
    assert first._offer.proof != second._offer.proof
    first._offer = second._offer
    assert not first.proves(SECRET)


def test_rekeys_follow_one_another() -> None:
    rng = random.Random(3)
    accepted = HandshakePair().meet()[0]
    secret = accepted.session_secret
    listener = RekeyResponder(secret, "AES-GCM", rng.randbytes)
    keys = {accepted.epoch.c2s_key}
    for number in range(1, 6):
        dialer = RekeyInitiator(secret, "AES-GCM", number, rng.randbytes)
        answer = listener.receive(dialer.message, 100 + number)
        assert answer is not None and answer[1] is not None
        assert listener.receive(dialer.message, 999) == (answer[0], None), "a repeated message"
        assert list(listener.secrets) == [answer[1].session_secret, secret]
        rekeyed = dialer.receive(answer[0])
        assert rekeyed is not None and rekeyed.epoch == answer[1].epoch
        assert (rekeyed.peer_cid, answer[1].peer_cid) == (100 + number, number)
        listener.confirm()
        secret = rekeyed.session_secret
        assert list(listener.secrets) == [secret]
        keys.add(rekeyed.epoch.c2s_key)
    assert len(keys) == 6


@given(st.binary(max_size=200))
def test_a_forged_rekey_changes_nothing(garbage: bytes) -> None:
    rng = random.Random(3)
    listener = RekeyResponder(SECRET, "AES-GCM", rng.randbytes)
    dialer = RekeyInitiator(SECRET, "AES-GCM", 1, rng.randbytes)
    stranger = RekeyInitiator(b"x" * 32, "AES-GCM", 1, rng.randbytes)
    for message in (garbage, stranger.message, dialer.message[:-1], flip(dialer.message, len(garbage))):
        assert listener.receive(message, 2) is None
        assert dialer.receive(message) is None
    answer = listener.receive(dialer.message, 2)
    assert answer is not None and dialer.receive(answer[0]) is not None
