"""Two legs meet: handshakes, refusals, limits, in virtual time, on both engines."""

from __future__ import annotations

import pytest

from kcpg.core.flow import Reset, ResetCode
from kcpg.core.native.link.state import LinkState
from kcpg.core.native.listener import FULL_AGAIN_MS, HALF_OPEN_MS
from tests.links import OTHER_KEYS, LinkRig, Watch, echo, params


def test_one_round_trip_makes_a_link(engine):
    rig = LinkRig(engine)
    rig.d.start(rig.now_ms)
    start = rig.now_ms
    rig.until(lambda: rig.d.link)
    assert rig.now_ms - start <= 25
    rig.run(100)
    assert rig.kinds("d") == ["link_up"] and rig.kinds("l") == ["link_up"]
    assert "AES-GCM" in rig.event("d", "link_up").text
    assert rig.d.link.state is rig.l.links[0].state is LinkState.UP
    assert rig.d.counters.inits_sent == rig.l.counters.answers_sent == 1


@pytest.mark.parametrize("lost", [{"d": 1}, {"l": 1}, {"d": 3, "l": 2}])
def test_a_lost_handshake_datagram_is_made_good(engine, lost):
    rig = LinkRig(engine)
    left = dict(lost)

    def lose(sender, path, datagram):
        left[sender] = left.get(sender, 0) - 1
        return left[sender] >= 0

    rig.lose = lose
    rig.d.start(rig.now_ms)
    rig.until(lambda: rig.d.link, 5000)
    rig.run(200)
    assert len(rig.l.links) == 1 and rig.l.links[0].state is LinkState.UP
    near, far = rig.pair()
    echo(near, far, rig)


def test_a_repeated_init_makes_one_link(engine):
    rig = LinkRig(engine, delay_ms=600)  # several INITs are on their way before the first answer
    rig.up()
    assert rig.d.counters.inits_sent > 1
    assert len(rig.l.links) == 1 and rig.l.counters.links_opened == 1
    echo(*rig.pair(), rig)


def test_an_init_that_is_replayed_gets_no_answer(engine):
    rig = LinkRig(engine).up()
    init = next(datagram for side, _, _, datagram in rig.sent if side == "d")
    before = len(rig.sent)
    rig.l.receive(3000, b"d1", init, rig.now_ms)
    rig.run(1000)
    assert len(rig.sent) == before and len(rig.l.links) == 1
    assert rig.l.handshake_drops == {"handshake_replay": 1}


@pytest.mark.parametrize("offset_s", [-(10**8), -100, 100, 10**8])
def test_wrong_clocks_meet(engine, offset_s):
    rig = LinkRig(engine)
    rig.wall_offset_s["d"] = offset_s
    rig.up()
    assert rig.l.counters.retries == rig.d.counters.retries == 1
    assert "clock" in rig.event("d", "clock_off").text
    echo(*rig.pair(), rig)


def test_under_load_a_cookie_comes_first(engine):
    rig = LinkRig(engine, listen={"load_half_open": 0})
    rig.up()
    assert rig.l.counters.retries == rig.d.counters.retries == 1
    assert "clock_off" not in rig.kinds("d")
    echo(*rig.pair(), rig)


def test_a_wrong_password_is_silence_and_one_line(engine):
    rig = LinkRig(engine, listener_keys=OTHER_KEYS)
    rig.d.start(rig.now_ms)
    rig.run(50_000)
    assert rig.kinds("d") == ["no_answer"]
    assert "is the password the same" in rig.event("d", "no_answer").text
    assert rig.l.links == [] and all(side == "d" for side, *_ in rig.sent)
    assert rig.kinds("l") == ["stranger"]
    assert 5 < rig.d.counters.inits_sent - 1 <= rig.l.counters.strangers
    assert rig.d.counters.no_answer >= 1
    rig.run(60_000)
    assert rig.kinds("d") == ["no_answer"] * 2, "once a minute"


def test_different_algorithms_are_refused_and_both_sides_say_why(engine):
    rig = LinkRig(engine, dial=params(algorithm="AES-OCB"))
    rig.d.start(rig.now_ms)
    rig.run(12_000)
    for side in "dl":
        text = rig.event(side, "refused").text
        assert "AES-OCB" in text and "AES-GCM" in text
    assert rig.l.links == [] and rig.d.link is None
    assert 2 <= rig.d.counters.refused <= 4, "asking goes on, slowly"


def test_whoever_waits_when_the_peer_refuses_is_told_in_the_end(engine):
    rig = LinkRig(engine, dial={**params(algorithm="AES-OCB"), "flow_wait_ms": 9_000})
    rig.d.start(rig.now_ms)
    near = rig.dial()
    rig.run(8_900)
    assert near.reason is None and rig.d.counters.refused == 2
    rig.run(200)
    assert near.reason.code is ResetCode.REFUSED and "AES-OCB" in near.reason.text


