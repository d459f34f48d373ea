"""The key schedule, against `cryptography`'s scrypt and HKDF."""

from __future__ import annotations

import base64
import pickle
from dataclasses import astuple

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from kcpg.core.native.handshake.keys import (
    EpochKeys,
    KeyPair,
    RootKeys,
    expand,
    format_key,
    parse_key,
)
from kcpg.core.seal.seal import ALGORITHMS, iv_bytes

LABELS = (b"handshake c2s", b"handshake s2c", b"mask c2s", b"mask s2c", b"psk")


def independent(root: bytes, salt: bytes = b"kcpg/1") -> tuple[bytes, ...]:
    return tuple(HKDF(SHA256(), 32, salt, label).derive(root) for label in LABELS)


@pytest.mark.parametrize("password", ["", "correct horse", "пароль", "x" * 300])
def test_from_a_password(password: str) -> None:
    root = Scrypt(salt=b"kcpg/1", length=64, n=1 << 15, r=8, p=1).derive(password.encode())
    assert astuple(RootKeys.from_password(password.encode())) == (*independent(root), None)


def test_from_a_key() -> None:
    assert astuple(RootKeys.from_key(bytes(range(32)))) == (*independent(bytes(range(32))), None)


def test_of_key_pairs() -> None:
    """Both ends have the same keys, whatever secret they have besides; the listener's public key is in
    all."""
    listener = KeyPair(b"l" * 32)
    dialer = KeyPair(b"d" * 32, listener.own.public)
    password = Scrypt(salt=b"kcpg/1", length=64, n=1 << 15, r=8, p=1).derive(b"secret")
    for pair in (listener, dialer):
        for root, keys in (
            (b"", RootKeys.from_pair(pair)),
            (b"k" * 32, RootKeys.from_key(b"k" * 32, pair)),
            (password, RootKeys.from_password(b"secret", pair)),
        ):
            made = (keys.handshake_c2s, keys.handshake_s2c, keys.mask_c2s, keys.mask_s2c, keys.psk)
            assert made == independent(root + listener.own.public, b"kcpg/1 key pair")
            assert keys.pair is pair


def test_a_pair_goes_to_another_process() -> None:
    pair = KeyPair(b"d" * 32, KeyPair(b"l" * 32).own.public)
    again = pickle.loads(pickle.dumps(pair))
    assert again == pair and hash(again) == hash(pair)
    assert again.own.public == pair.own.public and again.listener == pair.listener
    assert again != KeyPair(b"e" * 32, pair.listener)


def test_a_pair_with_a_key_that_agrees_on_nothing_is_refused() -> None:
    with pytest.raises(ValueError):
        KeyPair(b"d" * 32, bytes(32))


def test_what_is_shared_is_kept_for_those_who_are_named() -> None:
    pair, others = KeyPair(b"l" * 32), [KeyPair(bytes([n]) * 32).own.public for n in range(3)]
    assert [pair.keep(one) for one in others] == [True] * 3
    assert not pair.keep(bytes(32))
    pair.keep_only({others[1]})
    assert list(pair._shared) == [others[1]]
    for one in others:
        assert pair.shared(one) == pair.own.exchange(one)


def test_expand_is_hkdf_expand() -> None:
    for info in (b"", b"label", bytes(100)):
        assert expand(bytes(32), info) == HKDFExpand(SHA256(), 32, info).derive(bytes(32))


def test_every_key_of_an_epoch_differs() -> None:
    epochs = [EpochKeys.derive(name, bytes(32), b"1" * 32) for name in ALGORITHMS]
    keys = [key for epoch in epochs for key in astuple(epoch)[1:]]
    assert len(set(keys)) == 4 * len(ALGORITHMS)
    assert [len(epoch.c2s_iv) for epoch in epochs] == [iv_bytes(name) for name in ALGORITHMS]


def test_keys_in_text() -> None:
    key = bytes(range(224, 256))
    assert parse_key(format_key(key)) == key
    assert parse_key(" " + base64.urlsafe_b64encode(key).decode() + "\n") == key
    for wrong in (
        "",
        "abc",
        format_key(key)[:-4],
        base64.b64encode(bytes(33)).decode(),
        "ключ" * 11,
        "!" * 44,
    ):
        assert parse_key(wrong) is None


def test_no_key_shows_in_a_log() -> None:
    keys = RootKeys.from_key(b"k" * 32)
    epoch = EpochKeys.derive("AES-GCM", b"k" * 32, b"k" * 32)
    pair = KeyPair(b"k" * 32)
    for shown in (repr(keys), f"{epoch}", f"{pair} {pair.own}"):
        assert "b'" not in shown and 'b"' not in shown
