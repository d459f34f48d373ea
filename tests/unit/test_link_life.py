"""The life of a link: keep-alive, silence, resuming, moving, rekeying, end; virtual time, both engines."""

from __future__ import annotations

import pytest

from kcpg.core.flow import ResetCode
from kcpg.core.native.dial.dialedlink import DialState
from kcpg.core.native.link.state import NEXT_STATE, LinkInput, LinkState
from tests.links import World, echo, params


def test_flows_keep_an_idle_link_alive(engine):
    world = World(engine).up()
    world.pair()
    sent = len(world.sent)
    world.run(100_000)
    assert world.d.link.counters.pings_sent >= 5
    assert len(world.sent) - sent < 30
    assert world.d.link.liveness.rtt_ms == 20


def test_a_link_without_flows_is_left_in_peace(engine):
    world = World(engine).up()
    sent = len(world.sent)
    world.run(235_000)
    assert len(world.sent) == sent and world.d.state is DialState.UP
    world.run(3_600_000)
    assert len(world.sent) - sent <= 2 * 16
    assert world.kinds("d") == world.kinds("l") == ["link_up"], "nobody drops it either"


def test_configured_keep_alive_works_without_flows(engine):
    world = World(engine, dial=params(keep_alive_s=5)).up()
    world.run(60_000)
    assert world.d.link.counters.pings_sent + world.l.links[0].counters.pings_sent >= 11


def test_flows_survive_a_blackhole(engine):
    world = World(engine).up()
    near, far = world.pair()
    world.lose = lambda sender, path, datagram: True
    near.flow.write(b"into the dark")
    world.run(40_000)
    assert world.d.state is DialState.RESUMING and near.reason is None
    assert world.kinds("d").count("link_silent") == 1
    world.lose = lambda sender, path, datagram: False
    world.until(lambda: world.d.state is DialState.UP, 6000)
    world.until(lambda: far.flow.conv.readable, 61_000)
    assert far.flow.read(100) == b"into the dark"
    echo(near, far, world)
    assert len(world.l.links) == 1


def test_silence_is_noticed_quickly_and_resumed_elsewhere(engine):
    """The port in use goes dead; another one serves, and the flow goes on."""
    world = World(engine).up()
    near, far = world.pair()
    dead = world.d.link.link_wire.path[1]
    world.lose = lambda sender, path, datagram: (
        path[1] == dead or (sender == "l" and b"l%d" % path[0] == dead)
    )
    near.flow.write(b"hello?")
    start = world.now_ms
    world.until(lambda: world.d.link.counters.resumes, 3000)
    assert world.now_ms - start < 1000
    world.until(lambda: far.flow.conv.readable, 3000)
    assert far.flow.read(100) == b"hello?"
    assert world.d.link.link_wire.path[1] != dead
    echo(near, far, world)
    assert world.kinds("d").count("link_resumed") == 1
    world.run(70_000)
    assert len(world.open_sockets) == 1, "sockets that served to resume are given back"


def test_a_restarted_listener_is_noticed_and_flows_are_reset(engine):
    world = World(engine).up()
    near, _ = world.pair()
    world.new_listener()
    near.flow.write(b"anybody?")
    start = world.now_ms
    world.until(lambda: near.reason, 3000)
    assert near.reason.code is ResetCode.LINK_LOST
    assert world.now_ms - start < 1000
    echo(*world.pair(), world)
    assert world.d.state is DialState.UP and len(world.d.links) == 1


def test_a_restarted_listener_is_noticed_by_keep_alive(engine):
    world = World(engine).up()
    near, _ = world.pair()
    world.run(1000)
    world.new_listener()
    world.until(lambda: near.reason, 25_000)
    assert near.reason.code is ResetCode.LINK_LOST


def test_a_flow_is_not_entrusted_to_a_link_that_was_long_unheard(engine):
    """The listener was restarted while nothing was going on: the first flow after that must not be lost."""
    world = World(engine).up()
    world.run(100_000)
    world.new_listener()
    near = world.dial()
    near_flow = near.flow
    assert near_flow.opening
    world.until(lambda: not near_flow.opening, 3000)
    assert near.reason is None
    near_flow.write(b"x")
    world.until(lambda: world.flows)


def test_a_flow_waits_for_a_link_as_long_as_it_is_told(engine):
    world = World(engine, dial={"flow_wait_ms": 2000})
    world.d.start(world.now_ms)
    world.lose = lambda sender, path, datagram: True
    near = world.dial()
    world.run(1999)
    assert near.flow.opening and near.reason is None
    world.run(2)
    assert near.reason is not None and near.reason.code is ResetCode.UNREACHABLE
    assert world.d.counters.flows_unreachable == 1


