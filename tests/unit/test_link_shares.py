"""What one link, or one source of links, may take: links, keys, moves; and that what ends is gone at once."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest

from kcpg.core.flow import Reset, ResetCode
from kcpg.core.native.handshake.rekey_messages import RekeyInitiator
from kcpg.core.native.link import epochs, flowtable
from kcpg.core.native.link.link import HURRY_EVERY_MS
from kcpg.core.native.link.rekey import REKEY_EVERY_MS
from kcpg.core.native.link.setup import LinkLimits
from kcpg.core.native.wire import events, frames
from tests.links import TCP, UDP, LinkRig, echo


@pytest.fixture
def no_collector() -> Any:
    gc.disable()
    yield
    gc.enable()


def test_a_closed_link_is_gone_at_once(engine: str, no_collector: None) -> None:
    """With all that it had, though nobody looks for cycles; also from the timers that it had set."""
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    near.flow.write(b"abc")
    rig.run(100)
    (link,) = rig.l.links
    gone = [weakref.ref(one) for one in (link, link.epochs, link.fec_control)]
    near.flow.reset(Reset(ResetCode.SHUTDOWN))
    rig.run(100)
    del near, far
    rig.flows.clear()
    link.close(Reset(ResetCode.SHUTDOWN), tell=True)
    del link
    rig.run(100)
    assert [one() for one in gone] == [None] * 3


def test_rekeys_are_rationed_and_a_link_hears_three_epochs(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = LinkRig(engine).up()
    (link,) = rig.l.links
    given: list[int] = []
    really = link.epochs._cids.give
    monkeypatch.setattr(rig.l.cids, "give", lambda cid, owner: (given.append(cid), really(cid, owner)))
    before = link.counters.rekeys
    for n in range(200):
        message = RekeyInitiator(link.rekey.secrets[0], "AES-GCM", 1000 + n, rig.rng.randbytes).message
        link.on_frame(frames.REKEY, frames.pack_rekey(message), link.link_wire.path, rig.now_ms)
        rig.now_ms += 5
    assert link.counters.rekeys - before <= 1 + 1000 // REKEY_EVERY_MS
    heard = [cid for cid in given if rig.l.cids.owner(cid) is link]
    assert len(given) >= 3 and len(heard) <= 2, "beside the current one: on trial, and one that was"


def test_a_link_whose_keys_are_never_renewed_ends(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dialer asks, nobody answers: the link stops before the cipher's limit."""
    monkeypatch.setattr(epochs, "WORN_DATAGRAMS", 100)
    monkeypatch.setattr(epochs, "LAST_DATAGRAMS", 300)
    rig = LinkRig(engine).up()
    near, _ = rig.pair()
    monkeypatch.setattr(type(rig.l.links[0].rekey), "receive", lambda self, message, now_ms: None)
    link = rig.d.link
    for _ in range(2000):
        near.flow.write(bytes(1000))
        rig.run(5)
        if link.closed:
            break
    assert link.closed and 300 <= link.link_wire.tx_datagrams < 700


