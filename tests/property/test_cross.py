"""The flows beside: CUBIC and BBR behave as their papers and kernels say, and only the seed decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netem import profile
from netem.cross import BBR_LEAST_PACKETS, CUBIC_BETA, FRAME_BYTES, PAYLOAD_BYTES, Cross, Flow
from netem.impair import Direction
from netem.profile import Impair, ProfileError
from netem.timeline import Step
from netem.trace import TraceFile

MS = 10**6
RATE_BPS, RTT_MS = 10_000_000, 50
BDP = RATE_BPS * RTT_MS // 8000
SECONDS = 60
LIMIT_BYTES = RATE_BPS // 8 * SECONDS * PAYLOAD_BYTES // FRAME_BYTES  # what the line can carry


def shared(queue_bytes: int, cubic: int, bbr: int, seed: str = "1") -> tuple[list[Flow], list[float]]:
    """Flows alone on a line; the queue's delay in milliseconds, sampled every 10 ms by small packets."""
    cross = Cross(cubic, bbr, RTT_MS * MS)
    direction = Direction(Impair(rate_bps=RATE_BPS, limit_bytes=queue_bytes, cross=cross), seed)
    delays = []
    for at_ms in range(0, SECONDS * 1000, 10):
        delays += [(each.due_ns - at_ms * MS) / MS for each in direction.offer(at_ms * MS, 60)]
    return direction.cross, sorted(delays)


@pytest.mark.parametrize(("queue", "least"), [(10 * FRAME_BYTES, 0.92), (BDP, 0.97), (8 * BDP, 0.97)])
def test_cubic_fills_the_line_and_its_queue(queue: int, least: float) -> None:
    """With less queue than (1 - beta) / beta of what is under way, it idles for a part of its cycle."""
    (flow,), delays = shared(queue, 1, 0)
    assert least * LIMIT_BYTES < flow.goodput_bytes <= LIMIT_BYTES
    full_ms = queue * 8000 / RATE_BPS
    assert delays[int(0.99 * len(delays))] > full_ms - 4
    assert 0 < flow.lost / flow.sent < 0.01


def test_cubic_falls_to_seven_tenths_and_comes_back() -> None:
    """A queue of a BDP: the delay after a loss is that of 0.7 of what was under way, less what drained."""
    _, delays = shared(8 * BDP, 1, 0)
    steady = delays[len(delays) // 10 : -1]
    assert steady[0] == pytest.approx(RTT_MS * (9 * CUBIC_BETA - 1), rel=0.2)


@pytest.mark.parametrize("queue", [BDP, 2 * BDP, 8 * BDP])
def test_bbr_fills_the_line_and_keeps_no_queue(queue: int) -> None:
    (flow,), delays = shared(queue, 0, 1)
    assert 0.95 * LIMIT_BYTES < flow.goodput_bytes <= LIMIT_BYTES
    assert delays[len(delays) // 2] < 5 and delays[int(0.95 * len(delays))] < 0.25 * RTT_MS + 3


def test_bbr_fills_a_line_that_carries_in_bursts(tmp_path: Path) -> None:
    """Forty packets every 60 ms, over a round trip of 40 ms: with two BDPs alone half of it would be idle."""
    file = tmp_path / "bursts"
    file.write_text("".join(f"{60 * burst}\n" * 40 for burst in range(1, 50)))
    line = Impair(trace=TraceFile(str(file)), limit_bytes=10**6, cross=Cross(0, 1, 40 * MS))
    direction = Direction(line, "bursts")
    direction.idle(20 * 10**9)
    carried = 40 * PAYLOAD_BYTES * 20_000 // 60
    assert 0.93 * carried < direction.cross[0].goodput_bytes <= carried


def test_two_of_a_kind_share() -> None:
    for cubic, bbr in ((2, 0), (0, 2)):
        first, second = shared(2 * BDP, cubic, bbr)[0]
        assert first.goodput_bytes + second.goodput_bytes > 0.95 * LIMIT_BYTES
        assert 0.6 < first.goodput_bytes / second.goodput_bytes < 1.6


def test_cubic_and_bbr_share_as_is_known() -> None:
    """BBR takes nearly all of a shallow queue, CUBIC of a deep one (Hock et al., ICNP 2017)."""
    for queue, cubic_share in ((BDP // 4, (0.0, 0.15)), (2 * BDP, (0.3, 0.7)), (8 * BDP, (0.8, 1.0))):
        cubic, bbr = shared(queue, 1, 1)[0]
        share = cubic.goodput_bytes / (cubic.goodput_bytes + bbr.goodput_bytes)
        assert cubic_share[0] <= share <= cubic_share[1], f"{queue} bytes of queue: {share:.2f}"


@pytest.mark.parametrize("kind", [Cross(1, 0, RTT_MS * MS), Cross(0, 1, RTT_MS * MS)])
def test_what_an_outage_only_delays_is_taken_back(kind: Cross) -> None:
    """The timer gives up what waits for 1.5 s; when it comes, nothing was lost, and the window is back."""
    steps = (Step(3 * 10**9, 1000), Step(4500 * MS, RATE_BPS))
    line = Impair(rate_bps=RATE_BPS, steps=steps, limit_bytes=8 * BDP, cross=kind)
    direction = Direction(line, "outage")
    (flow,) = direction.cross
    direction.idle(3 * 10**9 - MS)
    before = flow.controller.window
    direction.idle(4500 * MS)
    assert flow.lost > 30 and flow.controller.window <= BBR_LEAST_PACKETS  # the timer expired
    direction.idle(5 * 10**9)
    assert flow.lost == 0 and flow.controller.window >= 0.95 * before


def test_a_change_restarts_them_and_a_reader_sees_the_counts() -> None:
    line = Impair(rate_bps=RATE_BPS, limit_bytes=BDP, cross=Cross(1, 0, RTT_MS * MS))
    direction = Direction(line, "change")
    direction.idle(2 * 10**9)
    before = direction.cross[0].goodput_bytes
    assert before > 10**6
    direction.change(line, 2 * 10**9)
    direction.idle(2 * 10**9 + 100 * MS)
    assert direction.cross[0].goodput_bytes < 10**5


@given(st.integers(0, 2), st.integers(0, 2), st.integers(2, 40), st.lists(st.integers(1, 300), max_size=40))
@settings(max_examples=30)
def test_only_the_seed_decides_however_often_one_looks(
    cubic: int, bbr: int, packets: int, looks_ms: list[int]
) -> None:
    line = Impair(
        rate_bps=RATE_BPS,
        limit_bytes=packets * FRAME_BYTES,
        cross=Cross(cubic + (not bbr), bbr, RTT_MS * MS),
    )
    one, other, now_ns = Direction(line, "looks"), Direction(line, "looks"), 0
    for gap_ms in looks_ms:
        now_ns += gap_ms * MS
        one.idle(now_ns)
    other.idle(now_ns)
    for left, right in zip(one.cross, other.cross, strict=True):
        assert (left.sent, left.delivered, left.lost) == (right.sent, right.delivered, right.lost)
        assert left.sent == left.delivered + left.lost + len(left.under_way)


def test_they_need_a_queue_in_bytes_and_a_kind() -> None:
    text = 'name = "t"\nsummary = "t"\nsources = ["t"]\n[netem]\nrate = "1mbit"\n'
    with pytest.raises(ProfileError, match="requires a limit in bytes"):
        profile.parse(text + 'cross = { cubic = 1, rtt = "50ms" }')
    with pytest.raises(ProfileError, match=r"names no flow"):
        profile.parse(text + 'limit = "1mb"\ncross = { rtt = "50ms" }')
