"""An independent Noise party (PyPI noiseprotocol), and what both sides of an agreement have to agree on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from noise.connection import Keypair, NoiseConnection

from kcpg.core.native.handshake import noise


def party(
    pattern: noise.Pattern,
    initiates: bool,
    psk: bytes,
    prologue: bytes,
    private: Mapping[Keypair, bytes],
    remote_static: bytes = b"",
) -> Any:
    """The independent party, with its keys fixed."""
    made = NoiseConnection.from_name(pattern.name)
    made.set_psks(psk)
    made.set_prologue(prologue)
    if initiates:
        made.set_as_initiator()
    else:
        made.set_as_responder()
    if remote_static:
        made.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote_static)
    for which, key in private.items():
        made.set_keypair_from_private_bytes(which, key)
    made.start_handshake()
    return made


def inputs(seed: int) -> tuple[bytes, bytes, bytes, bytes]:
    """psk, prologue, two payloads."""
    rng = random.Random(seed)
    return rng.randbytes(32), rng.randbytes(seed % 50), rng.randbytes(seed * 7 % 200), rng.randbytes(seed * 3)


def check_we_initiate(ours: noise.Initiator, peer: Any, one: bytes, two: bytes) -> None:
    """Both messages are understood, and the keys are the same."""
    assert bytes(peer.read_message(ours.write(one))) == one
    answered = ours.read(bytes(peer.write_message(two)))
    assert answered is not None and answered[0] == two
    assert peer.noise_protocol.cipher_state_decrypt.k == answered[1].c2s
    assert peer.noise_protocol.cipher_state_encrypt.k == answered[1].s2c


def check_we_respond(ours: noise.Responder, peer: Any, one: bytes, two: bytes, ephemeral: bytes) -> None:
    """Both messages are understood, and the keys are the same."""
    assert ours.read(bytes(peer.write_message(one))) == one
    written = ours.write(two, ephemeral)
    assert written is not None
    assert bytes(peer.read_message(written[0])) == two
    assert peer.noise_protocol.cipher_state_encrypt.k == written[1].c2s
    assert peer.noise_protocol.cipher_state_decrypt.k == written[1].s2c
