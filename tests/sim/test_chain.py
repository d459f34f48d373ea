"""Whole chains: client, 0 to 3 relays, server, over networks of every kind, on both engines."""

from __future__ import annotations

import pytest

from netem.profile import Chance, Impair, Reorder
from tests.sim.chain import SimChain

MS = 10**6
RELAYS = (0, 1, 2, 3)
# Everything a network does to datagrams at once, each at a rate that every few dozen datagrams meet.
ROUGH = Impair(
    delay_ns=10 * MS,
    jitter_ns=3 * MS,
    loss=Chance(0.03),
    duplicate=Chance(0.02),
    corrupt=Chance(0.01),
    reorder=Reorder(0.03),
)


@pytest.mark.parametrize("relays", RELAYS)
def test_carries_both_directions(engine: str, relays: int) -> None:
    chain = SimChain(engine, f"both {relays}", relays)
    chain.bounded()
    chain.talk(300_000, 200_000)
    chain.finish(5_000)
    chain.settle()
    assert chain.reasons("client") == chain.reasons("server") == [None]


@pytest.mark.parametrize("relays", RELAYS)
def test_a_rough_network(engine: str, relays: int) -> None:
    chain = SimChain(engine, f"rough {relays}", relays, ROUGH)
    chain.bounded()
    chain.talk(120_000, 80_000)
    chain.finish(20_000)
    chain.settle()


@pytest.mark.parametrize(
    "profile", ["wifi", "mobile", "satellite", "lossy10", "bursty", "reorder", "duplicate", "throttled"]
)
def test_every_kind_of_network(engine: str, profile: str) -> None:
    chain = SimChain(engine, profile, 1, profile)
    chain.talk(60_000, 60_000)
    chain.finish(30_000)
    chain.settle()
