"""Segments that FEC gave back carry data like others, but no times and no windows."""

from __future__ import annotations

from typing import Any

import pytest

from kcpg.core.kcp.params import CMD_ACK, HEADER, REBUILT_AGE_MS, KcpParams
from kcpg.core.units import MASK32
from tests.engines import twin

PARAMS = KcpParams(nodelay=1, interval_ms=10, resend=2, snd_wnd=64, rcv_wnd=64)


def pair(engine: str) -> tuple[Any, Any]:
    return tuple(twin(engine, "Kcp")(7, 1000, PARAMS) for _ in range(2))  # type: ignore[return-value]


def flushed(kcp: Any, now_ms: int) -> bytes:
    return b"".join(kcp.flush(now_ms))


@pytest.mark.parametrize("ack_rebuilt", [False, True])
@pytest.mark.parametrize("push_rebuilt", [False, True])
def test_no_round_trip_is_measured(engine: str, push_rebuilt: bool, ack_rebuilt: bool) -> None:
    a, b = pair(engine)
    a.send(b"x")
    assert b.input(flushed(a, 1_000), 1_030, push_rebuilt) == 0
    assert b.recv() == b"x"
    assert a.input(flushed(b, 1_080), 1_100, ack_rebuilt) == 0
    assert a.idle, "acknowledged it is, in any case"
    assert a.srtt_ms == (0 if push_rebuilt or ack_rebuilt else 100)
    assert a.resends_spurious == 0


def test_the_acknowledgement_of_a_rebuilt_push_names_no_transmission(engine: str) -> None:
    a, b = pair(engine)
    a.send(b"x")
    b.input(flushed(a, 1_000), 1_030, True)
    _, cmd, _, _, ts, sn, una, _ = HEADER.unpack_from(flushed(b, 1_080))
    assert (cmd, ts, sn, una) == (CMD_ACK, (1_000 - REBUILT_AGE_MS) & MASK32, 0, 1)


def test_an_old_window_is_not_heeded(engine: str) -> None:
    a, b = pair(engine)
    b.set_windows(64, 9)
    b.send(b"answer")
    told = flushed(b, 1_000)
    before = a.rmt_wnd
    a.input(told, 1_030, True)
    assert a.rmt_wnd == before != 9 and a.recv() == b"answer"
    a.input(told, 1_030)
    assert a.rmt_wnd == 9


def test_what_is_rebuilt_overtakes_nothing(engine: str) -> None:
    """Ten segments are on their way; the last is rebuilt first. That says nothing about the others."""
    a, b = pair(engine)
    for _ in range(10):
        a.send(bytes(900))
    datagrams = a.flush(1_000)
    b.input(datagrams[-1], 1_030, True)
    a.input(flushed(b, 1_080), 1_100)
    assert flushed(a, 1_101) == b"" and a.segments_resent_fast == 0
