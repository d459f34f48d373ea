"""docs/protocol.md tells the truth: every test vector in it is computed again, from the inputs it gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kcpg.core.native.handshake import noise
from kcpg.core.native.handshake.envelope import (
    NO_COOKIE,
    Envelope,
    Init,
    Resp,
    RetryFields,
    pack_init,
    pack_resp,
    pack_retry,
)
from kcpg.core.native.handshake.handshake import PROLOGUE, resume_proof
from kcpg.core.native.handshake.keys import EpochKeys, KeyPair, RootKeys
from kcpg.core.native.handshake.outcomes import RetryReason
from kcpg.core.native.handshake.params import Incarnation, LinkParams, Offer, Verdict, pack_answer, pack_offer
from kcpg.core.native.handshake.rekey_messages import RekeyInitiator, RekeyResponder
from kcpg.core.native.wire import frames
from kcpg.core.seal.replay import ReplayWindow
from kcpg.core.seal.seal import ALGORITHMS, iv_bytes, xor
from kcpg.core.speedtest import messages as speedtest
from tests.engines import twin

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
Vectors = dict[str, str]


def documented() -> Vectors:
    """All `name = value` lines of the blocks marked `vectors`."""
    blocks = re.findall(r"```vectors\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    pairs = [line.split(" = ", 1) for block in blocks for line in block.splitlines() if line]
    assert len({name for name, _ in pairs}) == len(pairs), "a vector's name is used twice"
    return {name: value.strip() for name, value in pairs}


def compare(computed: Vectors) -> None:
    known = documented()
    assert {name: known.get(name) for name in computed} == computed


def given(name: str) -> bytes:
    """An input the document gives."""
    return bytes.fromhex(documented()[name])


def entropy(*pieces: bytes) -> Callable[[int], bytes]:
    """Gives these pieces, in this order, and checks that so many bytes were wanted."""
    left = list(pieces)

    def draw(count: int) -> bytes:
        piece = left.pop(0)
        assert len(piece) == count
        return piece

    return draw


def root(prefix: str, keys: RootKeys) -> Vectors:
    names = ("handshake_c2s", "handshake_s2c", "mask_c2s", "mask_s2c", "psk")
    return {f"{prefix}.{name}": getattr(keys, name).hex() for name in names}


def test_keys_from_a_password() -> None:
    compare(root("password", RootKeys.from_password(documented()["password.text"].encode())))


def test_keys_from_a_key() -> None:
    compare(root("key", RootKeys.from_key(given("key.bytes"))))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_data_datagrams(engine: str, algorithm: str) -> None:
    header = given("data.header")
    key, iv = given("data.key"), given("data.iv24")[: iv_bytes(algorithm)]
    sealed = twin(engine, "Sealer")(algorithm, key, iv).seal(
        int(documented()["data.pn"]), header, given("data.plaintext")
    )
    mask = twin(engine, "HeaderMask")(given("data.mask_key")).mask(sealed[-16:])
    compare({f"data.{algorithm}": (xor(header, mask) + sealed).hex()})


def test_packet_numbers(engine: str) -> None:
    for line in documented()["expand"].split(", "):
        following, pn32, pn = (int(number, 16) for number in re.split(r" \+ | -> ", line))
        window = twin(engine, "ReplayWindow")()
        if following:
            window.commit(following - 1)
        assert window.expand(pn32) == pn


def handshake() -> tuple[Vectors, noise.Keys]:
    """A whole handshake with the document's inputs: what it makes, and what both sides then share."""
    keys = RootKeys.from_key(given("key.bytes"))
    cid = int(documented()["handshake.client_cid"], 16)
    server_cid = int(documented()["handshake.server_cid"], 16)
    time_s = int(documented()["handshake.time"])
    dialer = noise.Initiator(keys.psk, PROLOGUE + cid.to_bytes(4, "big"), given("handshake.client_private"))
    listener = noise.Responder(keys.psk, PROLOGUE + cid.to_bytes(4, "big"))
    proof = resume_proof(given("handshake.old_secret"), 0x0BADCAFE, dialer.public)
    offer = pack_offer(Offer(LinkParams(), 0x0BADCAFE, proof))
    answer = pack_answer(server_cid, LinkParams(ports=((3000, 3100),)), Verdict(True, "hello", resumed=True))
    one = dialer.write(offer)
    assert listener.read(one) == offer
    written = listener.write(answer, given("handshake.server_private"))
    assert written is not None
    two, shared = written
    assert dialer.read(two) == (answer, shared)
    out, back = (
        Envelope(keys.handshake_c2s, keys.mask_c2s),
        Envelope(keys.handshake_s2c, keys.mask_s2c),
    )
    random = given("handshake.rand") + given("handshake.salt")
    init, salt = out.seal(0, pack_init(Init(time_s, cid, NO_COOKIE, one)), 384, entropy(random))
    retry = RetryFields(RetryReason.CLOCK, given("handshake.cookie"), time_s, salt)
    later = replace(retry, reason=RetryReason.COOKIE, wait_ms=2500)
    full = Verdict(False, "full", again_ms=5000)
    told = Offer(
        LinkParams(), 0x0BADCAFE, proof, Incarnation(bytes(range(0xD0, 0xE0)), bytes(range(0xE0, 0xE8)))
    )
    return {
        "handshake.proof": proof.hex(),
        "handshake.offer": offer.hex(),
        "handshake.offer_of_dialer": pack_offer(told).hex(),
        "handshake.answer": answer.hex(),
        "handshake.answer_full": pack_answer(0, LinkParams(), full).hex(),
        "handshake.message1": one.hex(),
        "handshake.message2": two.hex(),
        "handshake.init": init.hex(),
        "handshake.resp": back.seal(cid, pack_resp(Resp(two)), 256, entropy(random))[0].hex(),
        "handshake.retry": back.seal(cid, pack_retry(retry), 100, entropy(random))[0].hex(),
        "handshake.retry_later": back.seal(cid, pack_retry(later), 100, entropy(random))[0].hex(),
        "handshake.c2s": shared.c2s.hex(),
        "handshake.s2c": shared.s2c.hex(),
        "handshake.session_secret": shared.secret.hex(),
    }, shared


