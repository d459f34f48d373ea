"""Two legs meet: handshakes, refusals, limits, in virtual time, on both engines."""

from __future__ import annotations

import pytest

from kcpg.core.flow import ResetCode
from kcpg.core.native.link.state import LinkState
from tests.links import OTHER_KEYS, World, echo, params


def test_one_round_trip_makes_a_link(engine):
    world = World(engine)
    world.d.start(world.now_ms)
    start = world.now_ms
    world.until(lambda: world.d.link)
    assert world.now_ms - start <= 25
    world.run(100)
    assert world.kinds("d") == ["link_up"] and world.kinds("l") == ["link_up"]
    assert "AES-GCM" in world.event("d", "link_up").text
    assert world.d.link.state is world.l.links[0].state is LinkState.UP
    assert world.d.counters.inits_sent == world.l.counters.answers_sent == 1


@pytest.mark.parametrize("lost", [{"d": 1}, {"l": 1}, {"d": 3, "l": 2}])
def test_a_lost_handshake_datagram_is_made_good(engine, lost):
    world = World(engine)
    left = dict(lost)

    def lose(sender, path, datagram):
        left[sender] = left.get(sender, 0) - 1
        return left[sender] >= 0

    world.lose = lose
    world.d.start(world.now_ms)
    world.until(lambda: world.d.link, 5000)
    world.run(200)
    assert len(world.l.links) == 1 and world.l.links[0].state is LinkState.UP
    near, far = world.pair()
    echo(near, far, world)


def test_a_repeated_init_makes_one_link(engine):
    world = World(engine, delay_ms=600)  # several INITs are on their way before the first answer
    world.up()
    assert world.d.counters.inits_sent > 1
    assert len(world.l.links) == 1 and world.l.counters.links_opened == 1
    echo(*world.pair(), world)


def test_an_init_that_is_replayed_gets_no_answer(engine):
    world = World(engine).up()
    init = next(datagram for side, _, _, datagram in world.sent if side == "d")
    before = len(world.sent)
    world.l.receive(3000, b"d1", init, world.now_ms)
    world.run(1000)
    assert len(world.sent) == before and len(world.l.links) == 1
    assert world.l.handshake_drops == {"handshake_replay": 1}


@pytest.mark.parametrize("offset_s", [-(10**8), -100, 100, 10**8])
def test_wrong_clocks_meet(engine, offset_s):
    world = World(engine)
    world.wall_offset_s["d"] = offset_s
    world.up()
    assert world.l.counters.retries == world.d.counters.retries == 1
    assert "clock" in world.event("d", "clock_off").text
    echo(*world.pair(), world)


def test_under_load_a_cookie_comes_first(engine):
    world = World(engine, listen={"load_half_open": 0})
    world.up()
    assert world.l.counters.retries == world.d.counters.retries == 1
    assert "clock_off" not in world.kinds("d")
    echo(*world.pair(), world)


def test_a_wrong_password_is_silence_and_one_line(engine):
    world = World(engine, listener_keys=OTHER_KEYS)
    world.d.start(world.now_ms)
    world.run(50_000)
    assert world.kinds("d") == ["no_answer"]
    assert "is the password the same" in world.event("d", "no_answer").text
    assert world.l.links == [] and all(side == "d" for side, *_ in world.sent)
    assert world.kinds("l") == ["stranger"]
    assert 5 < world.d.counters.inits_sent - 1 <= world.l.counters.strangers
    assert world.d.counters.no_answer >= 1
    world.run(60_000)
    assert world.kinds("d") == ["no_answer"] * 2, "once a minute"


def test_different_algorithms_are_refused_and_both_sides_say_why(engine):
    world = World(engine, dial=params(algorithm="AES-OCB"))
    world.d.start(world.now_ms)
    world.run(12_000)
    for side in "dl":
        text = world.event(side, "refused").text
        assert "AES-OCB" in text and "AES-GCM" in text
    assert world.l.links == [] and world.d.link is None
    assert 2 <= world.d.counters.refused <= 4, "asking goes on, slowly"


