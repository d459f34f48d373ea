"""The handshake where the listener has a key pair and knows its dialers by theirs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.core.native.handshake import noise
from kcpg.core.native.handshake.envelope import INIT_MIN_BYTES, PAD_SPREAD_BYTES
from kcpg.core.native.handshake.handshake import InitRequest
from kcpg.core.native.handshake.keys import KeyPair, RootKeys
from kcpg.core.native.handshake.outcomes import Refused, Reply, Resume, Retry
from kcpg.core.native.handshake.params import LinkParams, Verdict
from tests.handshakes import ALICE, BOB, KEYS, LISTENER, LISTENER_KEYS, MALLORY, WALL_S, HandshakePair

SECRET = b"s" * 32


def of(pair: KeyPair) -> RootKeys:
    return RootKeys.from_pair(pair)


def known(*pairs: KeyPair) -> Callable[[bytes, int], bool]:
    return lambda public, _wall_s: public in {pair.own.public for pair in pairs}


def meeting(dialer: RootKeys, seed: int = 1, **values: object) -> HandshakePair:
    """A listener that knows Alice and Bob, and a dialer with these keys."""
    values = {"keys": LISTENER_KEYS, "admits": known(ALICE, BOB), **values}
    return HandshakePair(seed, dialer_keys=dialer, **values)  # type: ignore[arg-type]


def request(pair: HandshakePair) -> InitRequest:
    got = pair.to_listener(pair.init())
    assert isinstance(got, InitRequest)
    return got


@pytest.mark.parametrize("user", [ALICE, BOB])
def test_one_round_trip_gives_both_the_same_link_and_tells_who_dials(user: KeyPair) -> None:
    pair = meeting(of(user))
    asked = request(pair)
    assert asked.static == user.own.public
    datagram, theirs = pair.accept(asked)
    assert pair.to_dialer(datagram) == theirs


def test_a_secret_besides_makes_other_keys() -> None:
    both = RootKeys.from_key(b"k" * 32, LISTENER), RootKeys.from_key(b"k" * 32, ALICE)
    ours, theirs, tries = meeting(both[1], keys=both[0]).meet()
    assert ours == theirs and tries == 1
    without = meeting(of(ALICE), keys=both[0])
    assert without.to_listener(without.init()) is None
    assert without.listener.drops == {"handshake_auth": 1}


def test_no_two_links_have_a_key_in_common() -> None:
    seen = set()
    for seed in range(10):
        accepted = meeting(of(ALICE), seed).meet()[0]
        epoch = accepted.epoch
        seen |= {epoch.c2s_key, epoch.s2c_key, epoch.c2s_iv, epoch.s2c_iv, accepted.session_secret}
    assert len(seen) == 50


def test_a_stranger_to_the_users_gets_no_answer() -> None:
    """He knows the listener's public key, as every user does, so his INIT opens; that is all."""
    pair = meeting(of(MALLORY))
    assert pair.to_listener(pair.init()) is None
    assert pair.listener.drops == {"handshake_user": 1}


def test_an_expired_user_gets_no_answer_and_a_prolonged_one_does() -> None:
    until = [WALL_S]
    pair = meeting(of(ALICE), admits=lambda _public, wall_s: wall_s < until[0])
    assert pair.to_listener(pair.init()) is None
    assert pair.listener.drops == {"handshake_user": 1}
    until[0] += 1
    assert isinstance(pair.to_listener(pair.init()), InitRequest)


def test_two_users_who_swap_their_keys_are_each_other() -> None:
    """A name belongs to a key, not to a machine."""
    for file, whose in ((ALICE, ALICE), (BOB, BOB)):
        assert request(meeting(of(file))).static == whose.own.public


class _Claimed(noise.PrivateKey):
    """Somebody's public key, without the private one that belongs to it."""

    def __init__(self, public: bytes) -> None:
        super().__init__(b"m" * 32)
        self.public = public


def test_nobody_is_a_user_whose_public_key_he_has() -> None:
    claimed = KeyPair(b"m" * 32, LISTENER.own.public)
    claimed.own = _Claimed(ALICE.own.public)
    pair = meeting(RootKeys.from_pair(claimed))
    assert pair.to_listener(pair.init()) is None
    assert pair.listener.drops == {"handshake_noise": 1}


def test_a_user_cannot_be_the_listener() -> None:
    """He has the envelope's keys; he cannot read what Alice says, and cannot answer it."""
    false = KeyPair(b"b" * 32)
    keys = RootKeys.from_pair(BOB)  # of the true listener's public key
    object.__setattr__(keys, "pair", false)
    pair = meeting(of(ALICE), keys=keys)
    assert pair.to_listener(pair.init()) is None
    assert pair.listener.drops == {"handshake_noise": 1}


def test_another_users_answer_is_dropped() -> None:
    """The listener's answer to Bob, in Alice's envelope: the envelope is the same, the key is not."""
    pair = meeting(of(BOB))
    alices, bobs = pair.another(keys=of(ALICE)), pair.dialer
    datagram, _ = pair.accept(request(pair))
    alices.client_cid = bobs.client_cid
    pair.dialer = alices
    assert pair.to_dialer(datagram) is None
    assert alices.drops == {"handshake_noise": 1}


def test_the_two_modes_do_not_understand_each_other() -> None:
    for dialer, listener in ((KEYS, LISTENER_KEYS), (of(ALICE), KEYS)):
        pair = HandshakePair(1, keys=listener, dialer_keys=dialer, admits=lambda _public, _wall_s: True)
        assert pair.to_listener(pair.init()) is None
        assert pair.listener.drops == {"handshake_auth": 1}


