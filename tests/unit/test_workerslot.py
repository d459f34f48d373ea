"""Several processes serve one listening leg: whose a link is, and what happens to datagrams that come to the
wrong one. Virtual time, both engines."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from kcpg.core.flow import ResetCode
from kcpg.core.native.dial.dialer import DialState
from kcpg.core.native.handshake.handshake import Initiator, InitRequest, Responder
from kcpg.core.native.handshake.outcomes import Reply, RetryReason
from kcpg.core.native.handshake.params import LinkParams
from kcpg.core.native.link.cids import Cids
from kcpg.core.native.listener import TunnelListener
from kcpg.core.seal.seal import HeaderMask, xor
from kcpg.core.workerslot import MAX_WORKERS, WorkerSlot, marked, owner
from tests.engines import twin
from tests.handshakes import unmask
from tests.links import KEYS, LinkRig, echo

WORKERS = 3


class Crew:
    """Listeners of several processes behind one port; `steered`: source address → number, default 0."""

    def __init__(self, rig: Any) -> None:
        self.steered: dict[bytes, int] = {}
        self.best = 0
        self.away: set[int] = set()
        self.handed: list[tuple[int, int]] = []
        self.counts = [0] * WORKERS
        self._waiting: deque[tuple[int, tuple[int, bytes], bytes, bytes]] = deque()
        self._mask = HeaderMask(KEYS.mask_c2s)
        self.legs = [self._leg(rig, index) for index in range(WORKERS)]

    def _leg(self, rig: Any, index: int) -> TunnelListener:
        def hand_over(worker: int, path: tuple[int, bytes], header: bytes, body: bytes) -> bool:
            if worker in self.away or worker >= WORKERS:
                return False
            self.handed.append((index, worker))
            self._waiting.append((worker, path, header, body))
            return True

        def count(links: int) -> None:
            self.counts[index] = links

        def tell_life(incarnation: bytes) -> None:
            for other in {*range(WORKERS)} - {index}:
                self.legs[other].take_life(incarnation, rig.now_ms)

        slot = WorkerSlot(index, WORKERS, bytes(32), hand_over, count, tell_life, lambda: self.best)
        env = replace(rig._env("l"), worker=slot)
        leg = TunnelListener(rig._listen, KEYS, env, twin(rig.engine, "Wire"))
        leg.on_flow = rig._on_flow
        leg.start(rig.now_ms)
        return leg

    @property
    def links(self) -> list[Any]:
        return [link for leg in self.legs for link in leg.links]

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        self.legs[self.steered.get(addr, 0)].receive(sock, addr, datagram, now_ms)

    def advance(self, now_ms: int) -> None:
        for leg in self.legs:
            leg.advance(now_ms)
        while self._waiting:
            worker, path, header, body = self._waiting.popleft()
            if header[:4] == bytes(4):
                self.legs[worker].take_init(path, header, body, now_ms)
            else:
                datagram = xor(header, self._mask.mask(body[-16:])) + body
                self.legs[worker].receive(*path, datagram, now_ms)
            self.legs[worker].advance(now_ms)

    def transmit(self, now_ms: int) -> list[tuple[int, bytes, bytes]]:
        return [one for leg in self.legs for one in leg.transmit(now_ms)]

    def deadline(self) -> int | None:
        return min((at for leg in self.legs if (at := leg.deadline()) is not None), default=None)


class WorkersRig(LinkRig):
    """A dialer, and the workers of a listener."""

    def new_listener(self) -> Any:
        self.l = Crew(self)
        return self.l


def init(datagram: bytes) -> bool:
    """Whether a dialer's datagram is an INIT."""
    return unmask(KEYS.mask_c2s, datagram)[0][:4] == bytes(4)


@pytest.mark.parametrize("index", [0, 1, MAX_WORKERS - 1])
def test_ids_carry_the_number_of_their_worker(index):
    rig = LinkRig()
    cids: Cids[str] = Cids(rig.rng.randbytes, index)
    drawn = {cids.draw() for _ in range(200)}
    assert len(drawn) == 200 and {owner(cid) for cid in drawn} == {index}
    assert all(0 < cid < 1 << 32 for cid in drawn)


