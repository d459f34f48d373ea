"""Sealing on both engines, against two independent libraries and against whoever tampers."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import pytest
from Cryptodome.Cipher import AES, ChaCha20_Poly1305
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3, ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.core.seal import seal
from kcpg.core.seal.seal import ALGORITHMS, CHECKSUMS, LIBRARIES, HeaderMask, Sealer, hchacha20, iv_bytes
from tests.engines import require, twin
from tests.needs import needs

KEY = bytes(range(32))
IV = bytes(range(200, 224))
AUTHENTIC = [name for name in ALGORITHMS if name not in CHECKSUMS]
SIZES = (0, 1, 15, 16, 17, 100, 255, 256, 257, 1376)


def sealer(engine: str, algorithm: str, **more: Any) -> Any:
    return twin(engine, "Sealer")(algorithm, KEY, IV[: iv_bytes(algorithm)], **more)


def nonce(algorithm: str, pn: int) -> bytes:
    """As docs/protocol.md has it: the IV, the packet number exclusive-ored into its last 8 bytes."""
    iv = IV[: iv_bytes(algorithm)]
    return iv[:-8] + (int.from_bytes(iv[-8:], "big") ^ pn).to_bytes(8, "big")


def with_cryptodome(algorithm: str, pn: int, aad: bytes, plaintext: bytes) -> bytes:
    if algorithm == "AES-GCM":
        cipher: Any = AES.new(KEY, AES.MODE_GCM, nonce=nonce(algorithm, pn))
    elif algorithm == "AES-OCB":
        cipher = AES.new(KEY, AES.MODE_OCB, nonce=nonce(algorithm, pn))
    else:  # for 24 bytes of nonce the library itself takes XChaCha20
        cipher = ChaCha20_Poly1305.new(key=KEY, nonce=nonce(algorithm, pn))
    cipher.update(aad)
    return b"".join(cipher.encrypt_and_digest(plaintext))


@pytest.mark.parametrize("algorithm", AUTHENTIC)
@pytest.mark.parametrize("pn", [0, 1, 0xFFFFFFFF, 0x1_0000_0000, 0xFFFF_FFFF_FFFF_FFFF])
def test_known_answers_of_pycryptodomex(engine: str, algorithm: str, pn: int) -> None:
    ours = sealer(engine, algorithm)
    for size in SIZES:
        plaintext = random.Random(size).randbytes(size)
        expected = with_cryptodome(algorithm, pn, b"8 header", plaintext)
        assert ours.seal(pn, b"8 header", plaintext) == expected
        assert ours.open(pn, b"8 header", expected) == plaintext


@pytest.mark.parametrize(
    ("algorithm", "cipher"), [("AES-GCM", AESGCM), ("AES-OCB", AESOCB3), ("chacha20", ChaCha20Poly1305)]
)
def test_known_answers_of_cryptography(engine: str, algorithm: str, cipher: Any) -> None:
    for size in SIZES:
        plaintext = random.Random(size).randbytes(size)
        expected = cipher(KEY).encrypt(nonce(algorithm, 77), plaintext, b"8 header")
        assert sealer(engine, algorithm).seal(77, b"8 header", plaintext) == expected


def test_hchacha20_of_the_draft() -> None:
    """draft-irtf-cfrg-xchacha-03, section 2.2.1."""
    key = bytes(range(32))
    subkey = hchacha20(key, bytes.fromhex("000000090000004a0000000031415927"))
    assert subkey.hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_library_makes_the_same(engine: str, algorithm: str, library: str) -> None:
    """The compiled engine falls back to these where there is no libcrypto."""
    fallback, best = sealer(engine, algorithm, library=library), sealer(engine, algorithm)
    assert fallback.backend == ("built-in" if algorithm in CHECKSUMS else library)
    for size in SIZES:
        sealed = best.seal(size, b"aad", bytes(size))
        assert fallback.seal(size, b"aad", bytes(size)) == sealed
        assert fallback.open(size, b"aad", sealed) == bytes(size)
        assert fallback.open(size + 1, b"aad", sealed) is None


@given(
    algorithm=st.sampled_from(ALGORITHMS),
    pn=st.integers(0, (1 << 64) - 1),
    aad=st.binary(max_size=40),
    plaintext=st.binary(max_size=2100),
)
@settings(max_examples=100)
def test_both_engines_make_the_same(algorithm: str, pn: int, aad: bytes, plaintext: bytes) -> None:
    require("kcpg.core.seal._seal")
    compiled, python = sealer("compiled", algorithm), sealer("python", algorithm)
    sealed = compiled.seal(pn, aad, plaintext)
    assert sealed == python.seal(pn, aad, plaintext)
    assert len(sealed) == len(plaintext) + 16
    assert compiled.open(pn, aad, sealed) == python.open(pn, aad, sealed) == plaintext


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_flipped_bit_is_noticed(engine: str, algorithm: str) -> None:
    ours = sealer(engine, algorithm)
    header, sealed = bytes(range(8)), ours.seal(5, bytes(range(8)), b"any payload at all")
    for place in range(8 * (8 + len(sealed))):
        flipped = bytearray(header + sealed)
        flipped[place // 8] ^= 1 << place % 8
        assert ours.open(5, bytes(flipped[:8]), bytes(flipped[8:])) is None, place
    assert ours.open(5, header, sealed) == b"any payload at all"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_cut_and_extended_packets_are_noticed(engine: str, algorithm: str) -> None:
    ours = sealer(engine, algorithm)
    sealed = ours.seal(5, b"header", bytes(40))
    for length in range(len(sealed)):
        assert ours.open(5, b"header", sealed[:length]) is None, length
    for more in (b"\0", b"\0" * 16, b"x" * 100):
        assert ours.open(5, b"header", sealed + more) is None
        assert ours.open(5, b"header", more + sealed) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_number_key_or_iv_does_not_open(engine: str, algorithm: str) -> None:
    """So a reflected, reordered or foreign datagram fails, for the checksums too."""
    length = iv_bytes(algorithm)
    kind = twin(engine, "Sealer")
    sealed = kind(algorithm, KEY, IV[:length]).seal(5, b"header", b"payload")
    assert kind(algorithm, KEY, IV[:length]).open(6, b"header", sealed) is None
    assert kind(algorithm, KEY, bytes(length)).open(5, b"header", sealed) is None
    if algorithm != "none":
        assert kind(algorithm, bytes(32), IV[:length]).open(5, b"header", sealed) is None


@pytest.mark.parametrize("algorithm", AUTHENTIC)
def test_no_two_packets_share_a_key_stream(engine: str, algorithm: str) -> None:
    """Numbers that differ only high, only low or by a carry give different nonces."""
    ours = sealer(engine, algorithm)
    numbers = [*range(300), *(1 << bit for bit in range(9, 64)), *((1 << bit) - 1 for bit in range(9, 65))]
    assert len({ours.seal(pn, b"", bytes(32))[:32] for pn in numbers}) == len(numbers)


@given(
    payload=st.binary(min_size=16, max_size=300),
    place=st.integers(0, 10_000),
    burst=st.integers(1, (1 << 126) - 1),
    algorithm=st.sampled_from(CHECKSUMS),
)
def test_the_checksum_sees_every_burst_of_126_bits(
    payload: bytes, place: int, burst: int, algorithm: str
) -> None:
    ours = sealer("python", algorithm)
    sealed = ours.seal(9, b"8 header", payload)
    number = int.from_bytes(b"8 header" + sealed[:-16], "little")
    place %= 8 * (8 + len(payload)) - burst.bit_length() + 1
    damaged = (number ^ burst << place).to_bytes(8 + len(payload), "little")
    assert ours.open(9, damaged[:8], damaged[8:] + sealed[-16:]) is None


@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_the_checksum_at_its_modulus(engine: str, algorithm: str) -> None:
    """Contents whose number is a multiple of the prime, or all ones for long, where carries gather."""
    ours = sealer(engine, algorithm)
    python = sealer("python", algorithm)
    for contents in (b"\xff" * 2000, b"\xff" * 1920, b"\xff" * 15, bytes(2000), b"\xff" * 15 + b"\x7f"):
        sealed = ours.seal(0, b"\xff" * 8, contents)
        assert sealed == python.seal(0, b"\xff" * 8, contents)
        assert ours.open(0, b"\xff" * 8, sealed) == contents


def test_header_mask_is_one_aes_block(engine: str) -> None:
    mask = twin(engine, "HeaderMask")(KEY)
    samples = random.Random(3).randbytes(16 * 64)
    blocks = AES.new(KEY, AES.MODE_ECB).encrypt(samples)
    assert mask.masks(samples) == blocks
    assert mask.mask(samples[16:32]) == blocks[16:24]
    assert mask.masks(b"") == b""


@pytest.mark.parametrize("library", LIBRARIES)
def test_header_mask_of_every_library(engine: str, library: str) -> None:
    mask = twin(engine, "HeaderMask")(KEY, library)
    assert mask.backend == library
    assert mask.masks(bytes(48)) == HeaderMask(KEY).masks(bytes(48))


def test_names_of_algorithms() -> None:
    assert [seal.parse_algorithm(name.upper()) for name in ALGORITHMS] == list(ALGORITHMS)
    assert seal.parse_algorithm(" aes-gcm ") == "AES-GCM"
    assert seal.parse_algorithm("rot13") is None


def test_the_backend_has_a_name(engine: str) -> None:
    assert sealer(engine, "none").backend == "built-in"
    assert sealer(engine, "AES-GCM").backend


def test_a_library_that_errs_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong answer, and the next library does the work."""
    monkeypatch.setattr(seal, "_trusted", {})
    monkeypatch.setattr(seal, "known_answer_holds", lambda *_: False)
    assert Sealer("AES-GCM", KEY, IV[:12]).backend == "pycryptodomex"


