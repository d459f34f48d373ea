"""What FEC achieves on described networks, in virtual time and before any retransmission."""

from __future__ import annotations

import pytest

from kcpg.core.fec.plan import OFF, TARGET_LOSS, plan_fixed
from netem.profile import Impair
from tests.fecline import BULK, FAST, SPARSE, FecLine, Traffic, impair_of

# The arithmetic of the plans is tested elsewhere; here some thousand payloads have to come near it.
PROFILES = ("lossy1", "lossy5", "lossy10", "bursty")


def line(engine: str, profile: str, traffic: Traffic, **options: object) -> FecLine:
    seed = f"{profile}, {traffic.name}"
    print(f"seed {seed!r}")
    return FecLine(engine, impair_of(profile), seed, traffic, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", PROFILES)
def test_auto_reaches_its_target_at_speed(profile: str) -> None:
    result = line("compiled", profile, FAST, plan=None).run(12_000, warm_up=8_000)
    assert result.lost_on_the_way > 0.005 * result.sent
    assert result.residual < 2 * TARGET_LOSS
    assert result.wire_ratio < {"lossy1": 1.12, "lossy5": 1.25, "lossy10": 1.4, "bursty": 1.55}[profile]


@pytest.mark.parametrize("profile", ["lossy1", "lossy5", "lossy10"])
def test_auto_protects_sparse_traffic(profile: str) -> None:
    """Each payload is a group of its own; what is lost arrives one wait later than it would have."""
    result = line("compiled", profile, SPARSE, plan=None).run(4_000, warm_up=2_000)
    assert result.residual < 2 * TARGET_LOSS
    assert result.rebuilt_ms and max(result.rebuilt_ms) <= 25, "a quarter of the round trip; the gap is 20 ms"


def test_auto_sends_nothing_where_nothing_is_lost() -> None:
    running = FecLine("compiled", Impair(delay_ns=25 * 10**6, limit=1000), "clean", BULK, None)
    result = running.run(3_000)
    assert result.missing == 0 and result.plan == OFF
    assert result.wire_bytes == result.payload_bytes + 25 * 3_000


def test_a_configured_code(engine: str) -> None:
    """20:4 at 5 %, full groups: 0.13 % stays lost by the formula."""
    result = line(engine, "lossy5", FAST, plan=plan_fixed(20, 4)).run(6_000)
    assert result.residual < 0.004 < 0.03 < result.lost_on_the_way / result.sent
    assert 1.2 < result.wire_ratio < 1.26
    assert result.rebuilt_ms and max(result.rebuilt_ms) <= 8


def test_a_group_waits_no_longer_than_it_was_told() -> None:
    """At a payload a millisecond, groups of 20 close by age after 8 ms."""
    running = line("compiled", "lossy5", BULK, plan=plan_fixed(20, 4))
    result = running.run(4_000)
    assert result.rebuilt_ms and max(result.rebuilt_ms) <= 8
    assert running.receiver.malformed == running.receiver.duplicates == running.receiver.late == 0
