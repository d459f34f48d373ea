"""kcptun's datagrams, byte by byte; the longer ones were taken from kcptun 20210922 and a build of 2026."""

from __future__ import annotations

import pytest

from kcpg.core.kcptun import cipher
from kcpg.core.kcptun.cipher import CRYPTS, KEY_BYTES, OPEN, SLOW
from tests.engines import twin

PASSWORD = b"test key 123"
SECRET = bytes.fromhex("e6e11017e4ff39f056990e76a2ce3942dcec6620df4c4e12f5d64c9b15e9237d")
BODY = bytes.fromhex("40b16a3751000002ac0400000000000000000000080000000100000003000000")
NONCE = bytes(range(16))

# The body above, sealed with the nonce above.
SEALED = {
    "aes": "4b185a1d14749066013d6674564afa3d22bcc7420d620634a4e77504694f13d680612c2b43d3bf508ef868d1f1"
    "ab925135a782c0",
    "aes-128": "02a0014508a0174df0596f2a3f27f2bcd56ec3474e9b55d6c57a48a37494620202bf53615bc2288deb3d9b4a0e"
    "b628741ce4945d",
    "aes-192": "e1c9d67fd698cfd4a5090b0910d96d1397b84ea626057252e9882d98684d729c1b2d7eb80b3b95644672f039d6"
    "ec696102dda276",
    "blowfish": "f88c643e38b5a6770fd5f2426170eeeb16ff33e8aab4e3d9dc6f99643613a18a50830db2281fdf302b30b6f661"
    "1d8959d7ec10ff",
    "cast5": "e0218875eb2ca285e50562de61756f1efaf51a24b12f91e2adac13f7f792360aaba39abd97686cf41cc847a670"
    "ce4d0928d04e5c",
    "3des": "d698f59bc1378d5591516934b17b9a3f129e541a9e0dc15ee25f91c0ac619e879c39ede74c20400d1cccfe5833"
    "8e8def68bb3c85",
    "tea": "efe084978cba4c7e587345ea61606ca44406cc8445ba882eea6773c2c6c32bad1c898443fa983f86b7f6ff1ac4"
    "93873cb4b8d83a",
    "xtea": "aafb21fedf20cf488bd2ec378c5533ab6ded4e2e3dd71fcdf6d5f3773ad0934116ec96398240fbd54e40bf94af"
    "213eb01ac68963",
    "sm4": "fbc07290662101002e7a6a0be99b584fb16589d8221c20f8f5e67cc1a04353d8eec5319468ec653e747ee80f4b"
    "6cc2ba62685ca7",
    "twofish": "9a081311aec3b4bb41d0ea26efb700cd61df09b035b7b6c3e05ed75aada8ef48a3f9252d7b1dbd21b4b62af31c"
    "9c5d0a1f739400",
    "salsa20": "0001020304050607fba404924efaf2b077b6c4c98e54aeeb78b74aa9473058b58fbf69e076439237226909a22b"
    "1f152273a7d183",
    "xor": "ab1ba7c3dd45100da2cae5bdf13764f2e1e02c3f2918b841b06578b72c18d4c40b2bdfa8c1129d94b72144e964"
    "de1894840697fa",
    "none": "000102030405060708090a0b0c0d0e0fbeb472b940b16a3751000002ac04000000000000000000000800000001"
    "00000003000000",
    "null": BODY.hex(),
    "aes-128-gcm": "000102030405060708090a0b85702b7452b2df137bc28d767c351f729b2ee484eaf4bd21d05296f988"
    "f841b2bd7fac322cfb14a4aeb6a7243480c822",
}

# Sent by real programs under the password above: what opens them, and what they hold.
CAPTURED = [
    (
        "aes",
        "ce646509e74b0d196bfbf9f420a18a3721cfb2881ccc7ac74146f11cc6565ac78da3c06f7ca5923aa20fbf11ad26dc1494ce33"
        "8a533fb05e9fb35cf4",
        "00000000f100220085f3dbac51000002a70400000000000000000000080000000100000003000000",
    ),
    (
        "aes",
        "1a24ddc1a9df61abd223e434ab388dff7e8b7fd9cb15394bbebfe73da3daa2dd37cad73a6d6f1e452fe008efea4bed4430ed36"
        "2e21eb29a86de3f666b776",
        "90a6e12c510000025305000000000000000000001200 0000ff060000734e61507059010c0000bde37d26",
    ),
    (
        "none",
        "882a6cf92ed5acc6cbb4fe67ac5a707992446e4f40b16a3752001e00ad040000010000000200000000000000",
        "40b16a3752001e00ad040000010000000200000000000000",
    ),
    (
        "aes-128-gcm",
        "e7a92d47bc924c2099618958cc86c695dadb85bde1b5e6bd1ad4a7abac1a0b1c6b34c175367778aa0770485851f4cca4e8aa6d"
        "bdc08795bcb4d7769206269b5b45a5569e",
        "00000000f10022001e01391451000002920400000000000000000000080000000200000003000000",
    ),
]


