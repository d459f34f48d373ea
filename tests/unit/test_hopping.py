"""Pieces of a hop: what is remembered of ports, when a path is bad, what only asks."""

from __future__ import annotations

import random
from types import SimpleNamespace

from kcpg.core.native.dial.pathchoice import HOST_HALF_LIFE_MS, PORT_HALF_LIFE_MS, Destination, PathChoice
from kcpg.core.native.dial.penaltybox import MOST_ENTRIES, MOST_LEVEL, PenaltyBox
from kcpg.core.native.link.quality import WINDOW_MS, Quality
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.events import FRAME, MOVED
from tests.wires import PATH_A, PATH_B, WirePair


def choice(*hosts: str, ports: tuple[int, ...] = (1, 2, 3)) -> PathChoice:
    return PathChoice([Destination(host, ports) for host in hosts], random.Random(7), lambda addr: addr[:1])


def ask(chooser: PathChoice, now_ms: int = 0) -> bytes:
    host, port = chooser.target(now_ms)
    return chooser.address(host, port, [f"{host}{port}".encode()], now_ms)


# PenaltyBox and choice.


def test_blame_fades_and_is_bounded():
    marks = PenaltyBox(1000)
    assert marks.level("x", 0) == 0
    for _ in range(20):
        marks.blame("x", 0)
    assert marks.level("x", 0) == MOST_LEVEL and marks.level("x", 1000) == MOST_LEVEL / 2
    assert marks.level("x", 10_000) == 0
    marks.blame("x", 20_000)
    marks.clear("x")
    assert marks.level("x", 20_000) == 0
    for number in range(MOST_ENTRIES + 1):
        marks.blame(number, 20_000)
    assert marks.level(0, 20_000) == 0 and marks.level(1, 20_000) == 1


def test_what_failed_is_avoided_for_a_while():
    chooser = choice("a")
    bad = ask(chooser)
    chooser.blame(bad, 0)
    assert bad not in {ask(chooser) for _ in range(50)}
    assert bad in {ask(chooser, 3 * PORT_HALF_LIFE_MS) for _ in range(50)}


def test_a_host_that_fails_is_avoided_with_all_its_ports_until_it_answers():
    chooser = choice("a", "b")
    bad = next(addr for addr in iter(lambda: ask(chooser), b"") if addr.startswith(b"a"))
    chooser.blame(bad, 0)
    assert {addr[:1] for addr in (ask(chooser) for _ in range(50))} == {b"b"}
    assert {addr[:1] for addr in (ask(chooser, 3 * HOST_HALF_LIFE_MS) for _ in range(50))} == {b"a", b"b"}
    chooser.blame(bad, 0)
    chooser.praise(bad)
    assert {addr[:1] for addr in (ask(chooser) for _ in range(50))} == {b"a", b"b"}
    assert bad not in {ask(chooser) for _ in range(50)}, "what was said of the port only fades"


def test_one_of_several_addresses_of_a_name_is_avoided():
    chooser = PathChoice([Destination("name", (1,))], random.Random(7), lambda addr: addr[:1])
    both = [b"x1", b"y1"]
    chooser.blame(chooser.address("name", 1, [b"x1"], 0), 0)
    assert {chooser.address("name", 1, both, 0) for _ in range(20)} == {b"y1"}


def test_if_everything_failed_something_is_chosen_all_the_same():
    chooser = choice("a", ports=(1,))
    for _ in range(5):
        chooser.blame(ask(chooser), 0)
    assert ask(chooser) == b"a1"


