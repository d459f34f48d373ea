"""What holds for every input: codecs, the pacer, and that no peer or stranger can make us raise or answer."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.core.flow import Kind, Open, Target
from kcpg.core.native.link.open_message import Delivery, OpenMessage, read_open_message
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.events import STRANGER
from kcpg.core.pacer import BURST_DATAGRAMS, BURST_MS, Pacer
from tests.links import LinkRig, echo
from tests.wires import PATH_A, WirePair, make_wire

TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=60).filter(
    lambda text: len(text.encode()) <= 255 and text.isprintable() and "\ufffd" not in text
)
NAMES = TEXT.filter(bool)


@given(
    st.sampled_from(Kind),
    st.sampled_from(Delivery),
    st.none() | st.builds(Target, NAMES, st.integers(0, 65535)),
    TEXT,
)
def test_openings_come_back_as_they_went(kind, delivery, target, source):
    opening = OpenMessage(Open(kind, target, source), delivery)
    assert read_open_message(opening.encode()) == opening
    assert read_open_message(opening.encode() + b"of a later version") == opening


@given(st.binary(max_size=80))
def test_any_bytes_are_an_opening_or_none(message):
    opening = read_open_message(message)
    assert opening is None or read_open_message(opening.encode()) == opening


@given(st.binary(min_size=1, max_size=255), st.binary(max_size=255))
def test_the_texts_of_an_opening_are_printable_and_a_relay_can_pass_them_on(name, source):
    """A log line, a status or a terminal may show them; a byte that is no UTF-8 must not become three."""
    message = bytes((1, 0, 0, 80, len(name))) + name + bytes((len(source),)) + source
    opening = read_open_message(message)
    assert opening is not None
    request = opening.open
    assert request.target.host.isprintable() and request.source.isprintable()
    assert read_open_message(opening.encode()) == opening


@given(
    st.integers(1, 10**10),
    st.integers(500, 1500),
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 1500)), max_size=200),
)
def test_the_pacer_never_exceeds_its_rate(rate_bps, datagram_bytes, steps):
    """Who asks before each datagram stays within rate x time + burst + one datagram that overdraws."""
    pacer = Pacer(rate_bps, datagram_bytes)
    now_ms, sent = 7, 0
    for wait_ms, size in steps:
        now_ms += wait_ms
        tokens = pacer.tokens(now_ms)
        if tokens is not None and tokens >= size:
            pacer.spend(size)
            sent += size
        ready_ms = pacer.ready_at(size)
        assert ready_ms is not None and ready_ms >= now_ms
        burst = max(rate_bps * BURST_MS // 8000, BURST_DATAGRAMS * datagram_bytes)
        assert sent <= burst + rate_bps * (now_ms - 7) // 8000 + 1500


@given(st.integers(1, 10**9), st.integers(1, 1400))
def test_the_pacer_is_ready_when_it_says_so(rate_bps, need):
    pacer = Pacer(rate_bps, 1400)
    assert pacer.tokens(0) is not None
    pacer.spend(50_000)
    ready_ms = pacer.ready_at(need)
    assert ready_ms is not None
    tokens = pacer.tokens(ready_ms)
    assert tokens is not None and tokens >= need
    early = Pacer(rate_bps, 1400)
    early.tokens(0)
    early.spend(50_000)
    before = early.tokens(ready_ms - 1)
    assert ready_ms == 0 or (before is not None and before < need)


def test_a_pacer_without_a_rate_limits_nothing():
    pacer = Pacer(0, 1400)
    pacer.spend(10**9)
    assert pacer.tokens(5) is None and pacer.ready_at(1400) is None


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=600), max_size=30))
def test_strangers_get_nothing(engine, datagrams):
    wire = make_wire(engine, "b")
    wire.link_wire(None)
    for datagram in datagrams:
        wire.receive(*PATH_A, datagram, 10)
    events = wire.take_events()
    assert wire.transmit(10) == [] and {event[0] for event in events} <= {STRANGER}
    assert len(events) + sum(wire.drops.values()) == len(datagrams)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=200)), max_size=20))
def test_authentic_nonsense_raises_nothing(engine, contents):
    """A peer with the right key may still be of a later version, or broken."""
    ends = WirePair(engine)
    ends.b.open(1, ends.params)
    for kind, payload in contents:
        ends.a.send(kind, payload)
    while ends.step():
        pass
    assert ends.b.rx_datagrams == len(contents)
    assert len(ends.b.convs) <= 1 + len(contents) * 9


CONTROL = (
    frames.PING,
    frames.PONG,
    frames.PATH_CHALLENGE,
    frames.RESET,
    frames.RESET_ACK,
    frames.REKEY,
    frames.KCP,
    frames.DATAGRAM,
)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(CONTROL), st.binary(max_size=120)), max_size=20), st.booleans())
def test_a_link_survives_authentic_nonsense(engine, contents, from_dialer):
    rig = LinkRig(engine, delay_ms=1).up()
    link_wire = (rig.d.link if from_dialer else rig.l.links[0]).link_wire
    for kind, payload in contents:
        link_wire.send(kind, payload)
    rig.run(50)
    assert rig.d.link is not None and len(rig.l.links) == 1
    numbers = [link.link_wire.convs for link in (rig.d.link, rig.l.links[0])]
    assert all(len(convs) <= 200 for convs in numbers)
    if not any(kind in (frames.RESET, frames.KCP) for kind, _ in contents):
        echo(*rig.pair(), rig)


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.floats(0, 0.4))
def test_bytes_arrive_whatever_is_lost(engine, seed, rate):
    """Through a lossy network nothing is lost, doubled or changed, in either direction, ends included."""
    rig = LinkRig(engine, seed=seed)
    rig.lose = lambda sender, path, datagram: rig.rng.random() < rate
    rig.d.start(rig.now_ms)
    near = rig.dial()
    rig.until(lambda: not near.flow.opening)
    up, down = rig.rng.randbytes(20_000), rig.rng.randbytes(15_000)
    near.flow.write(up)
    near.flow.end()
    rig.until(lambda: rig.flows)
    far = rig.flows[0][0]
    far.write(down)
    far.end()
    got = {"up": b"", "down": b""}
    ended = {"up": False, "down": False}

    def drained():
        for name, flow in (("up", far), ("down", near.flow)):
            while not ended[name] and (chunk := flow.read(1 << 16)) is not None:
                got[name] += chunk
                ended[name] = not chunk
        return all(ended.values())

    rig.until(drained, 120_000)
    assert got == {"up": up, "down": down} and near.reason is None