def test_an_id_is_drawn_again_where_marking_leaves_nothing():
    given = [bytes(3) + b"\x3f", bytes(3) + b"\x40"]
    assert marked(0x3F, 0) == 0
    assert Cids(lambda n: given.pop(0), 0).draw() == 0x40


def test_a_link_is_made_where_there_are_fewest(engine):
    rig = WorkersRig(engine)
    rig.l.best = 2
    rig.up()
    assert [len(leg.links) for leg in rig.l.legs] == [0, 0, 1] and rig.l.counts == [0, 0, 1]
    assert owner(rig.d.link.epochs.peer_cid) == 2
    assert rig.l.legs[0].counters.handed_over > 0
    echo(*rig.pair(), rig)
    rig.d.close(rig.now_ms, "done")
    rig.until(lambda: not rig.l.links)
    assert rig.l.counts == [0, 0, 0]


def test_a_repeated_handshake_goes_where_the_first_one_went(engine):
    """Though by now another worker would be chosen."""
    rig = WorkersRig(engine)
    rig.l.best = 1
    rig.lose = lambda sender, path, datagram: sender == "l"
    rig.d.start(rig.now_ms)
    rig.until(lambda: rig.l.counts == [0, 1, 0])
    rig.l.best = 0
    first = len(rig.l.handed)
    rig.until(lambda: len(rig.l.handed) > first)
    rig.lose = lambda sender, path, datagram: False
    rig.until(lambda: rig.d.link is not None)
    assert rig.l.counts == [0, 1, 0]
    echo(*rig.pair(), rig)


def test_who_is_chosen_but_away_leaves_it_to_who_was_asked(engine):
    rig = WorkersRig(engine)
    rig.l.best, rig.l.away = 2, {2}
    rig.up()
    assert [len(leg.links) for leg in rig.l.legs] == [1, 0, 0]


def test_two_that_choose_each_other_do_not_pass_a_handshake_on_for_ever(engine):
    """Each thinks that the other should have it: the second one answers."""
    rig = WorkersRig(engine)
    for index, leg in enumerate(rig.l.legs):
        leg.env = replace(leg.env, worker=replace(leg.env.worker, choose=lambda i=index: (i + 1) % WORKERS))
    rig.up()
    assert len(rig.l.links) == 1 and 0 < len(rig.l.handed) <= 2


def test_a_peer_that_moved_keeps_its_flows(engine):
    """Its new address is steered to a worker that knows nothing of the link."""
    rig = WorkersRig(engine).up()
    near, far = rig.pair()
    rig.moves = {b"d1": b"elsewhere"}
    rig.l.steered = {b"elsewhere": 1}
    echo(near, far, rig)
    assert rig.l.links[0].link_wire.path[1] == b"elsewhere"
    assert len(rig.l.links) == 1 and near.reason is None and (1, 0) in rig.l.handed
    assert rig.l.legs[1].counters.strangers == 0


def test_a_link_is_resumed_wherever_the_handshake_comes(engine):
    rig = WorkersRig(engine).up()
    near, far = rig.pair()
    rig.lose = lambda sender, path, datagram: True
    near.flow.write(b"into the dark")
    rig.until(lambda: rig.d.state is DialState.RESUMING)
    rig.l.steered = {b"d%d" % n: 1 for n in range(1, 100)}
    link = rig.l.links[0]
    rig.lose = lambda sender, path, datagram: (
        sender == "d" and not link.counters.resumes and not init(datagram)
    )
    rig.until(lambda: rig.d.state is DialState.UP)
    rig.until(lambda: far.flow.conv.readable, 61_000)
    assert far.flow.read(100) == b"into the dark"
    assert [len(leg.links) for leg in rig.l.legs] == [1, 0, 0]
    assert rig.l.legs[0].links[0].counters.resumes == 1


