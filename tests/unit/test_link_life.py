"""The life of a link: keep-alive, silence, resuming, moving, rekeying, end; virtual time, both engines."""

from __future__ import annotations

import pytest

from kcpg.core.flow import ResetCode
from kcpg.core.native.dial.dialstate import DialState
from kcpg.core.native.link.state import NEXT_STATE, LinkInput, LinkState
from tests.links import LinkRig, echo, params


def test_flows_keep_an_idle_link_alive(engine):
    rig = LinkRig(engine).up()
    rig.pair()
    sent = len(rig.sent)
    rig.run(100_000)
    assert rig.d.link.counters.pings_sent >= 5
    assert len(rig.sent) - sent < 30
    assert rig.d.link.liveness.rtt_ms == 20


def test_a_link_without_flows_is_left_in_peace(engine):
    rig = LinkRig(engine).up()
    sent = len(rig.sent)
    rig.run(235_000)
    assert len(rig.sent) == sent and rig.d.state is DialState.UP
    rig.run(3_600_000)
    assert len(rig.sent) - sent <= 2 * 16
    assert rig.kinds("d") == rig.kinds("l") == ["link_up"], "nobody drops it either"


def test_configured_keep_alive_works_without_flows(engine):
    rig = LinkRig(engine, dial=params(keep_alive_s=5)).up()
    rig.run(60_000)
    assert rig.d.link.counters.pings_sent + rig.l.links[0].counters.pings_sent >= 11


