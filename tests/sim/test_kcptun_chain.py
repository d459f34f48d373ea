"""Flows over hops that speak kcptun's format, in virtual time."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest

from kcpg.core.env import EventKind
from kcpg.core.flow import Kind, Reset, ResetCode
from kcpg.core.kcptun.cipher import CRYPTS
from kcpg.core.kcptun.flow import StreamFlow
from kcpg.core.kcptun.framestream import StreamSettings
from kcpg.core.kcptun.heldends import END_GRACE_MS
from kcpg.core.kcptun.link import (
    DOUBT_GRACE_MS,
    DOUBT_MS,
    OWED_SILENT_MS,
    Link,
)
from kcpg.core.kcptun.wire import REMEMBERED, REMEMBERED_MS, TunConv
from tests.sim.actors import Talker
from tests.sim.chain import Hop
from tests.sim.memory import BUFFER_BYTES, Answer
from tests.sim.network import address
from tests.sim.tunchain import TunChain, TunHop

KEY = bytes(range(32))
FOREVER = 1 << 40
PLAIN, PACKED = StreamSettings(1, False), StreamSettings(1, True)
STREAMS = [PLAIN, PACKED, StreamSettings(2, False), StreamSettings(2, True)]
NAMES = ["smux 1", "smux 1 snappy", "smux 2", "smux 2 snappy"]


def chain(engine: str, seed: object, profiles: Any = "lan", **options: Any) -> TunChain:
    """One hop."""
    of_hop = {name: options.pop(name) for name in list(options) if name in TunHop.__dataclass_fields__}
    return TunChain(engine, seed, [TunHop(KEY, **of_hop)], profiles=profiles, **options)


@pytest.mark.parametrize("streams", STREAMS, ids=NAMES)
@pytest.mark.parametrize("profile", ["lan", "lossy5", "reorder", "duplicate", "corrupt"])
def test_bytes_both_ways(engine: str, streams: StreamSettings, profile: str) -> None:
    tun = chain(engine, f"both {streams} {profile}", profile, streams=streams)
    for _ in range(4):
        tun.talk(200_000, 150_000)
    tun.finish()
    tun.settle()
    assert tun.tun_dialer().counters.called == 1


@pytest.mark.parametrize("crypt", [name for name in CRYPTS if name not in ("tea", "xtea", "twofish")])
def test_every_cipher(engine: str, crypt: str) -> None:
    tun = chain(engine, crypt, "lossy1", crypt=crypt, streams=PLAIN)
    tun.talk(50_000, 50_000)
    tun.finish()
    tun.settle()


@pytest.mark.parametrize("crypt", ["tea", "xtea", "twofish"])
def test_slow_ciphers(crypt: str) -> None:
    tun = chain("compiled", crypt, crypt=crypt, streams=PLAIN)
    tun.talk(5_000, 5_000)
    tun.finish()


@pytest.mark.parametrize("shape", [(10, 3), (5, 2), (1, 1), (0, 0)])
def test_fec_is_as_the_dialer_wants_it(engine: str, shape: tuple[int, int]) -> None:
    """A kcptun that gets shards in other groups than its own takes garbage for data."""
    tun = chain(engine, f"fec {shape}", "lossy5", fec=shape, streams=PLAIN)
    tun.talk(1_500_000, 1_500_000)
    tun.world.run(lambda: all(near.received > 1_450_000 for near, _ in tun.pairs), 60_000)
    for leg in (tun.tun_dialer(), tun.tun_listener()):
        (link,) = leg.links
        sender, receiver = link.conv.sender, link.conv.receiver
        if not all(shape):
            assert sender is None and receiver is None
            continue
        assert sender is not None and (sender.data, sender.parity) == shape and sender.groups > 10
        assert receiver is not None and (receiver.shape.data, receiver.shape.parity) == shape
        assert receiver.rebuilt > 10 and receiver.untrusted == 0
    tun.finish()
    tun.settle()


def test_a_dialer_stops_fec_that_its_peer_does_not_use(engine: str) -> None:
    tun = chain(engine, "no fec", fec=(3, 1), streams=PLAIN)
    listener = tun.tun_listener()
    listener.wire.format = replace(listener.wire.format, follows=False)
    tun.talk(100_000, 100_000)
    tun.finish()
    (link,) = tun.tun_dialer().links
    assert link.conv.sender is None and link.conv.receiver is None


@pytest.mark.parametrize("streams", STREAMS, ids=NAMES)
def test_half_close(engine: str, streams: StreamSettings) -> None:
    tun = chain(engine, f"half-close {streams}", "lossy5", streams=streams)
    tun.talk(50, 150_000, far={"wait_for": 50, "reads_from_ms": 1_000})
    tun.finish()
    tun.talk(150_000, 50, near={"wait_for": 50, "reads_from_ms": 1_000})
    tun.finish()
    tun.settle()


def test_the_target_speaks_first(engine: str) -> None:
    tun = chain(engine, "greeting")
    tun.talk(100, 30, near={"wait_for": 30})
    tun.finish(3_000 + 3 * END_GRACE_MS)
    tun.settle()


@pytest.mark.parametrize("side", ["near", "far"])
def test_an_abort_ends_the_flow_at_the_other_end(engine: str, side: str) -> None:
    """The format knows ends alone."""
    tun = chain(engine, f"reset {side}", "lossy5", streams=PLAIN)
    options: dict[str, Any] = {side: {"reset_after": 50_000}}
    tun.talk(3_000_000, 3_000_000, **options)
    tun.settle()


def test_dial_failure_ends_the_flow(engine: str) -> None:
    tun = chain(engine, "refused")
    near = Talker(tun.world, "near", ("up", 10_000))
    tun.connect(near, Answer(50, refuse=Reset(ResetCode.NO_ROUTE, "nobody is there")))
    tun.settle()
    assert not tun["client"].node.flows


def test_packets_and_targets_are_refused_with_words(engine: str) -> None:
    tun = chain(engine, "refusals")
    sink = Talker(tun.world, "near", ("up", 10))
    tun.listener.connect(Kind.UDP, sink, source="packets")
    tun.world.run(lambda: tun.tun_dialer().counters.flows_refused == 1, 1000)
    (reason,) = tun.reasons("client")
    assert reason is not None and reason.code is ResetCode.REFUSED and "no UDP" in reason.text


@pytest.mark.parametrize("streams", STREAMS, ids=NAMES)
def test_a_slow_reader_stops_its_sender(engine: str, streams: StreamSettings) -> None:
    """Memory stays within what the settings say, for a stream and for a link."""
    small = replace(streams, link_bytes=300_000, stream_bytes=100_000)
    tun = chain(engine, f"slow {streams}", streams=small)
    near, far = tun.talk(3_000_000, 10, far={"reads_from_ms": 20_000})
    most = 0

    def watch() -> bool:
        nonlocal most
        most = max([most, *(link._held for link in tun.tun_listener().links)])
        return near.clean and far.clean

    tun.world.run(watch, 120_000)
    # What had been under way when the limit was reached may still come: smux 2 starts with 262,144.
    assert 100_000 < most < small.link_bytes + 66_000
    tun.settle()
    assert BUFFER_BYTES < 100_000


def test_with_smux_2_a_slow_reader_stops_nobody_else(engine: str) -> None:
    tun = chain(engine, "slow among others", streams=replace(STREAMS[2], stream_bytes=300_000))
    slow, _ = tun.talk(3_000_000, 10, far={"reads_from_ms": 60_000})
    other, _ = tun.talk(500_000, 500_000)
    tun.world.run(lambda: other.clean, 20_000)
    assert not slow.clean
    tun.finish(200_000)
    tun.settle()


@pytest.mark.parametrize("who", ["server", "client"])
def test_a_restart_is_noticed(engine: str, who: str) -> None:
    """Within seconds, where kcptun takes a minute: an application that tries again is served."""
    tun = chain(engine, f"restart {who}", "transcontinental", streams=PLAIN)
    near, far = tun.talk(FOREVER, FOREVER)
    tun.world.run(lambda: min(near.received, far.received) > 1_000_000, 30_000)
    tun[who].restart()
    tun.talk(10_000, 10_000)
    (again, served), limit_ms = tun.pairs.pop(), DOUBT_MS + DOUBT_GRACE_MS + 2_000
    if who == "server":
        tun.world.run(lambda: near.over and again.over, limit_ms)
        assert near.reset_reason is not None and near.reset_reason.code is ResetCode.LINK_LOST
        tun.queue.clear()
        tun.talk(10_000, 10_000)
        again, served = tun.pairs.pop()
    tun.world.run(lambda: again.clean and served.clean, limit_ms)
    if who == "client":
        tun.world.run(lambda: far.over, OWED_SILENT_MS + 12_000)
    tun.settle()


@pytest.mark.parametrize("crypt", ["aes", "none"])
def test_a_nat_that_forgets(engine: str, crypt: str) -> None:
    """A listener of ours follows the link where nobody can forge it; else another link takes over."""
    tun = chain(engine, f"rebind {crypt}", crypt=crypt, streams=PLAIN, fec=(3, 1))
    tun.world.network.behind_nat("client")
    near, _ = tun.talk(FOREVER, FOREVER)
    tun.world.run(lambda: near.received > 1_000_000, 30_000)
    tun.world.network.rebind_nat("client")
    tun.queue.clear()
    before, began = near.received, tun.world.now_ms
    tun.world.run(lambda: near.over or near.received > before + 1_000_000, 20_000)
    assert near.over == (crypt == "none") and tun.world.now_ms - began < 10_000
    tun.talk(10_000, 10_000)
    again, served = tun.pairs.pop()
    tun.world.run(lambda: again.clean and served.clean, 10_000)
    if crypt == "aes":
        assert [link.counters.moves for link in tun.tun_listener().links] == [1]


def test_a_recorded_datagram_moves_no_link(engine: str) -> None:
    """Also not one that is older than the memory against replay."""
    tun = chain(engine, "replayed", streams=PLAIN, crypt="aes")
    sent: list[tuple[int, bytes, bytes]] = []
    dialer, listener = tun.tun_dialer(), tun.tun_listener()
    transmit = dialer.transmit

    def recorded(now_ms: int) -> list[tuple[int, bytes, bytes]]:
        sent.extend(found := transmit(now_ms))
        return found

    dialer.transmit = recorded  # type: ignore[method-assign]
    near, _ = tun.talk(FOREVER, FOREVER)
    tun.world.run(lambda: near.received > 8_000_000 and near.sent > 8_000_000, 60_000)
    (link,) = listener.links
    path = link.conv.path
    listener.wire.seen = type(listener.wire.seen)(REMEMBERED, REMEMBERED_MS)  # as if all of it was long ago
    for _, _, datagram in sent[200:1000]:
        listener.receive(path[0], address("somewhere", 9), datagram, tun.world.now_ms)
    assert link.conv.path == path and link.counters.moves == 0
    assert listener.wire.drops["conv_unknown"] == 800


def test_a_link_that_is_repeated_from_its_begin_reaches_nobody(engine: str) -> None:
    tun = chain(engine, "repeated", streams=PLAIN, crypt="aes")
    sent: list[tuple[int, bytes, bytes]] = []
    dialer, listener = tun.tun_dialer(), tun.tun_listener()
    transmit = dialer.transmit

    def recorded(now_ms: int) -> list[tuple[int, bytes, bytes]]:
        sent.extend(found := transmit(now_ms))
        return found

    dialer.transmit = recorded  # type: ignore[method-assign]
    tun.talk(10_000, 10_000)
    tun.finish()
    opened = tun["server"].node.counters.opened
    listener.wire.seen = type(listener.wire.seen)(REMEMBERED, REMEMBERED_MS)
    (link,) = listener.links
    for _, _, datagram in sent:
        listener.receive(link.conv.path[0], address("somewhere", 9), datagram, tun.world.now_ms)
    tun.world.pass_time(1000)
    assert listener.wire.drops["replay"] >= 1 and tun["server"].node.counters.opened == opened


def test_an_outage_costs_no_flow(engine: str) -> None:
    tun = chain(engine, "outage", streams=PLAIN)
    tun.talk(3_000_000, 3_000_000)
    tun.world.run(lambda: all(near.received > 100_000 for near, _ in tun.pairs), 10_000)
    tun.world.network.cut("client", "server", 12_000)
    tun.finish(120_000)
    tun.settle()


def test_another_password_is_told(engine: str) -> None:
    tun = chain(engine, "wrong", dialer_password=b"other", streams=PLAIN)
    near = Talker(tun.world, "near", ("up", 10))
    tun.connect(near, Answer(0, None))
    tun.world.run(lambda: near.over, 40_000)
    assert near.reset_reason is not None and near.reset_reason.code is ResetCode.UNREACHABLE
    assert tun.tun_listener().wire.drops["auth"] > 5 and not tun.tun_listener().links
    assert EventKind.NO_ANSWER in [event.kind for _, event in tun.events]


def test_sessions_expire_while_old_streams_go_on(engine: str) -> None:
    streams = replace(PLAIN, link_bytes=100_000)
    tun = chain(engine, "expire", streams=streams, options={"expire_ms": 20_000, "scavenge_ms": 100_000})
    old, _ = tun.talk(1_000_000, 10, far={"reads_from_ms": 50_000})
    tun.world.pass_time(30_000)
    tun.world.run(lambda: tun.tun_dialer().counters.called >= 2, 40_000)
    assert len(tun.tun_dialer().links) == 2
    tun.talk(5_000, 5_000)
    tun.finish(100_000)
    assert old.clean
    tun.world.run(lambda: len(tun.tun_dialer().links) == 1, 100_000)
    tun.settle()


@pytest.mark.parametrize("streams", [PACKED, STREAMS[2]], ids=["smux 1 snappy", "smux 2"])
@pytest.mark.parametrize("first", [True, False], ids=["kcptun first", "native first"])
def test_a_relay_between_formats(engine: str, streams: StreamSettings, first: bool) -> None:
    tun_hop, native = TunHop(KEY, fec=(5, 2), streams=streams), Hop(KEY)
    tun = TunChain(
        engine, f"relay {first}", [tun_hop, native] if first else [native, tun_hop], profiles="lossy1"
    )
    for _ in range(3):
        tun.talk(200_000, 100_000)
        tun.finish()
    tun.settle()


def test_two_sessions_share_the_flows(engine: str) -> None:
    tun = chain(engine, "two", tunnels=2, streams=PLAIN)
    tun.world.run(lambda: len(tun.tun_listener().links) == 2, 5_000)
    for _ in range(6):
        tun.talk(20_000, 20_000)
        tun.finish()
    assert all(link.counters.flows_opened == 3 for link in tun.tun_dialer().links)
    tun.settle()


def test_nothing_is_left_of_sessions(engine: str) -> None:
    gc.collect()
    before = [
        sum(isinstance(each, kind) for each in gc.get_objects()) for kind in (Link, StreamFlow, TunConv)
    ]
    tun = chain(engine, "leak", streams=PLAIN, options={"expire_ms": 20_000})
    for _ in range(5):
        tun.talk(1_000, 1_000)
        tun.finish()
        tun.world.pass_time(25_000)
        tun.world.run(lambda: len(tun.tun_dialer().links) == 1, 60_000)
    tun.world.run(lambda: len(tun.tun_listener().links) == 1, 200_000)
    tun.settle()
    tun.tun_dialer()
    gc.collect()
    now = [sum(isinstance(each, kind) for each in gc.get_objects()) for kind in (Link, StreamFlow, TunConv)]
    assert now[1] == before[1] and now[0] - before[0] <= 2 and now[2] - before[2] <= 2
