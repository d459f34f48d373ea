"""The compiled engine and the plain one, told the same, do the same: datagrams, deliveries, facts."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from kcpg.core.kcp.kcp import Kcp, KcpParams
from tests.engines import twin
from tests.lockstep import KCP_FACTS
from tests.unit.kcp_pair import CONV, KcpLine, impaired, segment


class Twins:
    """Both engines behind one face; every answer and every fact must be equal."""

    def __init__(self, params: KcpParams, mtu: int, sn: int) -> None:
        self.both = [
            Kcp(CONV, mtu, params, initial_sn=sn),
            twin("compiled", "Kcp")(CONV, mtu, params, initial_sn=sn),
        ]

    def do(self, name: str, *args: Any) -> Any:
        answers = []
        for kcp in self.both:
            try:
                answers.append(getattr(kcp, name)(*args))
            except ValueError as error:
                answers.append(str(error))
        assert answers[0] == answers[1], (name, args)
        self.check()
        return answers[0]

    def put(self, name: str, value: Any) -> None:
        for kcp in self.both:
            setattr(kcp, name, value)
        self.check()

    def check(self) -> None:
        plain, compiled = ({name: getattr(kcp, name) for name in KCP_FACTS} for kcp in self.both)
        assert plain == compiled

    def move_to(self, other: Twins, packets: bool) -> None:
        moved = {kcp.move_to(onward, packets) for kcp, onward in zip(self.both, other.both, strict=True)}
        assert len(moved) == 1
        self.check()
        other.check()


params_of = st.builds(
    KcpParams,
    nodelay=st.integers(0, 2),
    interval_ms=st.sampled_from([0, 1, 10, 30]),
    resend=st.integers(0, 3),
    nc=st.booleans(),
    snd_wnd=st.sampled_from([1, 4, 32, 300]),
    rcv_wnd=st.sampled_from([1, 4, 32, 300]),
    min_rto_ms=st.sampled_from([0, 10, 100]),
)


@settings(max_examples=40, deadline=None)
@given(
    params=params_of,
    mtu=st.sampled_from([25, 48, 124, 1400]),
    sn=st.sampled_from([0, 2**31 - 20, 2**32 - 20]),
    start=st.sampled_from([0, 2**31 - 500, 2**32 - 500]),
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.1, 0.4]),
    unordered=st.booleans(),
    maps=st.booleans(),
)
@example(  # what may be told again is forgotten with the gap, also by a flush that tells nothing
    params=KcpParams(resend=1, nc=True, snd_wnd=32, rcv_wnd=32),
    mtu=1400,
    sn=0,
    start=0,
    seed=64,
    loss=0.4,
    unordered=True,
    maps=False,
)
def test_random_schedules(
    params: KcpParams, mtu: int, sn: int, start: int, seed: int, loss: float, unordered: bool, maps: bool
) -> None:
    rng = random.Random(seed)
    ends = [Twins(params, mtu, sn), Twins(params, mtu, sn)]
    onward = Twins(params, 200, sn)
    impair = impaired(delay_ms=15, jitter_ms=rng.choice([0, 5, 40]), loss=loss, duplicate=0.1)
    lines = [KcpLine(impair, f"{seed}:{side}") for side in "ab"]
    if unordered:
        ends[0].put("mark_first", True)
    for end in ends:
        end.put("ack_maps", maps)
    now = start
    for _ in range(250):
        which = rng.randrange(2)
        end, out, back = ends[which], lines[which], lines[1 - which]
        match rng.randrange(12):
            case 0 | 1 if end.both[0].room:
                end.do("write", rng.randbytes(rng.choice([0, 1, 30, 150, 3000])))
            case 2 | 3:
                end.do("send", rng.randbytes(min(rng.choice([0, 1, 30, 150, 700]), 130 * (mtu - 24))))
            case 4:
                end.do("recv")
            case 5:
                end.do("read", rng.choice([0, 1, 50, 100_000]))
            case 6:
                end.move_to(onward, rng.random() < 0.5)
                if rng.random() < 0.2:
                    onward.do("flush", now)
            case 7 if rng.random() < 0.05:
                end.do("set_windows", rng.choice([1, 50]), rng.choice([1, 50]))
            case 7 if unordered and which == 1 and rng.random() < 0.1:
                end.put("unordered", True)
            case 7 if rng.random() < 0.05:
                end.put("kcp_mtu", rng.randint(25, mtu))
            case 7 if rng.random() < 0.2:
                end.do("hurry", now)
            case 8:
                tokens = rng.choice([None, 0, 30, 500, 100_000])
                for datagram in end.do("flush", now, tokens):
                    out.put(datagram, now)
            case _:
                now += rng.choice([0, 1, 5, 20, 20, 300])
                for datagram in back.take(now):
                    assert end.do("input", datagram, now) == 0
                for datagram in end.do("flush", now):
                    out.put(datagram, now)
    for end in ends:
        end.do("clear")
        assert end.both[1].payloads_held == 0


def near(base: int) -> st.SearchStrategy[int]:
    """Numbers around `base`, and some from anywhere."""
    return st.integers(-3, 12).map(lambda d: (base + d) & 0xFFFFFFFF) | st.integers(0, 2**32 - 1)


SN = 2**32 - 4
hostile_segments = st.builds(
    segment,
    st.sampled_from([81, 81, 82, 82, 83, 84, 80]),
    sn=near(SN),
    ts=near(1000),
    una=near(SN),
    wnd=st.sampled_from([0, 1, 8, 65535]),
    frg=st.sampled_from([0, 1, 2, 0x80, 0x81, 0xFF]),
    payload=st.binary(max_size=40),
)
hostile_datagrams = st.one_of(
    st.binary(max_size=100),
    st.lists(hostile_segments, min_size=1, max_size=5).map(b"".join),
    st.tuples(hostile_segments, st.integers(0, 63)).map(lambda cut: cut[0][: cut[1]]),
)


@settings(max_examples=150, deadline=None)
@given(
    datagrams=st.lists(hostile_datagrams, max_size=25),
    unordered_from=st.integers(0, 30),
    reads=st.integers(0, 2**30),
    rcv_wnd=st.sampled_from([1, 8, 100]),
)
def test_hostile_datagrams(datagrams: list[bytes], unordered_from: int, reads: int, rcv_wnd: int) -> None:
    """Whatever arrives, nothing raises, both engines agree, and memory stays within the windows."""
    kcp = Twins(KcpParams(rcv_wnd=rcv_wnd, snd_wnd=8, nc=False), 57, SN)
    now = 1000
    for step, datagram in enumerate(datagrams):
        if step == unordered_from:
            kcp.put("unordered", True)
        kcp.do("send", b"x" * (step * 7 % 60))
        kcp.do("input", datagram, now)
        if reads >> step & 1:
            kcp.do("recv")
        kcp.do("flush", now)
        assert kcp.both[1].payloads_held <= rcv_wnd + 2 * (step + 1)
        assert kcp.both[1].in_flight <= 8
        now += 3
    kcp.do("clear")
    assert kcp.both[1].payloads_held == 0
