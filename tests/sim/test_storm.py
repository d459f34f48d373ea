"""Many clients that call at once, in virtual time, at a listener whose handshakes take time.

More clients: `python -m harness load --virtual`.
"""

from __future__ import annotations

import pytest

from harness.load.storm import FAULTS, Storm, run

MOST = 1.5  # of the time that the handshakes of all clients take


def judged(storm: Storm) -> None:
    found = run(storm)
    print(f"seed {storm.seed!r}: {found.back_ms[-1:]} of {storm.ideal_ms} ms, {found.median_inits} INITs")
    assert found.all_back_ms is not None and found.all_back_ms <= MOST * storm.ideal_ms
    assert found.median_inits <= 2
    assert found.refused_flows == 0
    assert found.handshakes <= storm.clients * 1.02, "work was thrown away"


@pytest.mark.parametrize("fault", FAULTS)
def test_all_clients_come_back_in_the_time_of_their_handshakes(fault: str) -> None:
    judged(Storm(200, fault, cost_ms=8.0, seed=f"back {fault}"))


def test_clients_behind_one_address_come_back_as_quickly() -> None:
    judged(Storm(300, "kill", cost_ms=5.0, one_address=True, seed="one address"))


def test_clients_without_flows_heed_the_farewell() -> None:
    judged(Storm(300, "restart", cost_ms=5.0, away_ms=500, idle=True, seed="idle"))