def test_a_libcrypto_that_errs_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    require("kcpg.core.seal._seal")
    from kcpg.core.seal import _seal

    if not _seal.LIBCRYPTO:
        pytest.skip("there is no libcrypto here")
    monkeypatch.setitem(vars(_seal)["_trusted"], ("libcrypto", "AES-OCB"), False)
    fallback = sealer("compiled", "AES-OCB")
    assert fallback.backend == "cryptography"
    monkeypatch.setitem(vars(_seal)["_trusted"], ("libcrypto", "AES-OCB"), True)
    best = sealer("compiled", "AES-OCB")
    assert best.backend == _seal.LIBCRYPTO
    assert fallback.seal(1, b"h", b"data") == best.seal(1, b"h", b"data")


def test_short_datagrams_do_without_libcrypto_or_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pycryptodomex's compiled AES makes of them, OpenSSL opens, and the other way round."""
    require("kcpg.core.seal._seal")
    from kcpg.core.seal import _seal

    if not (_seal.LIBCRYPTO and _seal.SHORT):
        pytest.skip("there is no libcrypto here, or nothing that is faster for short datagrams")
    fast, fast_mask = sealer("compiled", "AES-GCM", library="libcrypto"), _seal.HeaderMask(KEY)
    monkeypatch.setattr(_seal, "SHORT", False)
    slow, slow_mask = sealer("compiled", "AES-GCM", library="libcrypto"), _seal.HeaderMask(KEY)
    for size in range(300):
        plaintext = random.Random(size).randbytes(size)
        sealed = slow.seal(size, b"8 header", plaintext)
        assert fast.seal(size, b"8 header", plaintext) == sealed
        assert fast.open(size, b"8 header", sealed) == plaintext
        assert fast.open(size, b"8 headeR", sealed) is None
    assert fast_mask.backend == "pycryptodomex" and slow_mask.backend == _seal.LIBCRYPTO
    assert fast_mask.masks(bytes(range(160))) == slow_mask.masks(bytes(range(160)))