def test_a_restarted_dialer_gets_a_new_link(engine):
    world = World(engine).up()
    world.pair()
    world.new_dialer()
    world.up()
    echo(*world.pair(), world)
    assert len(world.l.links) == 2
    world.run(7_440_001)
    assert len(world.l.links) == 1, "the dead dialer's link is given up"


def test_a_farewell_ends_flows_at_once_and_the_dialer_calls_again(engine):
    world = World(engine).up()
    near, _ = world.pair()
    world.l.close(world.now_ms, "shutdown")
    world.run(world.delay_ms + 2)
    assert near.reason.code is ResetCode.SHUTDOWN and "shutdown" in near.reason.text
    assert world.d.state is DialState.CALLING
    assert (
        "closed by the peer" in world.event("d", "link_down").text
        or "peer closed" in world.event("d", "link_down").text
    )
    world.run(2000)
    world.new_listener()
    world.until(lambda: world.d.link, 6000)
    echo(*world.pair(), world)


def test_the_dialers_farewell_ends_flows_at_once(engine):
    world = World(engine).up()
    near, far = world.pair()
    waiting = len(world.l.links)
    assert waiting == 1
    world.d.close(world.now_ms, "shutdown")
    assert near.reason.code is ResetCode.SHUTDOWN
    world.run(world.delay_ms + 2)
    assert far.reason.code is ResetCode.SHUTDOWN and world.l.links == []
    sent = len(world.sent)
    world.run(60_000)
    assert len(world.sent) == sent
    assert world.d.deadline() is None and world.l.deadline() is None


def test_an_answer_on_the_old_link_ends_the_alarm(engine):
    world = World(engine).up()
    near, far = world.pair()
    world.lose = lambda sender, path, datagram: True
    near.flow.write(b"x")
    world.until(lambda: world.d.state is DialState.RESUMING, 2000)
    inits = [len(datagram) for side, *_, datagram in world.sent[-2:]]
    world.lose = lambda sender, path, datagram: sender == "d" and len(datagram) >= 384
    world.until(lambda: world.d.state is DialState.UP, 70_000)
    assert world.d.link.counters.resumes == 0 and inits
    world.lose = lambda sender, path, datagram: False
    echo_start = world.now_ms
    world.until(lambda: far.flow.conv.readable, 1_000)
    assert far.flow.read(10) == b"x"
    echo(near, far, world)
    world.run(40_000)
    assert world.d.state is DialState.UP and world.now_ms > echo_start


def test_the_listener_follows_a_dialer_whose_address_changes(engine):
    world = World(engine).up()
    near, far = world.pair()
    world.moves[b"d1"] = b"d1 behind another address"
    near.flow.write(b"still me")
    world.run(100)
    assert world.l.links[0].link_wire.path[1] == b"d1 behind another address"
    assert far.flow.read(100) == b"still me"
    far.flow.write(b"found you")
    world.run(100)
    assert near.flow.read(100) == b"found you"
    assert world.l.links[0].counters.moves == 1 and world.kinds("l").count("link_moved") == 1
    assert world.d.link.counters.resumes == 0


def test_keys_are_renewed_and_nothing_is_lost(engine):
    world = World(engine).up()
    near, far = world.pair()
    first = world.d.link.epochs.own_cid
    up = world.rng.randbytes(400_000)
    sent, got = 0, b""
    while len(got) < len(up):
        sent += near.flow.write(up[sent : sent + 1000])
        world.run(400)
        got += far.flow.read(1 << 20) or b""
    assert got == up
    for link in (world.d.link, world.l.links[0]):
        assert link.counters.rekeys == 1
    assert world.d.link.epochs.own_cid != first
    assert world.d.counters.inits_sent == 1 and world.d.link.counters.silences == 0
    world.run(31_000)
    assert world.d.cids.owner(first) is None, "the old epoch is forgotten"


@pytest.mark.parametrize("lost", ["d", "l"])
def test_a_lost_rekey_frame_is_made_good(engine, lost):
    world = World(engine).up()
    near, far = world.pair()
    world.run(119_000)
    left = [2]

    def lose(sender, path, datagram):
        if sender == lost and len(datagram) > 70 and left[0]:
            left[0] -= 1
            return True
        return False

    world.lose = lose
    world.run(5000)
    assert left == [0] and world.d.link.counters.rekeys == world.l.links[0].counters.rekeys == 1
    echo(near, far, world)
    assert world.d.link.counters.flows_reset == 0