def test_a_copy_of_an_init_gets_nothing_and_to_a_forgetful_listener_no_more_than_an_answer() -> None:
    pair = meeting(of(ALICE))
    init = pair.init()
    pair.accept(request_of(pair, init))
    assert pair.to_listener(init) is None
    assert pair.listener.drops == {"handshake_replay": 1}
    restarted = meeting(of(MALLORY))
    datagram, _ = restarted.accept(request_of(restarted, init))
    restarted.dialer.client_cid = pair.dialer.client_cid
    assert restarted.to_dialer(datagram) is None, "a copy of the INIT gives no key of the answer"


def request_of(pair: HandshakePair, init: bytes) -> InitRequest:
    got = pair.to_listener(init)
    assert isinstance(got, InitRequest)
    return got


def test_an_init_of_yesterday_is_no_link_today() -> None:
    pair = meeting(of(ALICE))
    init = pair.init()
    pair.wall_s += 86_400
    got = pair.to_listener(init)
    assert isinstance(got, Reply) and got.kind == "retry"


def test_under_load_the_cookie_comes_before_any_key_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = meeting(of(ALICE))
    init, pair.load = pair.init(), True
    exchanges = counted(monkeypatch)
    got = pair.to_listener(init)
    assert isinstance(got, Reply) and got.kind == "retry" and not exchanges
    assert isinstance(pair.to_dialer(got.datagram), Retry)
    assert isinstance(pair.to_listener(pair.init()), InitRequest) and exchanges


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The public keys of all key agreements from now on."""
    exchanges: list[bytes] = []
    exchange = noise.PrivateKey.exchange

    def noted(self: noise.PrivateKey, public: bytes) -> bytes | None:
        exchanges.append(public)
        return exchange(self, public)

    monkeypatch.setattr(noise.PrivateKey, "exchange", noted)
    return exchanges


def test_a_refusal_costs_the_same_whoever_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an unknown key, of one that was removed, and of one that has expired though its secret is kept:
    the same key agreements, so the same time, and the same silence."""
    LISTENER.keep(ALICE.own.public)
    cases = {
        "unknown": (MALLORY, known(ALICE, BOB)),
        "removed": (BOB, known(ALICE)),
        "expired": (ALICE, lambda _public, wall_s: wall_s < WALL_S),
    }
    done = {}
    for name, (user, admits) in cases.items():
        pair = meeting(of(user), admits=admits)
        init = pair.init()
        with monkeypatch.context() as patch:
            exchanges = counted(patch)
            assert pair.to_listener(init) is None
        done[name] = len(exchanges), dict(pair.listener.drops)
    LISTENER.keep_only(())
    assert set(map(str, done.values())) == {str((2, {"handshake_user": 1}))}, done


def test_the_secret_of_two_keys_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    exchanges = counted(monkeypatch)
    LISTENER.keep(ALICE.own.public)
    pair = meeting(of(ALICE))
    init = pair.init()
    exchanges.clear()
    assert isinstance(pair.to_listener(init), InitRequest)
    assert len(exchanges) == 1
    LISTENER.keep_only(())


def test_a_users_answers_are_forgotten_with_him() -> None:
    pair = meeting(of(ALICE))
    asked = request(pair)
    datagram = asked.refuse(LinkParams(), Verdict(False, "too many links"))
    assert datagram is not None and pair.to_dialer(datagram) == Refused(Verdict(False, "too many links"))
    pair.listener.forget_dialer(BOB.own.public)
    assert isinstance(pair.to_listener(pair.init()), Reply)
    pair.listener.forget_dialer(ALICE.own.public)
    assert isinstance(pair.to_listener(pair.init()), InitRequest)


def test_a_resume_is_proved() -> None:
    pair = meeting(of(ALICE))
    pair.dialer = pair.another(Resume(77, SECRET))
    asked = request(pair)
    assert asked.resume_cid == 77 and asked.proves(SECRET) and not asked.proves(b"t" * 32)


def test_inits_look_alike_in_both_modes() -> None:
    """The same range of lengths, and answers that are never longer."""
    longest = LinkParams(ports=((1, 2),) * 15, outbound_bps=1 << 63)
    pair = meeting(of(ALICE), offer=longest, mine=longest)
    for _ in range(40):
        pair.dialer = pair.another(Resume(1, SECRET))
        init = pair.init()
        assert INIT_MIN_BYTES <= len(init) <= INIT_MIN_BYTES + PAD_SPREAD_BYTES
        done = request_of(pair, init).accept(longest, Verdict(True, "x" * 160), 5)
        assert done is not None and len(done[0]) <= len(init)
        pair.now_ms += 1000


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 1 << 16), st.integers(0, 255), st.integers(1, 255))
def test_a_changed_init_is_nobodys(seed: int, where: int, bits: int) -> None:
    pair = meeting(of(ALICE), seed)
    init = pair.init()
    at = where * len(init) // 256
    changed = init[:at] + bytes([init[at] ^ bits]) + init[at + 1 :]
    assert pair.to_listener(changed) is None


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 1 << 16), st.binary(max_size=300))
def test_a_first_message_of_anybody_with_the_envelopes_keys_raises_nothing(seed: int, message: bytes) -> None:
    """The envelope opens for every user, so what is in it may be anything."""
    pair = meeting(of(ALICE), seed)
    true = pair.dialer._message
    for forged in (message, true[: len(message) % len(true)] + message, message + true):
        if forged != true:
            pair.dialer._message = forged
            got = pair.to_listener(pair.init()) if len(forged) < 300 else None
            assert got is None