def test_a_short_way_that_errs_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then libcrypto does everything."""
    require("kcpg.core.seal._seal")
    from kcpg.core.seal import _seal

    if not (_seal.LIBCRYPTO and _seal.SHORT):
        pytest.skip("there is no libcrypto here, or nothing that is faster for short datagrams")
    answers = []

    def known_answer_holds(*_: Any) -> bool:
        answers.append(_seal.SHORT)
        return not _seal.SHORT

    monkeypatch.setattr(_seal, "SHORT", True)
    monkeypatch.setattr(_seal, "IPSEC", "")
    monkeypatch.setitem(vars(_seal), "_trusted", {})
    monkeypatch.setattr(seal, "known_answer_holds", known_answer_holds)
    assert sealer("compiled", "AES-GCM").backend == _seal.LIBCRYPTO
    assert answers == [True, False]


def test_ipsec_mb_makes_what_libcrypto_makes() -> None:
    """Every length of a datagram: its loops begin and end anew every 16, 128, 256 and 768 bytes."""
    require("kcpg.core.seal._seal")
    from kcpg.core.seal import _seal

    if not (_seal.IPSEC and _seal.LIBCRYPTO):
        pytest.skip(needs("libipsec-mb", "apt-get install libipsec-mb1"))
    ours = sealer("compiled", "AES-GCM", library="ipsec-mb")
    other = sealer("compiled", "AES-GCM", library="libcrypto")
    assert ours.backend == _seal.IPSEC and other.backend == _seal.LIBCRYPTO
    contents = random.Random(5).randbytes(9000)
    for size in [*range(2100), 8972, 9000]:
        plaintext, aad = contents[:size], contents[: size % 41]
        sealed = other.seal(size << 30, aad, plaintext)
        assert ours.seal(size << 30, aad, plaintext) == sealed
        assert ours.open(size << 30, aad, sealed) == plaintext
        assert ours.open(size << 30, aad, bytes((sealed[0] ^ 1,)) + sealed[1:]) is None


def test_an_ipsec_mb_that_errs_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    require("kcpg.core.seal._seal")
    from kcpg.core.seal import _seal

    if not (_seal.IPSEC and _seal.LIBCRYPTO):
        pytest.skip(needs("libipsec-mb", "apt-get install libipsec-mb1"))
    monkeypatch.setitem(vars(_seal), "_trusted", {})
    monkeypatch.setattr(seal, "known_answer_holds", lambda ours, *_: not ours.backend.startswith("ipsec-mb"))
    assert sealer("compiled", "AES-GCM").backend == _seal.LIBCRYPTO
    assert sealer("compiled", "AES-OCB").backend == _seal.LIBCRYPTO


def test_a_library_without_the_algorithm_says_so() -> None:
    require("kcpg.core.seal._seal")
    with pytest.raises(ValueError, match="no chacha20 in ipsec-mb"):
        sealer("compiled", "chacha20", library="ipsec-mb")


def test_the_known_answers_reject_a_wrong_cipher() -> None:
    class Wrong(Sealer):
        def seal(self, pn: int, aad: bytes, plaintext: bytes) -> bytes:
            return super().seal(pn & 0xFFFFFFFF, aad, plaintext)  # forgets the high half

    class Gullible(Sealer):
        def open(self, pn: int, aad: bytes, sealed: bytes) -> bytes | None:
            return super().open(pn, aad, sealed) or b""

    for kind, holds in ((Sealer, True), (Wrong, False), (Gullible, False)):
        assert seal.known_answer_holds(kind("AES-GCM", KEY, IV[:12]), KEY, IV[:12]) is holds


def test_everything_works_without_cryptography() -> None:
    """In a process where it cannot be imported: the same datagrams, made by pycryptodomex."""
    program = """if True:
        import sys
        sys.modules["cryptography"] = None
        from kcpg.core.seal.seal import Sealer
        from tests.handshakes import HandshakePair
        sealer = Sealer("xchacha20", bytes(range(32)), bytes(24))
        assert sealer.backend == "pycryptodomex"
        print(sealer.seal(7, b"h", b"data").hex(), HandshakePair(seed=4).meet()[0].session_secret.hex())
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    from tests.handshakes import HandshakePair

    sealed = Sealer("xchacha20", bytes(range(32)), bytes(24)).seal(7, b"h", b"data")
    assert done.stdout.split() == [sealed.hex(), HandshakePair(seed=4).meet()[0].session_secret.hex()]
