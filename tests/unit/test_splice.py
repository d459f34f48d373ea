"""The splice's rules, on flows that do exactly what they are told and write down what is done to them."""

from __future__ import annotations

from collections import deque

import pytest

from kcpg.core.flow import READABLE, WRITABLE, Blocked, Flow, Kind, Moved, Open, Reset, ResetCode, Target
from kcpg.core.splice import Splice

GONE = Reset(ResetCode.RESET_BY_APPLICATION, "gone")


class Scripted(Flow):
    """Gives `source` pieces (b"" is the end), takes `space` bytes or packets; `calls` is the diary."""

    def __init__(self, kind: Kind = Kind.TCP, space: int = 1 << 20) -> None:
        super().__init__(kind)
        self.source: deque[bytes] = deque()
        self.space = space
        self.took: list[bytes] = []
        self.calls: list[object] = []
        self.ended_by_peer = False

    def read(self, limit: int) -> bytes | None:
        if not self.source:
            return None
        piece = self.source.popleft()
        if len(piece) > limit:
            self.source.appendleft(piece[limit:])
        return piece[:limit]

    @property
    def room(self) -> int:
        return self.space

    def write(self, data: bytes) -> int:
        self.space -= len(data)
        self.took.append(data)
        self.wrote()
        return len(data)

    def wrote(self) -> None:
        """What a flow may do when it is written to."""

    def recv_packet(self) -> bytes | None:
        return self.source.popleft() if self.source else None

    def send_packet(self, packet: bytes) -> bool:
        if not self.space:
            return False
        self.space -= 1
        self.took.append(packet)
        return True

    @property
    def at_end(self) -> bool:
        return self.ended_by_peer and not self.source

    def end(self) -> None:
        self.calls.append("end")

    def reset(self, reason: Reset) -> None:
        self.closed = True
        self.calls.append(reason)

    def release(self) -> None:
        assert self.splice is None
        super().release()
        self.calls.append("release")


class Diary:
    """The owner of a splice."""

    def __init__(self) -> None:
        self.overs: list[Reset | None] = []
        self.laters: list[Flow] = []

    def splice_over(self, splice: Splice, reason: Reset | None) -> None:
        assert splice.over
        self.overs.append(reason)

    def splice_later(self, splice: Splice, source: Flow) -> None:
        self.laters.append(source)


def pair(kind: Kind = Kind.TCP, **space: int) -> tuple[Scripted, Scripted, Splice, Diary]:
    a, b, diary = Scripted(kind, space.get("a", 1 << 20)), Scripted(kind, space.get("b", 1 << 20)), Diary()
    return a, b, Splice(a, b, Open(kind, None, "test"), diary), diary


def test_moves_only_what_the_sink_has_room_for() -> None:
    a, b, splice, _ = pair(b=5)
    a.source += [b"abc", b"defgh"]
    assert splice.pump(a) == Moved(5, Blocked.SINK_FULL)
    assert b.took == [b"abc", b"de"] and list(a.source) == [b"fgh"]
    b.space = 100
    assert splice.pump(a) == Moved(3, Blocked.SOURCE_DRY)
    assert splice.moved == [8, 0]


def test_an_end_travels_alone_and_after_the_bytes() -> None:
    a, b, splice, diary = pair(b=2)
    a.source += [b"abc", b""]
    splice.pump(a)
    assert b.calls == [] and not splice.ended(a)
    b.space = 10
    assert splice.pump(a) == Moved(1, Blocked.ENDED)
    assert b.calls == ["end"] and splice.ended(a) and not splice.over
    b.source.append(b"still there")
    splice.pump(b)
    assert a.took == [b"still there"] and diary.overs == []
    b.source.append(b"")
    splice.pump(b)
    assert a.calls == ["end", "release"] and b.calls == ["end", "release"] and diary.overs == [None]


def test_after_the_end_nothing_refers_to_anything() -> None:
    a, b, splice, _ = pair()
    a.source.append(b"")
    b.source.append(b"")
    splice.pump(a)
    splice.pump(b)
    assert a.splice is None and b.splice is None and splice.flows == () and splice.over
    late = (splice.pump(a), splice.ended(a))
    splice.ready(a, READABLE)
    splice.on_reset(a, GONE)
    splice.finished(b)
    splice.abort(GONE)
    splice.run(a)
    splice.expire()
    assert late == (Moved(0, Blocked.ENDED), True)
    assert a.calls == ["end", "release"]


def test_reset_is_forwarded_once_with_its_reason() -> None:
    a, b, splice, diary = pair()
    splice.on_reset(b, GONE)
    splice.on_reset(a, Reset(ResetCode.INTERNAL))
    assert a.calls == [GONE] and b.calls == [] and diary.overs == [GONE]


def test_abort_resets_both() -> None:
    a, b, splice, diary = pair()
    splice.abort(GONE)
    assert a.calls == b.calls == [GONE] and diary.overs == [GONE]


@pytest.mark.parametrize("code", ResetCode)
@pytest.mark.parametrize("kind", Kind)
def test_no_abort_goes_on_as_a_clean_end(kind: Kind, code: ResetCode) -> None:
    a, b, splice, _ = pair(kind)
    splice.on_reset(b, Reset(code, "why"))
    c, d, other, _ = pair(kind)
    other.abort(Reset(code, "why"))
    said = ResetCode.RESET_BY_APPLICATION if code is ResetCode.FINISHED else code
    assert a.calls == c.calls == d.calls == [Reset(said, "why")] and b.calls == []


