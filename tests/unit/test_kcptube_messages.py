"""kcptube's messages, byte for byte."""

from __future__ import annotations

import pytest

from kcpg.core.flow import Reset, ResetCode, Target
from kcpg.core.kcptube import messages
from kcpg.core.kcptube.messages import Carries, Settings

NUMBER = 0x01020304


def test_a_plain_request_has_28_bytes() -> None:
    assert messages.pack_settings(Carries.TCP, Settings()) == b"\x20" + bytes(27)
    assert messages.pack_settings(Carries.MUX, Settings())[0] == 0x10


def test_settings_are_big_endian_and_in_this_order() -> None:
    told = Settings(NUMBER, (3000, 3010), 0x11, 0x22)
    packed = messages.pack_settings(Carries.UDP, told)
    assert packed.hex() == "30010203040bb80bc200000000000000110000000000000022000000"
    assert messages.read_settings(packed) == told


def test_a_target_is_a_port_and_text() -> None:
    told = Settings(target=Target("10.0.0.1", 80))
    packed = messages.pack_settings(Carries.TCP, told)
    assert packed[-11:] == b"\x00\x5010.0.0.1\x00" and len(packed) == 28 + 8
    assert messages.read_settings(packed) == told


def test_names_of_other_scripts_travel_as_dns_has_them() -> None:
    packed = messages.pack_settings(Carries.TCP, Settings(target=Target("bücher.example", 80)))
    found = messages.read_settings(packed)
    assert found is not None and found.target == Target("xn--bcher-kva.example", 80)


@pytest.mark.parametrize("size", range(27))
def test_settings_that_are_cut_are_none(size: int) -> None:
    assert messages.read_settings(messages.pack_settings(Carries.TCP, Settings())[:size]) is None


@pytest.mark.parametrize(
    "tail", [b"\x00\x00host\x00", b"\x00\x50\x00", b"\x00\x50a b\x00", b"\x00\x50\xff\x00"]
)
def test_half_a_target_is_none(tail: bytes) -> None:
    assert messages.read_settings(b"\x20" + bytes(24) + tail) is None


def test_the_other_messages() -> None:
    assert messages.short(Carries.TCP, messages.DISCONNECT).hex() == "220000"
    assert messages.short(Carries.MUX, messages.KEEP_ALIVE).hex() == "130000"
    assert messages.short(Carries.UDP, messages.KEPT_ALIVE).hex() == "340000"
    assert messages.PROBE.hex() == "030000"
    reason = Reset(ResetCode.NO_ROUTE, "a\0b")
    assert messages.pack_failure(Carries.TCP, reason) == b"\x21no route: a b\x00"
    read = messages.read_reason(b"\x21no route: a b\x00", ResetCode.REFUSED)
    assert read == Reset(ResetCode.NO_ROUTE, "a b")
    theirs = messages.read_reason(b"\x21Connection refused\x00rest", ResetCode.REFUSED)
    assert theirs == Reset(ResetCode.REFUSED, "Connection refused")
    for text in (b"\x1b[2J\rok\nforged", "\u202egnp.exe".encode(), b"\xff\x9b31m"):
        shown = messages.read_reason(b"\x21" + text + b"\x00", ResetCode.REFUSED).text
        assert shown.isprintable() and "\ufffd" not in shown and "?" in shown
    assert messages.mux_data(Carries.TCP, NUMBER).hex() == "2601020304"
    assert messages.mux_cancel(Carries.UDP, NUMBER).hex() == "370102030400"
    reset = messages.mux_cancel(Carries.TCP, NUMBER, ResetCode.TIMEOUT)
    assert reset.hex() == "270102030404" and messages.read_code(reset) is ResetCode.TIMEOUT
    assert messages.read_code(reset[:5] + b"\x00") is messages.read_code(reset[:5]) is None
    assert messages.read_code(reset[:5] + b"\xff") is ResetCode.INTERNAL
    packed = messages.mux_target(Carries.TCP, NUMBER, Target("a", 443))
    assert packed.hex() == "280102030401bb6100"
    assert messages.read_id(packed) == NUMBER and messages.read_mux_target(packed) == Target("a", 443)
    assert messages.read_id(packed[:4]) is None and messages.read_mux_target(packed[:6]) is None