def test_a_link_whose_worker_died_is_made_anew(engine):
    rig = WorkersRig(engine).up()
    near, far = rig.pair()
    echo(near, far, rig)
    dead = rig.l.legs[0]
    rig.l.legs[0] = rig.l._leg(rig, 0)
    rig.l.steered, rig.l.away, rig.l.best = {b"d%d" % n: 1 for n in range(1, 100)}, {0}, 1
    near.flow.write(b"anybody there?")
    rig.until(lambda: near.reason is not None)
    rig.until(lambda: rig.d.state is DialState.UP)
    assert len([*rig.l.legs[1].links, *rig.l.legs[2].links]) == 1 and dead.links
    echo(*rig.pair(), rig)


def test_noise_goes_nowhere(engine):
    """A datagram under an id of a worker that does not exist is a stranger like any other."""
    rig = WorkersRig(engine).up()
    rig.l.handed.clear()
    body = bytes(40)
    header = (0xABCDEF00 | (MAX_WORKERS - 1)).to_bytes(4, "big") + bytes(4)
    mask = HeaderMask(KEYS.mask_c2s).mask(body[-16:])
    rig.l.legs[1].receive(3000, b"x", xor(header, mask) + body, rig.now_ms)
    rig.run(10)
    assert rig.l.legs[1].counters.strangers == 1 and not rig.l.handed


def test_a_copied_handshake_gets_no_answer_from_any_worker(engine):
    """Whichever it comes to, one process cares for it; and for the repetitions of one attempt, so that they
    make one link.
    """
    rig = WorkersRig(engine)
    copies: list[bytes] = []
    lost = [True] * 3

    def lose(sender: str, path: tuple[int, bytes], datagram: bytes) -> bool:
        if sender == "d" and init(datagram):
            copies.append(datagram)
            rig.l.steered = {b"d%d" % n: len(copies) % WORKERS for n in range(100)}
        return sender == "l" and bool(lost) and lost.pop()

    rig.lose = lose
    rig.up()
    assert len(copies) > 3 and len(rig.l.links) == 1
    before = len(rig.sent)
    for worker in range(WORKERS):
        for copy in copies:
            rig.l.legs[worker].receive(3000, b"somebody", copy, rig.now_ms)
    rig.run(200)
    assert not [to for sender, _, to, _ in rig.sent[before:] if to == b"somebody"]


def test_a_cookie_is_good_for_every_worker():
    """The first worker asks for one, the second one is asked with it."""
    rig = LinkRig()
    dialer = Initiator(KEYS, LinkParams(), 7, rig.rng.randbytes)
    first, second, other = (
        Responder(KEYS, rig.rng.randbytes, cookie_secret=secret)
        for secret in (b"s" * 32, b"s" * 32, b"t" * 32)
    )

    def ask(responder: Responder) -> Any:
        header, body = unmask(KEYS.mask_c2s, dialer.init(1000))
        return responder.receive(header, body, b"a", b"a", 1000, 0, True)

    retry = ask(first)
    assert isinstance(retry, Reply) and retry.kind == "retry"
    followed = dialer.receive(*unmask(KEYS.mask_s2c, retry.datagram), 1000)
    assert followed is not None and followed.reason == RetryReason.COOKIE
    assert isinstance(ask(other), Reply), "another secret, another cookie"
    assert isinstance(ask(second), InitRequest)


def test_a_new_life_is_told_to_every_worker(engine):
    """The dialer died, and its successor's link is in another process."""
    rig = WorkersRig(engine, dial={"identity": b"i" * 16}).up()
    _, far = rig.pair()
    assert len(rig.l.legs[0].links) == 1
    rig.l.best = 1
    rig.new_dialer()
    rig.d.start(rig.now_ms)
    rig.until(lambda: len(rig.l.legs[1].links) == 1)
    rig.until(lambda: far.reason is not None, 12_000)
    assert far.reason.code is ResetCode.LINK_LOST and not rig.l.legs[0].links