def test_flows_survive_a_blackhole(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    rig.lose = lambda sender, path, datagram: True
    near.flow.write(b"into the dark")
    rig.run(40_000)
    assert rig.d.state is DialState.RESUMING and near.reason is None
    assert rig.kinds("d").count("link_silent") == 1
    rig.lose = lambda sender, path, datagram: False
    rig.until(lambda: rig.d.state is DialState.UP, 6000)
    rig.until(lambda: far.flow.conv.readable, 61_000)
    assert far.flow.read(100) == b"into the dark"
    echo(near, far, rig)
    assert len(rig.l.links) == 1


def test_silence_is_noticed_quickly_and_resumed_elsewhere(engine):
    """The port in use goes dead; another one serves, and the flow goes on."""
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    dead = rig.d.link.link_wire.path[1]
    rig.lose = lambda sender, path, datagram: path[1] == dead or (sender == "l" and b"l%d" % path[0] == dead)
    near.flow.write(b"hello?")
    start = rig.now_ms
    rig.until(lambda: rig.d.link.counters.resumes, 3000)
    assert rig.now_ms - start < 1000
    rig.until(lambda: far.flow.conv.readable, 3000)
    assert far.flow.read(100) == b"hello?"
    assert rig.d.link.link_wire.path[1] != dead
    echo(near, far, rig)
    assert rig.kinds("d").count("link_resumed") == 1
    rig.run(70_000)
    assert len(rig.open_sockets) == 1, "sockets that served to resume are given back"


def test_a_restarted_listener_is_noticed_and_flows_are_reset(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    echo(near, far, rig)  # a flow that was heard: others are opened again
    rig.new_listener()
    near.flow.write(b"anybody?")
    start = rig.now_ms
    rig.until(lambda: near.reason, 3000)
    assert near.reason.code is ResetCode.LINK_LOST
    assert rig.now_ms - start < 1000
    echo(*rig.pair(), rig)
    assert rig.d.state is DialState.UP and len(rig.d.links) == 1


def test_a_restarted_listener_is_noticed_by_keep_alive(engine):
    rig = LinkRig(engine).up()
    near, _ = rig.pair()
    rig.run(1000)
    rig.new_listener()
    rig.until(lambda: near.reason, 25_000)
    assert near.reason.code is ResetCode.LINK_LOST


def test_a_flow_is_not_entrusted_to_a_link_that_was_long_unheard(engine):
    """The listener was restarted while nothing was going on: the first flow after that must not be lost."""
    rig = LinkRig(engine).up()
    rig.run(100_000)
    rig.new_listener()
    near = rig.dial()
    near_flow = near.flow
    assert near_flow.opening
    rig.until(lambda: not near_flow.opening, 3000)
    assert near.reason is None
    near_flow.write(b"x")
    rig.until(lambda: rig.flows)


def test_a_flow_waits_for_a_link_as_long_as_it_is_told(engine):
    rig = LinkRig(engine, dial={"flow_wait_ms": 2000})
    rig.d.start(rig.now_ms)
    rig.lose = lambda sender, path, datagram: True
    near = rig.dial()
    rig.run(1999)
    assert near.flow.opening and near.reason is None
    rig.run(2)
    assert near.reason is not None and near.reason.code is ResetCode.UNREACHABLE
    assert rig.d.counters.flows_unreachable == 1


def test_a_restarted_dialer_gets_a_new_link(engine):
    rig = LinkRig(engine).up()
    rig.pair()
    rig.new_dialer()
    rig.up()
    echo(*rig.pair(), rig)
    assert len(rig.l.links) == 2
    rig.run(7_440_001)
    assert len(rig.l.links) == 1, "the dead dialer's link is given up"


def test_a_farewell_ends_flows_at_once_and_the_dialer_calls_again(engine):
    rig = LinkRig(engine).up()
    near, _ = rig.pair()
    rig.l.close(rig.now_ms, "shutdown")
    rig.run(rig.delay_ms + 2)
    assert near.reason.code is ResetCode.SHUTDOWN and "shutdown" in near.reason.text
    assert rig.d.state is DialState.CALLING
    assert (
        "closed by the peer" in rig.event("d", "link_down").text
        or "peer closed" in rig.event("d", "link_down").text
    )
    rig.run(2000)
    rig.new_listener()
    rig.until(lambda: rig.d.link, 6000)
    echo(*rig.pair(), rig)


def test_the_dialers_farewell_ends_flows_at_once(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    waiting = len(rig.l.links)
    assert waiting == 1
    rig.d.close(rig.now_ms, "shutdown")
    assert near.reason.code is ResetCode.SHUTDOWN
    rig.run(rig.delay_ms + 2)
    assert far.reason.code is ResetCode.SHUTDOWN and rig.l.links == []
    sent = len(rig.sent)
    rig.run(60_000)
    assert len(rig.sent) == sent
    assert rig.d.deadline() is None and rig.l.deadline() is None


def test_an_answer_on_the_old_link_ends_the_alarm(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    rig.lose = lambda sender, path, datagram: True
    near.flow.write(b"x")
    rig.until(lambda: rig.d.state is DialState.RESUMING, 2000)
    inits = [len(datagram) for side, *_, datagram in rig.sent[-2:]]
    rig.lose = lambda sender, path, datagram: sender == "d" and len(datagram) >= 384
    rig.until(lambda: rig.d.state is DialState.UP, 70_000)
    assert rig.d.link.counters.resumes == 0 and inits
    rig.lose = lambda sender, path, datagram: False
    echo_start = rig.now_ms
    rig.until(lambda: far.flow.conv.readable, 1_000)
    assert far.flow.read(10) == b"x"
    echo(near, far, rig)
    rig.run(40_000)
    assert rig.d.state is DialState.UP and rig.now_ms > echo_start


def test_the_listener_follows_a_dialer_whose_address_changes(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    rig.moves[b"d1"] = b"d1 behind another address"
    near.flow.write(b"still me")
    rig.run(100)
    assert rig.l.links[0].link_wire.path[1] == b"d1 behind another address"
    assert far.flow.read(100) == b"still me"
    far.flow.write(b"found you")
    rig.run(100)
    assert near.flow.read(100) == b"found you"
    assert rig.l.links[0].counters.moves == 1 and rig.kinds("l").count("link_moved") == 1
    assert rig.d.link.counters.resumes == 0


def test_keys_are_renewed_and_nothing_is_lost(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    first = rig.d.link.epochs.own_cid
    up = rig.rng.randbytes(400_000)
    sent, got = 0, b""
    while len(got) < len(up):
        sent += near.flow.write(up[sent : sent + 1000])
        rig.run(400)
        got += far.flow.read(1 << 20) or b""
    assert got == up
    for link in (rig.d.link, rig.l.links[0]):
        assert link.counters.rekeys == 1
    assert rig.d.link.epochs.own_cid != first
    assert rig.d.counters.inits_sent == 1 and rig.d.link.counters.silences == 0
    rig.run(31_000)
    assert rig.d.cids.owner(first) is None, "the old epoch is forgotten"


@pytest.mark.parametrize("lost", ["d", "l"])
def test_a_lost_rekey_frame_is_made_good(engine, lost):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    rig.run(119_000)
    left = [2]

    def lose(sender, path, datagram):
        if sender == lost and len(datagram) > 70 and left[0]:
            left[0] -= 1
            return True
        return False

    rig.lose = lose
    rig.run(5000)
    assert left == [0] and rig.d.link.counters.rekeys == rig.l.links[0].counters.rekeys == 1
    echo(near, far, rig)
    assert rig.d.link.counters.flows_reset == 0


def test_many_datagrams_renew_the_keys_as_well(engine, monkeypatch):
    monkeypatch.setattr("kcpg.core.native.link.epochs.WORN_DATAGRAMS", 200)
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    got = 0
    for _ in range(100):
        near.flow.write(bytes(20_000))
        rig.run(50)
        got += len(far.flow.read(1 << 20) or b"")
    assert got == 100 * 20_000
    assert rig.d.link.counters.rekeys >= 5
    assert rig.l.links[0].counters.rekeys == rig.d.link.counters.rekeys


def test_a_link_can_be_resumed_after_rekeys_and_resumes(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    for turn in range(3):
        rig.run(125_000)
        rig.lose = lambda sender, path, datagram: True
        near.flow.write(b"round %d" % turn)
        rig.run(3000)
        rig.lose = lambda sender, way, datagram, dead=rig.d.link.link_wire.path: way == dead
        rig.until(lambda: far.flow.conv.readable, 61_000)
        rig.lose = lambda sender, way, datagram: False
        assert far.flow.read(100) == b"round %d" % turn
    assert rig.d.link.counters.resumes >= 3 and rig.d.link.counters.rekeys >= 1
    assert near.reason is None and len(rig.l.links) == 1


def test_a_process_that_stood_still_reads_before_it_judges(engine):
    rig = LinkRig(engine).up()
    near, _ = rig.pair()
    rig.run(500)
    near.flow.write(b"x")
    rig.run(1)
    later_ms = rig.now_ms + 2_000
    rig.d.advance(later_ms)
    assert rig.d.state is DialState.UP, "the answer may lie unread"
    rig.d.advance(later_ms + rig.d.link.liveness.silence_ms)
    assert rig.d.state is DialState.RESUMING


def test_many_resumes_whose_answers_are_lost_are_made_good(engine):
    """The listener hears three attempts with a key agreement each, the dialer none of the answers."""
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    rig.lose = lambda sender, path, datagram: sender == "l"
    near.flow.write(b"still here")
    rig.run(100_000)
    assert rig.l.links[0].counters.resumes >= 3
    rig.lose = lambda sender, path, datagram: False
    rig.until(lambda: rig.d.state is DialState.UP, 10_000)
    assert far.flow.read(100) == b"still here"
    echo(near, far, rig)
    assert near.reason is None and len(rig.l.links) == 1


def test_a_resume_whose_answer_is_lost_is_made_good(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    rig.lose = lambda sender, path, datagram: sender == "l"
    near.flow.write(b"x")
    rig.run(35_000)
    rig.lose = lambda sender, path, datagram: False
    rig.until(lambda: rig.d.state is DialState.UP, 6000)
    rig.run(61_000)
    assert near.reason is None
    far.flow.read(10)
    echo(near, far, rig)


def test_every_state_but_closed_can_end():
    for state in LinkState:
        if state is not LinkState.CLOSED:
            assert NEXT_STATE[state, LinkInput.END] is LinkState.CLOSED
    assert all(state is not LinkState.CLOSED for state, _ in NEXT_STATE)


def test_flows_dialled_into_the_silence_wait_for_its_end(engine):
    rig = LinkRig(engine).up()
    near, _ = rig.pair()
    rig.lose = lambda sender, path, datagram: True
    near.flow.write(b"x")
    rig.until(lambda: rig.d.state is DialState.RESUMING, 2000)
    waiting = rig.dial()
    assert waiting.flow.opening
    rig.run(5000)
    rig.lose = lambda sender, path, datagram: False
    rig.until(lambda: not waiting.flow.opening, 10_000)
    waiting.flow.write(b"at last")
    rig.until(lambda: len(rig.flows) == 2)
    assert rig.flows[1][0].read(100) == b"at last" and near.reason is None


def test_a_lost_farewell_is_found_out(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    echo(near, far, rig)
    rig.lose = lambda sender, path, datagram: sender == "l"
    rig.l.close(rig.now_ms, "shutdown")
    rig.run(50)
    rig.lose = lambda sender, path, datagram: False
    rig.new_listener()
    near.flow.write(b"hello?")
    rig.until(lambda: near.reason, 3000)
    assert near.reason.code is ResetCode.LINK_LOST


def test_paced_links_carry_everything(engine):
    rates = {"outbound_bps": 20_000_000, "inbound_bps": 20_000_000}
    rig = LinkRig(engine, dial=params(**rates), listen=params(**rates)).up()
    near, far = rig.pair()
    data = rig.rng.randbytes(500_000)
    start, sent, got = rig.now_ms, 0, b""
    while len(got) < len(data):
        sent += near.flow.write(data[sent:])
        rig.run(10)
        got += far.flow.read(1 << 20) or b""
    assert got == data
    assert 190 <= rig.now_ms - start <= 400, "500 kB at 20 Mbit/s take 0.2 s"
    assert rig.d.link.counters.silences == 0


def with_identity(engine):
    return LinkRig(engine, dial={"identity": b"i" * 16}).up()


def test_a_dialer_that_answers_keeps_its_flows_whoever_has_its_identity(engine):
    """Machines that were copied from one image come and go."""
    rig = with_identity(engine)
    near, far = rig.pair()
    for life in range(20):
        rig.l.take_life(b"i" * 16 + b"%08d" % life, rig.now_ms)
        rig.run(3_000)
    echo(near, far, rig)
    assert rig.d.link.counters.resumes == 0 and near.reason is far.reason is None


@pytest.mark.parametrize(("off_ms", "survives"), [(7_000, True), (20_000, False)])
def test_a_dialer_that_cannot_be_asked_has_some_seconds(engine, off_ms, survives):
    rig = with_identity(engine)
    _, far = rig.pair()
    rig.lose = lambda sender, path, datagram: True
    rig.l.take_life(b"i" * 16 + b"another.", rig.now_ms)
    rig.run(off_ms)
    rig.lose = lambda sender, path, datagram: False
    rig.run(2_000)
    assert (far.reason is None) == survives
    assert survives or far.reason.code is ResetCode.LINK_LOST


def test_other_identities_and_the_same_life_are_no_reason_to_ask(engine):
    rig = with_identity(engine)
    rig.pair()
    link = rig.l.links[0]
    pings = link.counters.pings_sent
    rig.l.take_life(b"j" * 16 + b"another.", rig.now_ms)
    rig.l.take_life(b"".join(link.incarnation), rig.now_ms)
    rig.run(1_000)
    assert link.counters.pings_sent == pings
    rig.d.close(rig.now_ms, "over")
    rig.run(1_000)
    assert not rig.l._of_dialer, "what a link had is forgotten with it"