def test_readiness_goes_to_the_partner() -> None:
    a, b, splice, _ = pair(b=1)
    a.source.append(b"xyz")
    splice.ready(a, READABLE)
    assert b.took == [b"x"]
    b.space = 10
    splice.ready(b, WRITABLE)
    assert b.took == [b"x", b"yz"]


def test_nothing_moves_into_a_flow_that_is_opening() -> None:
    a, b, splice, _ = pair()
    b.opening = True
    a.source += [b"early", b""]
    assert splice.pump(a) == Moved(0, Blocked.SINK_FULL)
    assert b.calls == [] and len(a.source) == 2
    b.opening = False
    splice.ready(b, WRITABLE)
    assert b.took == [b"early"] and b.calls == ["end"]


def test_a_flow_that_dies_of_a_write() -> None:
    """The sink finds out while it is written to, and says so from inside the pump."""
    a, b, splice, diary = pair()

    def dies() -> None:
        b.closed = True
        splice.on_reset(b, GONE)

    b.wrote = dies  # type: ignore[method-assign]
    a.source += [b"deadly", b"more", b""]
    assert splice.pump(a) == Moved(6, Blocked.ENDED)
    assert a.calls == [GONE] and diary.overs == [GONE] and len(b.took) == 1


def test_pump_inside_pump_repeats_the_outer_one() -> None:
    a, b, splice, _ = pair()
    inner: list[Moved] = []

    def refills() -> None:
        if len(b.took) < 5:
            a.source.append(b"more")
            inner.append(splice.pump(a))

    b.wrote = refills  # type: ignore[method-assign]
    a.source.append(b"first")
    assert splice.pump(a) == Moved(21, Blocked.SOURCE_DRY)
    assert inner == [Moved(0, Blocked.SOURCE_DRY)] * 4


def test_a_pair_that_never_stops_is_put_off() -> None:
    a, b, splice, diary = pair(b=1 << 40)

    def refills() -> None:
        a.source.append(b"again")

    b.wrote = refills  # type: ignore[method-assign]
    a.source.append(b"first")
    splice.run(a)
    assert diary.laters == [a] and len(b.took) < 1000


def test_packets_that_find_no_room_are_dropped_and_counted() -> None:
    a, b, splice, diary = pair(Kind.UDP, b=2)
    a.source += [b"1", b"", b"3", b"4"]
    assert splice.pump(a) == Moved(2, Blocked.SOURCE_DRY)
    assert b.took == [b"1", b""] and splice.moved == [2, 0] and splice.dropped == [2, 0]
    splice.drop(a)  # one that the source could not keep
    b.space = 1
    a.source.append(b"5")
    splice.pump(a)
    assert splice.moved == [3, 0] and splice.dropped == [3, 0] and diary.overs == []


def test_packets_wait_for_a_flow_that_is_opening() -> None:
    a, b, splice, _ = pair(Kind.UDP)
    b.opening = True
    a.source += [b"1", b"2"]
    splice.pump(a)
    assert splice.dropped == [0, 0]
    b.opening = False
    splice.ready(b, WRITABLE)
    assert b.took == [b"1", b"2"] and splice.dropped == [0, 0]


class FastFull(Scripted):
    """Moves packets by a way of its own, which stops when the sink is full."""

    def move_to(self, sink: Flow) -> Moved:
        return Moved(0, Blocked.SINK_FULL)


def test_a_full_sink_never_blocks_a_source_of_packets() -> None:
    a, b = FastFull(Kind.UDP), Scripted(Kind.UDP)
    splice = Splice(a, b, Open(Kind.UDP, None, "test"))
    a.source += [b"1", b"2"]
    assert splice.pump(a) == Moved(0, Blocked.SOURCE_DRY)
    assert splice.dropped == [2, 0]


def test_the_end_of_one_direction_is_the_end_of_a_packet_flow() -> None:
    a, b, splice, diary = pair(Kind.UDP)
    a.source.append(b"last")
    a.ended_by_peer = True
    assert splice.pump(a) == Moved(1, Blocked.ENDED)
    assert b.took == [b"last"] and diary.overs == [None]
    assert a.calls == b.calls == ["end", "release"]


@pytest.mark.parametrize("who", [0, 1])
def test_a_flow_that_is_finished_ends_the_other(who: int) -> None:
    a, b, splice, diary = pair(Kind.UDP)
    splice.finished((a, b)[who])
    assert a.calls == b.calls == ["end", "release"] and diary.overs == [None]


class Passing(Scripted):
    """Much of what it has goes another way than through the splice."""

    gone = 0

    def bypassed(self) -> int:
        return self.gone


def test_what_went_past_is_counted_while_the_flow_lives_and_afterwards() -> None:
    one, other = Passing(), Scripted()
    one.source.append(b"abc")
    splice = Splice(one, other, Open(Kind.TCP, None, ""))
    splice.pump(one)
    one.gone = 4
    assert splice.moved == [7, 0]
    one.gone = 10
    splice.abort(Reset(ResetCode.TIMEOUT))
    one.gone = 99
    assert splice.moved == [13, 0]


def test_texts_for_people() -> None:
    assert str(Reset(ResetCode.NO_ROUTE, "no such name")) == "no route: no such name"
    assert str(Reset(ResetCode.TIMEOUT)) == "timeout"
    assert str(Target("::1", 80)) == "[::1]:80" and str(Target("host", 80)) == "host:80"