def test_only_ports_are_tried_that_the_listener_told() -> None:
    chooser = choice("a", "b", ports=tuple(range(1, 9)))
    used = next(addr for addr in iter(lambda: ask(chooser), b"") if addr in (b"a2", b"a3"))
    chooser.heed(used, [(2, 3), (5, 5), (100, 200)])
    found = {ask(chooser) for _ in range(500)}
    assert {addr for addr in found if addr[:1] == b"a"} == {b"a2", b"a3", b"a5"}
    assert len({addr for addr in found if addr[:1] == b"b"}) == 8, "of another host nothing is known"
    chooser.heed(used, [(9, 10)])
    assert len({ask(chooser) for _ in range(500)}) == 16, "its port is forwarded"
    chooser.heed(used, [(2, 3)])
    chooser.heed_nobody()
    assert len({ask(chooser) for _ in range(500)}) == 16


# Quality.


class Traffic:
    """A link wire's counters, and windows of traffic."""

    def __init__(self) -> None:
        self.link_wire = SimpleNamespace(
            segments_sent=0, segments_resent=0, resends_spurious=0, rx_cid=1, rx_pn=-1, rx_datagrams=0
        )
        self.quality = Quality()
        self.now_ms = 0
        self.quality.reset(0)
        self.window(0, 0)

    def window(self, sent: int = 0, resent: int = 0, numbered: int = 0, lost: int = 0) -> bool:
        b = self.link_wire
        b.segments_sent += sent
        b.segments_resent += resent
        b.rx_pn += numbered
        b.rx_datagrams += numbered - lost
        verdict = self.quality.inspect(b, self.now_ms)  # type: ignore[arg-type]
        self.now_ms += WINDOW_MS
        return verdict


def test_two_bad_windows_make_a_bad_path():
    for window in ({"sent": 90, "resent": 30}, {"numbered": 100, "lost": 30}):
        traffic = Traffic()
        for _ in range(10):
            assert not traffic.window(sent=100, numbered=100)
        assert not traffic.window(**window)
        assert traffic.window(**window)


def test_one_bad_window_does_not():
    traffic = Traffic()
    for turn in range(20):
        assert not traffic.window(sent=100, resent=30 if turn % 2 else 0)


def test_little_traffic_tells_nothing_unless_most_of_it_is_lost():
    traffic = Traffic()
    for _ in range(10):
        assert not traffic.window(sent=2, resent=1)
    traffic = Traffic()
    traffic.window(sent=3, resent=8)
    assert traffic.window(sent=3, resent=8)


def test_what_the_network_always_loses_is_no_reason():
    traffic = Traffic()
    verdicts = [traffic.window(sent=100, resent=20) for _ in range(40)]
    assert any(verdicts[:10]) and not any(verdicts[20:])
    assert traffic.quality.usual_share > 0.05


def test_a_new_epoch_is_not_compared_with_the_old_one():
    traffic = Traffic()
    traffic.window(numbered=1000)
    traffic.link_wire.rx_cid, traffic.link_wire.rx_pn = 2, 5
    assert not traffic.window(numbered=0)


# The wire.


def test_probing_a_path_does_not_take_it(engine):
    ends = WirePair(engine)
    other = (PATH_A[0], b"elsewhere")
    ends.b.send(frames.PING, bytes(8))
    for _, _, datagram in ends.wires["b"].transmit(ends.now_ms):
        ends.wires["a"].receive(*PATH_B, datagram, ends.now_ms)
    for kind in (frames.PATH_CHALLENGE, frames.PATH_RESPONSE):
        ends.a.send(kind, b"12345678")
        for _, _, datagram in ends.wires["a"].transmit(ends.now_ms):
            ends.wires["b"].receive(*other, datagram, ends.now_ms)
        assert not ends.taken("b", MOVED) and ends.b.source is None
        ((_, got, payload, path),) = ends.taken("b", FRAME)
        assert (got, payload[:8], path) == (kind, b"12345678", other)
    assert ends.b.rx_datagrams == 2 and ends.b.rx_pn == -1
    ends.a.send(frames.PING, bytes(8))
    for _, _, datagram in ends.wires["a"].transmit(ends.now_ms):
        ends.wires["b"].receive(*other, datagram, ends.now_ms)
    assert ends.taken("b", MOVED) == [(ends.b,)] and ends.b.source == other
    assert ends.b.rx_pn == 2