def test_whoever_waits_when_the_peer_refuses_is_told(engine):
    world = World(engine, dial=params(algorithm="AES-OCB"))
    world.d.start(world.now_ms)
    near = world.dial()
    world.run(100)
    assert near.reason.code is ResetCode.REFUSED and "AES-OCB" in near.reason.text


def test_another_version_is_refused(engine):
    world = World(engine, dial=params(version=2))
    world.d.start(world.now_ms)
    world.run(100)
    assert "version" in world.event("d", "refused").text
    assert "version" in world.event("l", "refused").text


def test_agreed_parameters_are_used(engine):
    world = World(
        engine,
        dial=params(datagram_bytes=1200, outbound_bps=50_000_000, inbound_bps=500_000_000, snd_wnd=512),
        listen=params(datagram_bytes=1400, outbound_bps=300_000_000, inbound_bps=30_000_000, rcv_wnd=256),
    ).up()
    near, far = world.d.link, world.l.links[0]
    assert near.link_wire.datagram_bytes == far.link_wire.datagram_bytes == 1200
    assert near.link_wire.rate_bps == 30_000_000 and far.link_wire.rate_bps == 300_000_000
    assert near.params.snd_wnd == far.params.rcv_wnd == 256


def test_a_name_that_does_not_resolve_is_reported_and_asked_again(engine):
    world = World(engine)
    world.names["peer"] = None
    world.d.start(world.now_ms)
    world.run(3000)
    assert world.kinds("d") == ["unresolved"] and world.d.counters.unresolved > 2
    world.names["peer"] = [b"l3001"]
    world.until(lambda: world.d.link, 10_000)


def test_dead_addresses_and_ports_are_left_behind(engine):
    world = World(engine)
    world.names["peer"] = [b"l1", b"l2", b"l3002"]
    world.lose = lambda sender, path, datagram: path[1] in (b"l1", b"l2")
    world.d.start(world.now_ms)
    world.until(lambda: world.d.link, 20_000)


def test_many_links(engine):
    world = World(engine)
    dialers = [world.d]
    for _ in range(3):
        dialers.append(world.new_dialer())
        world.up()
    assert len(world.l.links) == 3
    echo(*world.pair(), world)


def test_full_listeners_say_so(engine):
    world = World(engine, listen={"max_links": 1}).up()
    world.new_dialer()
    world.d.start(world.now_ms)
    world.run(200)
    assert "links are already open" in world.event("d", "refused").text
    assert world.l.counters.links_full == 1 and len(world.l.links) == 1


def test_a_silent_link_makes_room(engine):
    world = World(engine, listen={"max_links": 1}).up()
    world.run(61_000)
    world.new_dialer()
    world.up()
    assert len(world.l.links) == 1
    echo(*world.pair(), world)


def test_half_open_links_expire_and_are_bounded(engine):
    world = World(engine, listen={"max_half_open": 4, "load_half_open": 100})
    world.lose = lambda sender, path, datagram: sender == "l"
    for _ in range(10):
        world.new_dialer()
        world.d.start(world.now_ms)
        world.run(50)
    assert len(world.l.links) <= 4
    world.d.close(world.now_ms, "test")
    world.run(11_000)
    assert world.l.links == [] and world.l.counters.half_open_expired == 10
    assert world.kinds("l") == [], "nothing that strangers do fills the log"


def test_garbage_leaves_no_trace(engine):
    world = World(engine).up()
    before = len(world.sent)
    for number in range(2000):
        world.l.receive(3000, b"x%d" % number, world.rng.randbytes(world.rng.randrange(0, 700)), world.now_ms)
        if number % 100 == 0:
            world.run(1)
    world.run(10)
    assert len(world.sent) == before and len(world.l.links) == 1
    echo(*world.pair(), world)