def test_many_moves_look_at_the_conversations_rarely(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = LinkRig(engine).up()
    rig.pair()
    (link,) = rig.l.links
    looked: list[int] = []
    really = link.link_wire

    class Counting:
        """The link wire, whose looks are counted."""

        def __getattr__(self, name: str) -> Any:
            if name == "hurry":
                return lambda now_ms: (looked.append(now_ms), really.hurry(now_ms))
            return getattr(really, name)

    monkeypatch.setattr(link, "link_wire", Counting())
    began_ms = rig.now_ms
    for n in range(400):
        rig.d.link.link_wire.send(frames.PING, bytes(8))
        for _, _, datagram in rig.d.transmit(rig.now_ms):
            rig.l.receive(3000, b"from %d" % n, datagram, rig.now_ms)
        rig.l.advance(rig.now_ms)
        rig.l.transmit(rig.now_ms)
        rig.now_ms += 5
    assert link.counters.moves > 300
    assert 2 <= len(looked) <= 2 + (rig.now_ms - began_ms) // HURRY_EVERY_MS


def test_who_has_most_links_gives_way_if_nobody_is_there(engine: str) -> None:
    """A full listener: the links of the greedy source that do not answer are closed for another's; those of
    others, and those that answer, are kept."""
    limits = LinkLimits(doubted_ms=1000)
    rig = LinkRig(engine, listen={"max_links": 6, "limits": limits})
    rig.up()
    honest = rig.l.links[0]
    dead = []
    for n in range(5):
        rig.moves = {b"d%d" % k: b"greedy" for k in range(1, 100)}
        rig.new_dialer()
        rig.d.start(rig.now_ms)
        rig.until(lambda n=n: len(rig.l.links) == 2 + n)
        rig.run(50)
        dead.append(rig.d)
    assert len(rig.l.links) == 6
    rig.moves = {}
    rig.new_dialer()
    rig.d.start(rig.now_ms)
    rig.run(300)
    assert rig.d.link is None and len(rig.l.links) == 6, "full: not answered, and asked"
    rig.until(lambda: rig.d.link is not None)
    assert not honest.closed and rig.l.counters.links_full > 0 and not rig.d.counters.refused


def test_a_site_with_many_networks_has_one_share(engine: str) -> None:
    """A link from each of them, which no other has more than: together they give way."""
    rig = LinkRig(engine, listen={"max_links": 6, "limits": LinkLimits(doubted_ms=1000)})
    rig.l.env = replace(rig.l.env, site_key=lambda addr: addr[:1])
    rig.up()
    honest = rig.l.links[0]
    for n in range(5):
        rig.moves = {b"d%d" % k: b"g%d" % n for k in range(1, 100)}
        rig.new_dialer()
        rig.d.start(rig.now_ms)
        rig.until(lambda n=n: len(rig.l.links) == 2 + n)
        rig.run(50)
    rig.new_dialer()
    rig.d.start(rig.now_ms)
    rig.run(500)
    assert rig.l.counters.refused == rig.l.counters.links_full > 0, "one more of the site with most"
    rig.moves = {}
    rig.new_dialer()
    rig.d.start(rig.now_ms)
    rig.until(lambda: rig.d.link is not None)
    assert not honest.closed and not rig.d.counters.refused


def test_half_open_links_of_who_has_most_give_way(engine: str) -> None:
    """An honest dialer far away has its link, though another site begins hundreds that it does not use."""
    rig = LinkRig(engine, listen={"max_half_open": 20, "load_half_open": 1000}, delay_ms=400)
    rig.l.env = replace(rig.l.env, site_key=lambda addr: addr[:1])
    rig.d.start(rig.now_ms)
    honest = rig.d
    rig.run(450)
    (link,) = rig.l.links
    for n in range(100):
        rig.now_ms += 4  # more at once are told to come again
        rig.moves = {b"d%d" % k: b"g%d" % n for k in range(2, 200)}
        rig.lose = lambda sender, path, datagram: sender == "l" and path[1] != b"d1"
        rig.new_dialer()
        rig.d.start(rig.now_ms)
        rig.d.advance(rig.now_ms)
        for sock, addr, datagram in rig.d.transmit(rig.now_ms):
            rig.l.receive(int(addr[1:]), rig.moves[b"d%d" % sock], datagram, rig.now_ms)
        rig.l.advance(rig.now_ms)
    rig.d = honest
    rig.run(900)
    assert rig.l.counters.half_open_full >= 75 and not link.closed
    rig.until(lambda: honest.link is not None and link.state.name == "UP")


def test_conversations_are_served_one_of_each_link_in_turn(engine: str) -> None:
    """Somebody opens many flows in one burst: another link's answer leaves with the next portion."""
    rig = LinkRig(engine).up()
    greedy, (greedy_link,) = rig.d, rig.l.links
    rig.new_dialer()
    rig.d.start(rig.now_ms)
    rig.until(lambda: rig.d.link is not None and len(rig.l.links) == 2)
    rig.run(50)
    for _ in range(600):
        greedy.dial(TCP, rig.now_ms).write(b"x")
    for sock, addr, datagram in greedy.transmit(rig.now_ms):
        rig.l.receive(int(addr[1:]), b"d%d" % sock, datagram, rig.now_ms)
    rig.dial().flow.write(b"y")
    for sock, addr, datagram in rig.d.transmit(rig.now_ms):
        rig.l.receive(int(addr[1:]), b"d%d" % sock, datagram, rig.now_ms)
    rig.l.advance(rig.now_ms)
    assert 0 < len(greedy_link.flows.flows) < 100 and len(rig.l.links[1].flows.flows) == 1
    assert rig.l.advance_deadline() == rig.now_ms


def test_opens_are_rationed(engine: str) -> None:
    rig = LinkRig(engine).up()
    (link,) = rig.l.links
    table, opened = link.flows, 0
    link.link_wire.accept = None  # the rig asks instead
    began_ms = rig.now_ms
    for number in range(1, 100_000):
        table.now_ms = rig.now_ms
        if table._accept(number) is not None:
            opened += 1
            table.on_reset(frames.pack_reset(number, ResetCode.RESET_BY_APPLICATION, ""))
        if number % 100 == 0:
            rig.now_ms += 1
        if rig.now_ms - began_ms >= 300:
            break
    most = flowtable.UNOPENED + flowtable.OPENS_PER_S * 300 // 1000
    assert 0.95 * most < opened <= most + 1 and link.counters.opens_crowded == number - opened


def test_control_frames_of_one_link_leave_others_their_place(engine: str) -> None:
    rig = LinkRig(engine).up()
    greedy = rig.d
    rig.new_dialer()
    rig.d.start(rig.now_ms)
    rig.until(lambda: rig.d.link is not None and len(rig.l.links) == 2)
    rig.run(50)
    for dialer, count in ((greedy, 2000), (rig.d, 5)):
        for _ in range(count):
            dialer.link.link_wire.send(frames.PING, bytes(8))
        while sent := dialer.transmit(rig.now_ms):
            for sock, addr, datagram in sent:
                rig.l.receive(int(addr[1:]), b"d%d" % sock, datagram, rig.now_ms)
    assert rig.l.wire.drops["frames_overflow"] == 2000 - events.FRAMES_SHARE
    rig.l.advance(rig.now_ms)
    sent = rig.l.transmit(rig.now_ms) + rig.l.transmit(rig.now_ms)
    assert [link.link_wire.tx_datagrams > 4 for link in rig.l.links] == [True, True] and len(sent) > 500


def test_a_peer_that_answers_no_rekey_loses_the_link(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it answers everything else, and few datagrams are sent."""
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    link = rig.d.link
    monkeypatch.setattr(type(rig.l.links[0].rekey), "receive", lambda self, message, now_ms: None)
    rig.run(epochs.WORN_MS - 5_000)
    assert not link.rekey.running
    for _ in range(90):
        near.flow.write(b"ask")
        rig.run(1000)
        if link.closed:
            break
        assert far.flow.read(100) == b"ask"
    age_ms = rig.now_ms - link.since_ms
    assert link.closed and epochs.WORN_MS + 50_000 < age_ms < epochs.WORN_MS + 70_000
    assert near.reason is not None and "renew the keys" in near.reason.text


def test_a_tcp_flow_keeps_no_unreliable_packets(engine: str) -> None:
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    udp_near, udp_far = rig.pair(UDP)
    sent = rig.d.link.link_wire
    for _ in range(50):
        sent.send(frames.DATAGRAM, frames.pack_conv(near.flow.conv.conv) + bytes(1000))
        sent.send(frames.DATAGRAM, frames.pack_conv(udp_near.flow.conv.conv) + bytes(1000))
    rig.run(50)
    assert rig.l.wire.drops["datagram_queue_full"] == 50 and not far.flow.conv.closed
    assert len(udp_far.flow.recv_packets(100)) == 50
    echo(near, far, rig)