def test_the_key_of_a_password() -> None:
    assert cipher.derive(PASSWORD) == SECRET


@pytest.mark.parametrize("crypt", CRYPTS)
def test_seals_as_kcptun(engine: str, crypt: str) -> None:
    made = twin(engine, "Cipher")(crypt, SECRET)
    sealed = made.seal(NONCE[: made.nonce_bytes], BODY)
    assert sealed == bytes.fromhex(SEALED[crypt])
    assert len(sealed) == len(BODY) + cipher.overhead(crypt)
    assert made.open(sealed) == BODY


@pytest.mark.parametrize(("crypt", "datagram", "body"), CAPTURED)
def test_opens_what_real_programs_sent(engine: str, crypt: str, datagram: str, body: str) -> None:
    assert twin(engine, "Cipher")(crypt, SECRET).open(bytes.fromhex(datagram)) == bytes.fromhex(body)


@pytest.mark.parametrize("crypt", [name for name in CRYPTS if name != "null"])
def test_damage_and_other_keys_are_noticed(engine: str, crypt: str) -> None:
    made = twin(engine, "Cipher")(crypt, SECRET)
    sealed = made.seal(NONCE[: made.nonce_bytes], BODY)
    for at in (len(sealed) - 1, len(sealed) - len(BODY) // 2):
        damaged = bytearray(sealed)
        damaged[at] ^= 1
        assert made.open(bytes(damaged)) is None
    for size in (0, 1, cipher.overhead(crypt), len(sealed) - 1):
        assert made.open(sealed[:size]) is None
    assert made.open(bytes(cipher.DATAGRAM_BYTES + 100)) is None
    if KEY_BYTES[crypt]:
        assert twin(engine, "Cipher")(crypt, SECRET[::-1]).open(sealed) is None


@pytest.mark.parametrize("crypt", CRYPTS)
@pytest.mark.parametrize("size", [1, 4, 5, 1300])
def test_every_length(engine: str, crypt: str, size: int) -> None:
    made = twin(engine, "Cipher")(crypt, SECRET)
    body = bytes(i * 7 & 255 for i in range(size))
    assert made.open(made.seal(NONCE[: made.nonce_bytes], body)) == body


def test_libraries_agree(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package cryptography the same bytes come out, only slower."""
    monkeypatch.setattr(cipher.seal, "HAVE_CRYPTOGRAPHY", False)
    for crypt in CRYPTS:
        if crypt == "sm4":
            with pytest.raises(ValueError, match="sm4"):
                twin(engine, "Cipher")(crypt, SECRET)
            continue
        made = twin(engine, "Cipher")(crypt, SECRET)
        assert made.seal(NONCE[: made.nonce_bytes], BODY) == bytes.fromhex(SEALED[crypt])
        assert made.open(bytes.fromhex(SEALED[crypt])) == BODY
        assert made.open(b"x" * 60) is None or crypt == "null"


def test_marks_only_where_nobody_can_make_others(engine: str) -> None:
    assert {name for name in CRYPTS if not twin(engine, "Cipher")(name, SECRET).marks} == set(OPEN)


@pytest.mark.parametrize("crypt", [crypt for crypt in CRYPTS if crypt not in OPEN])
def test_a_repetition_cannot_be_given_another_mark(engine: str, crypt: str) -> None:
    """Whoever changes a byte of the mark makes the datagram worthless; what is left out would allow it."""
    made = twin(engine, "Cipher")(crypt, SECRET)
    datagram = made.seal(bytes(range(made.nonce_bytes)), b"body" * 20)
    for place in range(16):
        changed = bytearray(datagram)
        changed[place] ^= 1
        opened = made.open(bytes(changed))
        if bytes(changed)[made.mark] != datagram[made.mark]:
            assert opened is None, place
        elif crypt != "aes-128-gcm":
            assert opened == b"body" * 20, place


def test_a_library_does_the_work_of_what_is_not_slow() -> None:
    compiled = twin("compiled", "Cipher")
    own = {crypt for crypt in CRYPTS if not compiled(crypt, SECRET).is_compiled}
    assert own == {*SLOW, "salsa20"}