def test_another_version_is_refused(engine):
    rig = LinkRig(engine, dial=params(version=2))
    rig.d.start(rig.now_ms)
    rig.run(100)
    assert "version" in rig.event("d", "refused").text
    assert "version" in rig.event("l", "refused").text


def test_agreed_parameters_are_used(engine):
    rig = LinkRig(
        engine,
        dial=params(datagram_bytes=1200, outbound_bps=50_000_000, inbound_bps=500_000_000, snd_wnd=512),
        listen=params(datagram_bytes=1400, outbound_bps=300_000_000, inbound_bps=30_000_000, rcv_wnd=256),
    ).up()
    near, far = rig.d.link, rig.l.links[0]
    assert near.link_wire.datagram_bytes == far.link_wire.datagram_bytes == 1200
    assert near.link_wire.rate_bps == 30_000_000 and far.link_wire.rate_bps == 300_000_000
    assert near.params.snd_wnd == far.params.rcv_wnd == 256


def test_a_name_that_does_not_resolve_is_reported_and_asked_again(engine):
    rig = LinkRig(engine)
    rig.names["peer"] = None
    rig.d.start(rig.now_ms)
    rig.run(3000)
    assert rig.kinds("d") == ["unresolved"] and rig.d.counters.unresolved > 2
    rig.names["peer"] = [b"l3001"]
    rig.until(lambda: rig.d.link, 10_000)


def test_dead_addresses_and_ports_are_left_behind(engine):
    rig = LinkRig(engine)
    rig.names["peer"] = [b"l1", b"l2", b"l3002"]
    rig.lose = lambda sender, path, datagram: path[1] in (b"l1", b"l2")
    rig.d.start(rig.now_ms)
    rig.until(lambda: rig.d.link, 20_000)


def test_many_links(engine):
    rig = LinkRig(engine)
    dialers = [rig.d]
    for _ in range(3):
        dialers.append(rig.new_dialer())
        rig.up()
    assert len(rig.l.links) == 3
    echo(*rig.pair(), rig)


def test_full_listeners_say_so(engine):
    rig = LinkRig(engine, listen={"max_links": 1}).up()
    rig.new_dialer()
    rig.d.start(rig.now_ms)
    rig.run(200)
    assert "links are already open" in rig.event("d", "refused").text
    assert rig.l.counters.links_full == 1 and len(rig.l.links) == 1


def test_flows_of_a_dialer_that_a_full_listener_refuses_wait(engine):
    rig = LinkRig(engine, listen={"max_links": 1}).up()
    first = rig.d
    rig.new_dialer()
    rig.d.start(rig.now_ms)
    waiting = rig.dial()
    rig.run(200)
    assert rig.d.counters.refused == 1 and waiting.reason is None
    first.close(rig.now_ms, "its user is gone")
    rig.l.links[0].close(Reset(ResetCode.SHUTDOWN, "its user is gone"), tell=False)
    rig.until(lambda: rig.flows, 2 * FULL_AGAIN_MS)
    echo(waiting, Watch(rig.flows[-1][0]), rig)


def test_a_silent_link_makes_room(engine):
    rig = LinkRig(engine, listen={"max_links": 1}).up()
    rig.run(61_000)
    rig.new_dialer()
    rig.up()
    assert len(rig.l.links) == 1
    echo(*rig.pair(), rig)


def test_half_open_links_expire_and_are_bounded(engine):
    rig = LinkRig(engine, listen={"max_half_open": 4, "load_half_open": 100})
    rig.lose = lambda sender, path, datagram: sender == "l"
    for _ in range(10):
        rig.new_dialer()
        rig.d.start(rig.now_ms)
        rig.run(50)
    assert len(rig.l.links) == 4
    assert rig.l.counters.half_open_full == 6, "what was just begun does not give way"
    rig.run(HALF_OPEN_MS)
    rig.d.close(rig.now_ms, "test")
    rig.new_dialer()
    rig.d.start(rig.now_ms)
    rig.run(50)
    assert len(rig.l.links) == 4 and rig.l.counters.half_open_expired, "but later it does"
    rig.d.close(rig.now_ms, "test")
    rig.run(46_000)
    assert rig.l.links == []
    assert rig.kinds("l") == [], "nothing that strangers do fills the log"


def test_garbage_leaves_no_trace(engine):
    rig = LinkRig(engine).up()
    before = len(rig.sent)
    for number in range(2000):
        rig.l.receive(3000, b"x%d" % number, rig.rng.randbytes(rig.rng.randrange(0, 700)), rig.now_ms)
        if number % 100 == 0:
            rig.run(1)
    rig.run(10)
    assert len(rig.sent) == before and len(rig.l.links) == 1
    echo(*rig.pair(), rig)
