"""A million datagrams of somebody without the password: no answer, no memory, and the link goes on."""

import random
import tracemalloc

from tests.links import LinkRig, echo

DATAGRAMS = 1_000_000
DATAGRAM_BYTES = 700
PER_TURN = 250  # as many strangers as a leg keeps between two turns
SEED = 20261122


def test_a_million_strangers_get_no_answer_and_leave_nothing() -> None:
    print(f"seed {SEED}")
    rig = LinkRig("compiled").up()
    rng = random.Random(SEED)
    noise = rng.randbytes(1 << 20)
    answers = len(rig.sent)
    kept = 0
    for turn in range(DATAGRAMS // PER_TURN):
        for _ in range(PER_TURN):
            size = rng.randrange(32, DATAGRAM_BYTES)
            at = rng.randrange(len(noise) - size)
            rig.l.receive(3000, b"stranger", noise[at : at + size], rig.now_ms)
        rig.l.advance(rig.now_ms)
        assert rig.l.transmit(rig.now_ms) == []
        if turn == 400:  # whatever is built once has been built
            tracemalloc.start()
        elif turn == 401:
            kept = tracemalloc.get_traced_memory()[0]
        elif turn == 500:
            assert tracemalloc.get_traced_memory()[0] - kept < DATAGRAM_BYTES, (
                "25,000 datagrams left something"
            )
            tracemalloc.stop()
    assert len(rig.sent) == answers and len(rig.l.links) == 1
    assert rig.l.counters.strangers == DATAGRAMS
    echo(*rig.pair(), rig)