def test_handshake() -> None:
    compare(handshake()[0])


def test_handshake_of_key_pairs() -> None:
    """The datagrams of section 5.8, from the dialer's to the listener's keys and back."""
    ours, theirs = given("pair.listener_private"), given("pair.dialer_private")
    listener = RootKeys.from_key(given("key.bytes"), KeyPair(ours))
    pair = KeyPair(theirs, KeyPair(ours).own.public)
    dialer = RootKeys.from_key(given("key.bytes"), pair)
    cid, time_s = int(documented()["handshake.client_cid"], 16), int(documented()["handshake.time"])
    prologue = PROLOGUE + cid.to_bytes(4, "big")
    asker = noise.Initiator(
        dialer.psk, prologue, given("handshake.client_private"), None, pair.own, pair.listener
    )
    assert listener.pair is not None
    answerer = noise.Responder(listener.psk, prologue, None, listener.pair.own)
    offer, answer = pack_offer(Offer(LinkParams())), given("handshake.answer")
    one = asker.write(offer)
    assert answerer.read(one) == offer and answerer.peer_static == pair.own.public
    written = answerer.write(answer, given("handshake.server_private"))
    assert written is not None and asker.read(written[0]) == (answer, written[1])
    out, back = (
        Envelope(dialer.handshake_c2s, dialer.mask_c2s),
        Envelope(listener.handshake_s2c, listener.mask_s2c),
    )
    random = given("handshake.rand") + given("handshake.salt")
    init, _ = out.seal(0, pack_init(Init(time_s, cid, NO_COOKIE, one)), 384, entropy(random))
    resp, _ = back.seal(cid, pack_resp(Resp(written[0])), 256, entropy(random))
    compare(
        {
            **root("pair", listener),
            **{
                f"pair.alone_{name[5:]}": value
                for name, value in root("pair", RootKeys.from_pair(pair)).items()
            },
            "pair.listener_public": pair.listener.hex(),
            "pair.dialer_public": pair.own.public.hex(),
            "pair.message1": one.hex(),
            "pair.message2": written[0].hex(),
            "pair.init": init.hex(),
            "pair.resp": resp.hex(),
            "pair.c2s": written[1].c2s.hex(),
            "pair.s2c": written[1].s2c.hex(),
            "pair.session_secret": written[1].secret.hex(),
        }
    )


def test_farewells() -> None:
    compare(
        {
            "frame.close": frames.pack_close(7, "bye", 2500).hex(),
            "frame.goaway": frames.pack_goaway(1000, 60_000, "bye").hex(),
        }
    )


@pytest.mark.parametrize("algorithm", ["AES-GCM", "xchacha20"])
def test_epoch_keys(algorithm: str) -> None:
    shared = handshake()[1]
    epoch = EpochKeys.derive(algorithm, shared.c2s, shared.s2c)
    names = ("c2s_key", "c2s_iv", "s2c_key", "s2c_iv")
    compare({f"epoch.{algorithm}.{name}": getattr(epoch, name).hex() for name in names})


def test_rekey() -> None:
    secret = handshake()[1].secret
    dialer = RekeyInitiator(secret, "AES-GCM", 0x11223344, entropy(given("handshake.client_private")))
    listener = RekeyResponder(secret, "AES-GCM", entropy(given("handshake.server_private")))
    answer = listener.receive(dialer.message, 0x55667788)
    assert answer is not None
    rekeyed = dialer.receive(answer[0])
    assert rekeyed is not None and rekeyed.peer_cid == 0x55667788
    compare(
        {
            "rekey.message1": dialer.message.hex(),
            "rekey.message2": answer[0].hex(),
            "rekey.c2s_key": rekeyed.epoch.c2s_key.hex(),
            "rekey.session_secret": rekeyed.session_secret.hex(),
        }
    )


def test_replay_window_is_what_the_document_says() -> None:
    window = ReplayWindow()
    window.commit(8192)
    assert not window.check(0) and window.check(1)


def test_speed_tests() -> None:
    probe = speedtest.pack_probe(7, 1)
    answer = speedtest.answer_probe(probe, 5)
    assert answer is not None
    compare(
        {
            "speedtest.request": speedtest.pack_request(speedtest.Request(speedtest.What.SEND, 5000)).hex(),
            "speedtest.answer": speedtest.pack_answer(speedtest.Answerer.SERVER, 4000).hex(),
            "speedtest.report": speedtest.pack_report(speedtest.Report(100, 10_000_000)).hex(),
            "speedtest.probe": probe.hex(),
            "speedtest.probe_answer": answer.hex(),
        }
    )
