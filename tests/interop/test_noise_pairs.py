"""Our IKpsk2 against an independent one (PyPI noiseprotocol), message by message and key by key."""

from __future__ import annotations

from typing import Any

import pytest
from noise.connection import Keypair

from kcpg.core.native.handshake import noise
from kcpg.core.seal.seal import LIBRARIES
from tests.noises import check_we_initiate, check_we_respond, inputs, party

# It warns that ephemeral keys should not be fixed; here they are, so that both sides can be compared.
pytestmark = pytest.mark.filterwarnings("ignore:One of ephemeral keypairs is already set")

EPHEMERAL_I, EPHEMERAL_R = bytes(range(32)), bytes(range(100, 132))
STATIC_I, STATIC_R = b"i" * 32, b"r" * 32
PUBLIC_R = noise.PrivateKey(STATIC_R).public


def other(initiates: bool, psk: bytes, prologue: bytes) -> Any:
    """The independent party, with its keys fixed."""
    private = {
        Keypair.STATIC: STATIC_I if initiates else STATIC_R,
        Keypair.EPHEMERAL: EPHEMERAL_I if initiates else EPHEMERAL_R,
    }
    return party(noise.IKPSK2, initiates, psk, prologue, private, PUBLIC_R if initiates else b"")


def initiator(psk: bytes, prologue: bytes, library: str | None = None) -> noise.Initiator:
    static = noise.PrivateKey(STATIC_I, library)
    return noise.Initiator(psk, prologue, EPHEMERAL_I, library, static, PUBLIC_R)


def responder(psk: bytes, prologue: bytes, library: str | None = None) -> noise.Responder:
    return noise.Responder(psk, prologue, library, noise.PrivateKey(STATIC_R, library))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", range(8))
def test_we_initiate(library: str, seed: int) -> None:
    psk, prologue, one, two = inputs(seed)
    check_we_initiate(initiator(psk, prologue, library), other(False, psk, prologue), one, two)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", range(8))
def test_we_respond(library: str, seed: int) -> None:
    psk, prologue, one, two = inputs(seed)
    ours = responder(psk, prologue, library)
    check_we_respond(ours, other(True, psk, prologue), one, two, EPHEMERAL_R)
    assert ours.peer_static == noise.PrivateKey(STATIC_I).public


def test_byte_for_byte() -> None:
    """With the same keys both implementations say the same."""
    psk, prologue, one, two = inputs(5)
    they_i, they_r = other(True, psk, prologue), other(False, psk, prologue)
    we_i, we_r = initiator(psk, prologue), responder(psk, prologue)
    first = we_i.write(one)
    assert first == bytes(they_i.write_message(one))
    assert len(first) == noise.IKPSK2.overhead + len(one)
    assert we_r.read(first) == one == bytes(they_r.read_message(first))
    written = we_r.write(two, EPHEMERAL_R)
    assert written is not None and written[0] == bytes(they_r.write_message(two))
    assert we_i.read(written[0]) == (two, written[1])


@pytest.mark.parametrize("library", LIBRARIES)
def test_another_secret_prologue_or_listener_is_not_understood(library: str) -> None:
    """The secret enters with the second message: who lacks it reads the first and cannot answer."""
    message = initiator(bytes(32), b"here", library).write(b"hello")
    assert responder(bytes(32), b"here", library).read(message) == b"hello"
    assert responder(bytes(32), b"there", library).read(message) is None
    elsewhere = noise.Responder(bytes(32), b"here", library, noise.PrivateKey(b"x" * 32, library))
    assert elsewhere.read(message) is None
    asker, wrong = initiator(bytes(32), b"here", library), responder(b"1" * 32, b"here", library)
    assert wrong.read(asker.write(b"hello")) == b"hello"
    answer = wrong.write(b"welcome", EPHEMERAL_R)
    assert answer is not None and asker.read(answer[0]) is None


def test_garbage_between_two_parties_does_not_stop_them() -> None:
    we_i, we_r = initiator(bytes(32), b""), responder(bytes(32), b"")
    first = we_i.write(b"one")
    for at in range(len(first)):
        assert we_r.read(first[:at] + bytes([first[at] ^ 1]) + first[at + 1 :]) is None
        assert we_r.read(first[:at]) is None
    assert we_r.read(first) == b"one"
    written = we_r.write(b"two", EPHEMERAL_R)
    assert written is not None
    for wrong in (b"", bytes(48), written[0][:-1], bytes([written[0][0] ^ 1]) + written[0][1:]):
        assert we_i.read(wrong) is None
    assert we_i.read(written[0]) == (b"two", written[1])


def test_keys_that_agree_on_nothing() -> None:
    """As static keys of either side, and as the ephemeral one of either message."""
    nothing = bytes(32)
    with pytest.raises(ValueError):
        noise.Initiator(nothing, b"", EPHEMERAL_I, None, noise.PrivateKey(STATIC_I), nothing).write(b"")
    asker, answerer = initiator(bytes(32), b""), responder(bytes(32), b"")
    first = asker.write(b"one")
    assert answerer.read(nothing + first[32:]) is None
    assert answerer.read(first) == b"one"
    written = answerer.write(b"two", EPHEMERAL_R)
    assert written is not None and asker.read(nothing + written[0][32:]) is None


def test_a_shared_secret_that_is_kept_changes_nothing() -> None:
    """The secret of the two static keys never changes, so either side may have it ready."""
    kept = noise.PrivateKey(STATIC_I).exchange(PUBLIC_R)
    asker = noise.Initiator(
        bytes(32), b"", EPHEMERAL_I, None, noise.PrivateKey(STATIC_I), PUBLIC_R, lambda _public: kept
    )
    assert asker.write(b"one") == initiator(bytes(32), b"").write(b"one")
