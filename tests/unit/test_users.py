"""Users of a listener: what each may do, and what happens to his links when he may not."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from kcpg.core.env import EventKind
from kcpg.core.flow import Reset, ResetCode
from kcpg.core.native.handshake.keys import KeyPair, RootKeys
from kcpg.core.native.handshake.outcomes import Resume
from kcpg.core.native.users import EXPIRY_MS, User, Users
from tests.links import KEYS, WALL_S, LinkRig, Watch, echo, params

LISTENER = KeyPair(b"l" * 32)
ALICE, BOB = (KeyPair(name * 32, LISTENER.own.public) for name in (b"a", b"b"))
OF_ALICE, OF_BOB = User("alice", ALICE.own.public), User("bob", BOB.own.public)


def rig(*users: User, whose: KeyPair = ALICE, **values: Any) -> LinkRig:
    """A listener with these users, and one of them as the dialer."""
    values["listen"] = {**values.get("listen", {}), "users": users}
    return LinkRig(
        keys=RootKeys.from_pair(whose), listener_keys=RootKeys.from_pair(KeyPair(b"l" * 32)), **values
    )


def test_flows_of_a_user_tell_whose_they_are(engine: str) -> None:
    made = rig(OF_ALICE, OF_BOB, engine=engine).up()
    near, far = made.pair()
    echo(near, far, made)
    assert made.flows[0][1].user == "alice"
    assert "of user alice" in made.event("l", EventKind.LINK_UP).text
    assert made.l.user_of(made.l.links[0]) == "alice"


def test_without_users_nothing_changes() -> None:
    made = LinkRig().up()
    made.pair()
    assert made.flows[0][1].user == "" and made.l.users is None and made.l.user_of(made.l.links[0]) == ""


def test_who_is_no_user_gets_no_answer_and_is_told_what_may_be_wrong() -> None:
    made = rig(OF_BOB)
    made.d.start(made.now_ms)
    made.run(10_000)
    assert not made.l.links and made.d.link is None
    assert made.l.handshake_drops["handshake_user"] > 5
    assert not [one for one in made.sent if one[0] == "l"], "the listener said something"
    assert "does it know this user" in made.event("d", EventKind.NO_ANSWER).text


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ((OF_BOB,), "user alice was removed here"),
        ((OF_BOB, replace(OF_ALICE, public_key=b"x" * 32)), "user alice has another key now"),
        ((OF_BOB, replace(OF_ALICE, disabled=True)), "user alice is disabled here"),
        ((OF_BOB, replace(OF_ALICE, expires_s=WALL_S)), "user alice has expired"),
    ],
)
def test_a_user_who_may_not_loses_his_links_at_once(after: tuple[User, ...], why: str, engine: str) -> None:
    """Under load: his flows end with the reason, which his log shows, and he cannot come back."""
    made = rig(OF_ALICE, OF_BOB, engine=engine).up()
    near, far = made.pair()
    near.flow.write(b"x" * 50_000)
    made.run(15)
    made.l.set_users(after, made.now_ms)
    assert not made.l.links and far.reason is not None
    assert far.reason.code is ResetCode.FORBIDDEN and far.reason.text == why
    made.run(200)
    assert near.reason is not None and near.reason.text == why
    assert made.event("d", EventKind.LINK_DOWN).text == f"the peer closed the link: forbidden: {why}"
    said = len([one for one in made.sent if one[0] == "l"])
    made.run(20_000)
    assert made.d.link is None and not made.l.links
    assert len([one for one in made.sent if one[0] == "l"]) == said, "the listener answered a former user"


@pytest.mark.parametrize(
    ("user", "why"),
    [
        (OF_BOB, f"no user has the key {base64.b64encode(ALICE.own.public).decode()}"),
        (replace(OF_ALICE, disabled=True), "user alice is disabled here"),
        (replace(OF_ALICE, expires_s=1), "user alice has expired"),
    ],
)
def test_the_listeners_log_says_who_was_refused_and_why(user: User, why: str) -> None:
    made = rig(user)
    made.d.start(made.now_ms)
    made.run(3_000)
    assert made.event("l", EventKind.REFUSED).text == f"a link is refused without an answer: {why}"
    assert EventKind.STRANGER not in made.kinds("l") and not [one for one in made.sent if one[0] == "l"]


def test_others_stay_when_one_goes(engine: str) -> None:
    made = rig(OF_ALICE, OF_BOB, engine=engine).up()
    near, far = made.pair()
    made.l.set_users((OF_ALICE,), made.now_ms)
    echo(near, far, made)
    assert made.kinds("l") == [EventKind.LINK_UP]


def test_a_new_user_comes_in_without_a_restart() -> None:
    made = rig(OF_BOB)
    made.d.start(made.now_ms)
    made.run(3_000)
    assert made.d.link is None
    made.l.set_users((OF_ALICE, OF_BOB), made.now_ms)
    made.until(lambda: made.d.link is not None and bool(made.l.links), 10_000)


def test_a_user_expires_while_his_link_is_up(engine: str) -> None:
    made = rig(replace(OF_ALICE, expires_s=WALL_S + 5 + 60), engine=engine).up()
    near, _far = made.pair()
    made.run(59_000 - made.now_ms + 5_000)
    assert made.l.links
    made.run(1_500)
    assert not made.l.links and near.reason is not None and near.reason.text == "user alice has expired"


def test_a_clock_that_jumps_is_noticed() -> None:
    made = rig(replace(OF_ALICE, expires_s=WALL_S + 86_400)).up()
    made.wall_offset_s["l"] = 86_400
    made.run(EXPIRY_MS + 100)
    assert not made.l.links


def test_a_prolonged_user_stays() -> None:
    made = rig(replace(OF_ALICE, expires_s=WALL_S + 65)).up()
    made.l.set_users((replace(OF_ALICE, expires_s=WALL_S + 86_400),), made.now_ms)
    made.run(120_000)
    assert made.l.links


def second_dialer(made: LinkRig) -> Any:
    """The dialer is started again, as on another machine of the same user."""
    made.open_sockets.clear()  # the first one is gone without a word
    again = made.new_dialer()
    again.start(made.now_ms)
    return again


def test_a_user_has_no_more_links_than_he_may() -> None:
    made = rig(replace(OF_ALICE, max_links=2), dial={"paths": 3}).up()
    made.run(3_000)
    assert len(made.l.links) == 2
    assert "user alice has 2 links already" in [e.text for s, e in made.events if s == "d"][-1]


def test_a_link_that_nobody_answers_on_gives_way_to_the_users_new_one() -> None:
    """His machine died and was started again: he is not locked out by himself."""
    made = rig(replace(OF_ALICE, max_links=1)).up()
    dead = made.l.links[0]
    again = second_dialer(made)
    made.until(lambda: again.link is not None and made.l.links == [made.l.links[-1]] and dead.closed, 30_000)
    made.until(lambda: again.link is not None and again.state.value == "up", 30_000)


def test_a_user_has_no_more_flows_than_he_may_over_all_his_links() -> None:
    made = rig(replace(OF_ALICE, max_flows=3), dial={"paths": 2}).up()
    made.run(1_000)
    watches = [made.dial() for _ in range(5)]
    for watch in watches:
        watch.flow.write(b"x")
    made.run(500)
    refused = [watch for watch in watches if watch.reason is not None]
    assert len(refused) == 2 and len(made.flows) == 3
    assert {str(watch.reason) for watch in refused} == {"refused: user alice has 3 flows already"}
    for flow, _ in made.flows:
        Watch(flow)
    watches[[watch.reason is None for watch in watches].index(True)].flow.reset(
        Reset(ResetCode.RESET_BY_APPLICATION)
    )
    made.run(500)
    late = made.dial()
    late.flow.write(b"x")
    made.run(500)
    assert late.reason is None and len(made.flows) == 4


def test_a_bandwidth_is_divided_among_the_users_links() -> None:
    made = rig(replace(OF_ALICE, outbound_bps=8_000_000), dial={"paths": 4}).up()
    made.run(1_000)
    assert [link.link_wire.rate_bps for link in made.l.links] == [8_000_000] * 4, "none carries anything"
    for _ in range(4):
        made.pair()
    made.run(200)
    assert [link.link_wire.rate_bps for link in made.l.links] == [2_000_000] * 4
    made.l.set_users((replace(OF_ALICE, outbound_bps=4_000_000),), made.now_ms)
    made.run(200)
    assert [link.link_wire.rate_bps for link in made.l.links] == [1_000_000] * 4
    made.l.set_users((OF_ALICE,), made.now_ms)
    assert [link.link_wire.rate_bps for link in made.l.links] == [0] * 4
    assert made.l.advance_deadline() is None or made.l.advance_deadline() > made.now_ms + 1


def test_who_has_one_link_left_has_all_of_his_bandwidth() -> None:
    made = rig(replace(OF_ALICE, outbound_bps=8_000_000), dial={"paths": 2}).up()
    made.run(1_000)
    made.pair()
    made.pair()
    made.run(200)
    first, second = made.l.links
    assert first.link_wire.rate_bps == 4_000_000
    second.close(Reset(ResetCode.SHUTDOWN), tell=False)
    assert first.link_wire.rate_bps == 8_000_000
    made.run(300)
    assert first.link_wire.rate_bps == 8_000_000


def test_the_lower_of_two_bandwidths_counts() -> None:
    user = replace(OF_ALICE, outbound_bps=8_000_000, inbound_bps=3_000_000)
    made = rig(user, listen=params(outbound_bps=2_000_000, inbound_bps=5_000_000)).up()
    (link,) = made.l.links
    assert link.link_wire.rate_bps == 2_000_000
    assert made.d.link.link_wire.rate_bps == 3_000_000


def test_a_user_who_resumes_keeps_his_limit(engine: str) -> None:
    made = rig(replace(OF_ALICE, outbound_bps=8_000_000), engine=engine).up()
    near, far = made.pair()
    dead = made.d.link.link_wire.path[1]
    made.lose = lambda sender, path, datagram: dead in (path[1], b"l%d" % path[0])
    near.flow.write(b"x")
    made.until(lambda: EventKind.LINK_RESUMED in made.kinds("l"), 5_000)
    assert far.reason is None and made.l.links[0].link_wire.rate_bps == 8_000_000


def test_nobody_resumes_the_link_of_another_user() -> None:
    """Bob has got hold of the secret of Alice's link: he gets a link of his own, and hers stays."""
    made = rig(OF_ALICE, OF_BOB).up()
    near, far = made.pair()
    alices, hers = made.d, made.l.links[0]
    secret = alices.link.rekey.secret
    made._keys["d"] = RootKeys.from_pair(BOB)
    thief = made.new_dialer()
    initiator = thief.initiator(Resume(alices.link.epochs.peer_cid, secret))
    made.l.receive(3000, b"d9", initiator.init(WALL_S + made.now_ms // 1000), made.now_ms)
    made.l.advance(made.now_ms)
    assert len(made.l.links) == 2 and made.l.links[0] is hers and hers.counters.resumes == 0
    made.d = alices
    echo(near, far, made)


def test_a_password_is_no_key_pair() -> None:
    made = LinkRig(
        keys=KEYS, listener_keys=RootKeys.from_pair(KeyPair(b"l" * 32)), listen={"users": (OF_ALICE,)}
    )
    made.d.start(made.now_ms)
    made.run(5_000)
    assert not made.l.links and not [one for one in made.sent if one[0] == "l"]


def test_what_is_kept_of_users_goes_with_them() -> None:
    made = rig(OF_ALICE, OF_BOB).up()
    pair = made._keys["l"].pair
    assert pair is not None and set(pair._shared) == {ALICE.own.public}
    made.l.set_users((OF_BOB,), made.now_ms)
    assert not pair._shared and not made.l.users._links


def test_who_ends_and_why() -> None:
    users = Users([OF_ALICE, OF_BOB], LISTENER)
    assert users.admits(OF_ALICE.public_key, 0) and not users.admits(b"z" * 32, 0)
    assert users.replace([OF_ALICE, OF_BOB], 0) == []
    assert users.replace([replace(OF_ALICE, expires_s=5), OF_BOB], 5) == [
        (replace(OF_ALICE, expires_s=5), "has expired")
    ]
    assert not users.admits(OF_ALICE.public_key, 5) and users.admits(OF_ALICE.public_key, 4)
    assert users.overdue(5) == [], "he has no links"
