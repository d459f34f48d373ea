"""What an address gets before it has shown that the peer receives there: three times what came from it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from kcpg.core.native.link.link import ACTIONS
from kcpg.core.native.link.pathproof import AGAIN_MAX_MS
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.pathcredit import PATH_CREDIT
from tests.engines import ENGINES
from tests.links import LinkRig, Watch
from tests.wires import PATH_A, WirePair

HOME, ELSEWHERE = b"d1", b"x99"  # which is no socket of the rig


@pytest.fixture(params=[8, 100])
def rig(engine: str, request: pytest.FixtureRequest) -> LinkRig:
    """A link up, hosts being the first two characters of an address."""
    rig = LinkRig(engine, delay_ms=request.param)
    rig.l.env = replace(rig.l.env, source_key=lambda addr: addr[:2])
    return rig.up()


def download(rig: LinkRig) -> tuple[Watch, Watch]:
    """A flow of which the listener's end always has more to send; what came is read at once."""
    near, far = rig.pair()
    near.flow.write(b"begin")
    rig.run(4 * rig.delay_ms)
    return near, far


def go_on(rig: LinkRig, near: Watch, far: Watch, ms: int) -> int:
    """Bytes that came meanwhile."""
    got = 0
    for _ in range(ms // 5):
        far.flow.write(bytes(20_000))
        rig.run(5)
        got += len(near.flow.read(1 << 20) or b"")
    return got


def bytes_of(rig: LinkRig, addr: bytes, since: int) -> int:
    """Sent by the listener to this address."""
    return sum(len(each[3]) for each in rig.sent[since:] if each[0] == "l" and each[2] == addr)


def test_an_address_that_answers_gets_everything(rig: LinkRig) -> None:
    near, far = download(rig)
    go_on(rig, near, far, 1000)
    before = go_on(rig, near, far, 1000)
    rig.moves[HOME] = ELSEWHERE
    go_on(rig, near, far, 20 * rig.delay_ms)
    link = rig.l.links[0]
    assert link.link_wire.path[1] == ELSEWHERE and link.counters.moves == 1
    assert go_on(rig, near, far, 1000) >= 0.8 * before, "its speed is what it was"
    limited = rig.l.wire.drops.get("path_limit", 0)
    del rig.moves[HOME]  # back home, which has answered before: no question, no limit
    asked = link.link_wire.tx_datagrams
    near.flow.write(b"back")
    rig.until(lambda: link.link_wire.path[1] == HOME)
    assert link.link_wire.tx_datagrams > asked and rig.l.wire.drops.get("path_limit", 0) == limited


def test_an_address_that_never_answers_gets_three_times_its_bytes(
    rig: LinkRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst case: the peer acknowledges all that is sent there, without an answer to the question."""
    read, act = ACTIONS[frames.PATH_CHALLENGE]
    asked: list[int] = []

    def deaf(link: Any, opaque: bytes, path: Any, now_ms: int) -> None:
        if link.dials:
            asked.append(now_ms)
        else:
            act(link, opaque, path, now_ms)

    monkeypatch.setitem(ACTIONS, frames.PATH_CHALLENGE, (read, deaf))
    near, far = download(rig)
    go_on(rig, near, far, 1000)
    rig.moves[HOME] = ELSEWHERE
    began = len(rig.sent)
    link = rig.l.links[0]
    sent_by_dialer = rig.d.link.link_wire.tx_bytes
    for _ in range(60):
        near.flow.write(bytes(100))
        go_on(rig, near, far, 200)
        came = rig.d.link.link_wire.tx_bytes - sent_by_dialer
        assert bytes_of(rig, ELSEWHERE, began) <= PATH_CREDIT * came
    assert link.link_wire.path[1] == ELSEWHERE and len(asked) >= 4
    gaps = [later - sooner for sooner, later in pairwise(asked)]
    assert max(gaps) >= AGAIN_MAX_MS - 500, "asked ever less often"
    del rig.moves[HOME]
    rig.until(lambda: link.link_wire.path[1] == HOME)
    assert go_on(rig, near, far, 3000) > 300_000, "at home all goes on"


def test_another_port_of_the_host_is_followed_without_a_question(
    rig: LinkRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = download(rig)
    go_on(rig, near, far, 1000)
    link = rig.l.links[0]
    limited: list[int] = []
    monkeypatch.setattr(link._proof, "_challenge", limited.append)
    for port in range(5):
        rig.moves[HOME] = b"d1%d" % port
        near.flow.write(bytes(100))
        go_on(rig, near, far, 1500)
        assert link.link_wire.path[1] == b"d1%d" % port
    assert not limited and link.counters.moves == 5 and "path_limit" not in rig.l.wire.drops


@pytest.mark.parametrize("engine", ENGINES)
def test_a_turn_keeps_to_the_limit(engine: str) -> None:
    """Also one with more to send than a batch takes, and with control frames."""
    pair = WirePair(engine)
    pair.run(100)
    conv = pair.open()
    conv.write(b"x" * 700)
    pair.run(10)
    far = pair.b.convs[1]
    pair.b.set_path(*PATH_A)
    before, came = pair.b.tx_bytes, pair.b.rx_bytes
    pair.b.limit_path()
    far.write(bytes(300_000))
    size = pair.b.datagram_bytes
    assert len(pair.wires["b"].transmit(pair.now_ms)) == PATH_CREDIT * came // size >= 1
    assert pair.b.tx_bytes - before <= PATH_CREDIT * came
    assert pair.wires["b"].transmit(pair.now_ms) == [] and not pair.wires["b"].backlog
    for _ in range(100):
        pair.b.send(frames.PING, bytes(8))
    assert pair.wires["b"].drops["path_limit"] > 0
    assert PATH_CREDIT * came - 33 < pair.b.tx_bytes - before <= PATH_CREDIT * came
    pair.b.prove_path()
    assert len(pair.wires["b"].transmit(pair.now_ms)) > 3