def test_many_datagrams_renew_the_keys_as_well(engine, monkeypatch):
    monkeypatch.setattr("kcpg.core.native.link.epochs.WORN_DATAGRAMS", 200)
    world = World(engine).up()
    near, far = world.pair()
    got = 0
    for _ in range(100):
        near.flow.write(bytes(20_000))
        world.run(50)
        got += len(far.flow.read(1 << 20) or b"")
    assert got == 100 * 20_000
    assert world.d.link.counters.rekeys >= 5
    assert world.l.links[0].counters.rekeys == world.d.link.counters.rekeys


def test_a_link_can_be_resumed_after_rekeys_and_resumes(engine):
    world = World(engine).up()
    near, far = world.pair()
    for turn in range(3):
        world.run(125_000)
        world.lose = lambda sender, path, datagram: True
        near.flow.write(b"round %d" % turn)
        world.run(3000)
        world.lose = lambda sender, way, datagram, dead=world.d.link.link_wire.path: way == dead
        world.until(lambda: far.flow.conv.readable, 61_000)
        world.lose = lambda sender, way, datagram: False
        assert far.flow.read(100) == b"round %d" % turn
    assert world.d.link.counters.resumes >= 3 and world.d.link.counters.rekeys >= 1
    assert near.reason is None and len(world.l.links) == 1


def test_a_process_that_stood_still_reads_before_it_judges(engine):
    world = World(engine).up()
    near, _ = world.pair()
    world.run(500)
    near.flow.write(b"x")
    world.run(1)
    later_ms = world.now_ms + 2_000
    world.d.advance(later_ms)
    assert world.d.state is DialState.UP, "the answer may lie unread"
    world.d.advance(later_ms + world.d.link.liveness.silence_ms)
    assert world.d.state is DialState.RESUMING


def test_many_resumes_whose_answers_are_lost_are_made_good(engine):
    """The listener hears three attempts with a key agreement each, the dialer none of the answers."""
    world = World(engine).up()
    near, far = world.pair()
    world.lose = lambda sender, path, datagram: sender == "l"
    near.flow.write(b"still here")
    world.run(100_000)
    assert world.l.links[0].counters.resumes >= 3
    world.lose = lambda sender, path, datagram: False
    world.until(lambda: world.d.state is DialState.UP, 10_000)
    assert far.flow.read(100) == b"still here"
    echo(near, far, world)
    assert near.reason is None and len(world.l.links) == 1


def test_a_resume_whose_answer_is_lost_is_made_good(engine):
    world = World(engine).up()
    near, far = world.pair()
    world.lose = lambda sender, path, datagram: sender == "l"
    near.flow.write(b"x")
    world.run(35_000)
    world.lose = lambda sender, path, datagram: False
    world.until(lambda: world.d.state is DialState.UP, 6000)
    world.run(61_000)
    assert near.reason is None
    far.flow.read(10)
    echo(near, far, world)


def test_every_state_but_closed_can_end():
    for state in LinkState:
        if state is not LinkState.CLOSED:
            assert NEXT_STATE[state, LinkInput.END] is LinkState.CLOSED
    assert all(state is not LinkState.CLOSED for state, _ in NEXT_STATE)


def test_flows_dialled_into_the_silence_wait_for_its_end(engine):
    world = World(engine).up()
    near, _ = world.pair()
    world.lose = lambda sender, path, datagram: True
    near.flow.write(b"x")
    world.until(lambda: world.d.state is DialState.RESUMING, 2000)
    waiting = world.dial()
    assert waiting.flow.opening
    world.run(5000)
    world.lose = lambda sender, path, datagram: False
    world.until(lambda: not waiting.flow.opening, 10_000)
    waiting.flow.write(b"at last")
    world.until(lambda: len(world.flows) == 2)
    assert world.flows[1][0].read(100) == b"at last" and near.reason is None


def test_a_lost_farewell_is_found_out(engine):
    world = World(engine).up()
    near, _ = world.pair()
    world.lose = lambda sender, path, datagram: sender == "l"
    world.l.close(world.now_ms, "shutdown")
    world.run(50)
    world.lose = lambda sender, path, datagram: False
    world.new_listener()
    near.flow.write(b"hello?")
    world.until(lambda: near.reason, 3000)
    assert near.reason.code is ResetCode.LINK_LOST


def test_paced_links_carry_everything(engine):
    rates = {"outbound_bps": 20_000_000, "inbound_bps": 20_000_000}
    world = World(engine, dial=params(**rates), listen=params(**rates)).up()
    near, far = world.pair()
    data = world.rng.randbytes(500_000)
    start, sent, got = world.now_ms, 0, b""
    while len(got) < len(data):
        sent += near.flow.write(data[sent:])
        world.run(10)
        got += far.flow.read(1 << 20) or b""
    assert got == data
    assert 190 <= world.now_ms - start <= 400, "500 kB at 20 Mbit/s take 0.2 s"
    assert world.d.link.counters.silences == 0
