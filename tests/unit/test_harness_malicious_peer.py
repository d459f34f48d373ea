"""What a party with the keys may send harms no conversation, its own honest one included."""

from __future__ import annotations

from typing import Any

import pytest

from harness import malicious_peer
from harness.malicious_peer import Honest
from kcpg.core.kcp.kcp import KcpParams
from tests.engines import ENGINES
from tests.wires import PATH_A, WirePair

COUNT = 80
WINDOW = 128


class Attacked:
    """A malicious peer at side a; at side b a node whose conversations echo."""

    def __init__(self, engine: str) -> None:
        params = KcpParams(nodelay=1, interval_ms=10, snd_wnd=WINDOW, rcv_wnd=WINDOW)
        self.ends = WirePair("python", params, engine_b=engine)
        self.conv, self.other = self.ends.open(1), self.ends.open(2)
        self.held = 0
        for conv in (self.conv, self.other):
            assert self.asks(conv, b"before")

    def asks(self, conv: Any, question: bytes) -> bool:
        conv.send(question)
        self.ends.run(50)
        peer = self.ends.peer(conv)
        asked = peer.recv()
        if asked is None:
            return False
        peer.send(asked)
        self.ends.run(50)
        return bool(conv.recv() == question)

    def attack(self, payloads: list[bytes]) -> None:
        ends = self.ends
        for payload in payloads:
            ends.wires["b"].receive(*PATH_A, ends.a.seal(payload), ends.now_ms)
        ends.run(200)

    def standing(self) -> Honest:
        return Honest.of(self.conv)


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_a_malicious_peer_sends_harms_a_conversation(engine: str) -> None:
    attacked = Attacked(engine)
    drops = attacked.ends.wires["b"].drops
    names = [name for name, _ in malicious_peer.attacks(attacked.standing(), "1", COUNT)]
    for at, name in enumerate(names):
        # Made anew for each, as the honest questions in between move the window.
        payloads = list(malicious_peer.attacks(attacked.standing(), "1", COUNT))[at][1]
        before = attacked.ends.peer(attacked.conv).segments_received
        attacked.attack(payloads)
        taken = attacked.ends.peer(attacked.conv).segments_received - before
        assert taken == 0, f"{name}: {taken} segments were taken for good ones"
        for conv in (attacked.conv, attacked.other):
            assert attacked.asks(conv, name.encode()), name
    for reason in ("kcp_malformed", "frame_unknown"):
        assert drops[reason] >= COUNT, drops


def test_every_attack_is_what_its_name_says() -> None:
    """A node that would take them is told from one that does not."""
    honest = Honest(1, 10, 20, WINDOW)
    made = dict(malicious_peer.attacks(honest, "1", COUNT))
    ahead = {
        name: [
            (malicious_peer.SEGMENT.unpack_from(payload, 1)[5] - honest.sent) % 2**32
            for payload in made[name]
        ]
        for name in ("beyond the window", "huge sn", "long gone sn")
    }
    assert all(WINDOW < each < malicious_peer.HALF for each in ahead["beyond the window"])
    assert all(malicious_peer.HALF - COUNT <= each < malicious_peer.HALF for each in ahead["huge sn"])
    assert all(each > malicious_peer.HALF for each in ahead["long gone sn"])
    assert all(
        len(each) < 1 + 24 + malicious_peer.DATA_BYTES for each in made["length of more than there is"]
    )
    assert len(made["conversations by the thousand"]) == malicious_peer.FLOOD_CONVS
    assert made == dict(malicious_peer.attacks(honest, "1", COUNT)), "a seed repeats it"
