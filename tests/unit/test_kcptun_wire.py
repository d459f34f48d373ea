"""What only the compiled wire of the kcptun dialect does: leave datagrams in the socket for a moment."""

from __future__ import annotations

import random
from typing import Any

from kcpg.core.kcp.params import KcpParams
from kcpg.core.kcptun.wire import Format
from tests.engines import twin

PARAMS = KcpParams(snd_wnd=64, rcv_wnd=64)
HERE = (1, b"here")


def wires() -> tuple[Any, Any]:
    """Two that talk to each other by one path."""
    kind, rng = twin("compiled", "TunWire"), random.Random(1)
    one = Format("none", b"", 600, (0, 0))
    two = kind(one, rng.randbytes, lambda path, body: two.converse(1, PARAMS, path))
    return kind(one, rng.randbytes, lambda path, body: None), two


def exchange(near: Any, far: Any, now_ms: int, rtt_ms: int) -> None:
    for wire, other, at_ms in ((near, far, now_ms), (far, near, now_ms + rtt_ms)):
        for _, _, datagram in wire.transmit(at_ms):
            other.receive(*HERE, datagram, at_ms)


def test_datagrams_that_come_singly_are_left_for_an_eighth_of_a_round_trip() -> None:
    near, far = wires()
    conv = near.converse(1, PARAMS, HERE)
    assert near.coalesce_ms(0) == 0, "nothing came"
    for turn in range(200):
        conv.write(bytes(500))
        exchange(near, far, 100 * turn, 40)
    assert near.coalesce_ms(20_000) == conv.kcp.srtt_ms // 8 == 5
    assert near.coalesce_ms(20_000) == 0, "nothing came since"
    conv.write(bytes(500))
    exchange(near, far, 20_000, 40)
    assert far.coalesce_ms(20_040) == 1, "it has measured nothing"


def test_a_round_trip_that_is_long_leaves_them_no_longer() -> None:
    near, far = wires()
    conv = near.converse(1, PARAMS, HERE)
    for turn in range(100):
        conv.write(bytes(500))
        exchange(near, far, 1000 * turn, 300)
    assert near.coalesce_ms(100_000) == 8
