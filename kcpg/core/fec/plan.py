"""How many parity shards for how many data shards, so that few enough stay lost.

A group may close before it is full (sparse traffic does not wait), so a plan says for each number of data
shards how many parity shards follow. Small groups need more: one shard that must survive 10 % of loss needs
three companions, twenty need seven.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import comb

from kcpg.core.fec.code import MAX_SHARDS

# Share of the data shards that may stay lost before retransmission: one in a thousand costs a stream a round
# trip about once a second at 10 Mbit/s, which is what a good line does by itself.
TARGET_LOSS = 1e-3

# `plan_for` gives k data shards at most k parity shards, small groups k + 2 up to 4 (UDPspeeder's 1:3,2:4).
# One shard then travels four times, enough for 17 % of independent loss; a run of losses that takes all four
# would take more copies as well.
SMALL_EXTRA, SMALL_MOST = 2, 4

MAX_PARITY = 64  # most parity shards of a group by `plan_for`: they are the encoder's memory


@dataclass(frozen=True)
class Plan:
    """`data`: most data shards of a group, 0: no FEC. `parity[k]`: parity shards behind k data shards."""

    data: int
    parity: tuple[int, ...]

    def __post_init__(self) -> None:
        if (
            len(self.parity) != self.data + 1
            or self.parity[0]
            or any(a > b for a, b in pairwise(self.parity))
        ):
            raise ValueError("a plan has parity for each size of group, and never less for a larger one")
        if self.data + self.parity[-1] > MAX_SHARDS:
            raise ValueError(f"a group has at most {MAX_SHARDS} shards")

    def __str__(self) -> str:
        """As the configuration has it, with the small groups that differ from the larger ones."""
        steps = [k for k in range(1, self.data + 1) if k == self.data or self.parity[k] != self.parity[k + 1]]
        return ",".join(f"{k}:{self.parity[k]}" for k in steps) if self.data and self.parity[-1] else "off"


OFF = Plan(0, (0,))


def independent_loss(data: int, parity: int, loss: float) -> float:
    """Share of data shards that stay lost, when each shard is lost by itself with probability `loss`.

    A shard stays lost if it is lost and so are at least `parity` of the others.
    """
    others = data + parity - 1
    few = sum(comb(others, n) * loss**n * (1 - loss) ** (others - n) for n in range(min(parity, others + 1)))
    return loss * max(0.0, 1 - few)


@lru_cache(maxsize=64)
def plan_fixed(data: int, parity: int) -> Plan:
    """The plan of a configured D:R: R parity shards for a full group; smaller groups are protected as well.

    "As well" means: they meet TARGET_LOSS at the loss rate at which full groups just do.
    """
    if data == 0 or parity == 0:
        return OFF
    low, high = 0.0, 1.0
    for _ in range(30):  # bisection to 2^-30
        middle = (low + high) / 2
        low, high = (middle, high) if independent_loss(data, parity, middle) <= TARGET_LOSS else (low, middle)
    counts = [0]
    for k in range(1, data):
        counts.append(
            next(
                (r for r in range(max(1, counts[-1]), parity) if independent_loss(k, r, low) <= TARGET_LOSS),
                parity,
            )
        )
    return Plan(data, (*counts, parity))


class _Bursts:
    """Gilbert's model of a path: it loses everything in one state and nothing in the other.

    Two numbers describe it, both measured: the loss rate, and the mean length of a run of losses.
    """

    def __init__(self, loss: float, burst: float) -> None:
        self.loss = loss
        self.recover = 1 / max(burst, 1 / (1 - loss))  # a run is not shorter than chance would make it
        self.fail = min(1.0, self.recover * loss / (1 - loss))

    def step(self, good: list[float], bad: list[float]) -> tuple[list[float], list[float]]:
        """One shard further. good[n], bad[n]: chance of n lost so far, the last one having passed or not."""
        stay, fail, recover = 1 - self.fail, self.fail, self.recover
        new_good = [g * stay + b * recover for g, b in zip(good, bad, strict=True)]
        new_bad = [0.0, *(g * fail + b * (1 - recover) for g, b in zip(good, bad, strict=True))]
        return [*new_good, 0.0], new_bad


@lru_cache(maxsize=256)
def plan_for(loss: float, burst: float, data: int) -> Plan:
    """The smallest plan of `data` shards a group that leaves at most TARGET_LOSS, as far as the limits go.

    `loss`: share of datagrams lost, 0 to 0.5. `burst`: mean length of a run of losses, in datagrams. Takes
    about a millisecond, so callers round what they measured and the answers are kept.
    """
    assert 0 <= loss <= 0.5 and data >= 1
    if loss <= TARGET_LOSS:
        return OFF
    losses = _Bursts(loss, burst)
    tails = _Tails(losses)
    counts = [0]
    good, bad = [1 - loss, 0.0], [0.0, loss]  # behind the first shard
    for k in range(1, data + 1):
        if k > 1:
            good, bad = losses.step(good, bad)
        limit = min(max(k, min(k + SMALL_EXTRA, SMALL_MOST)), MAX_PARITY, MAX_SHARDS - data)
        parity = counts[-1]
        while parity < limit and _stays_lost(good, bad, tails, parity) / k > TARGET_LOSS:
            parity += 1
        counts.append(parity)
    return Plan(data, tuple(counts))


class _Tails:
    """For R shards behind a state: the probability that more than n of them are lost."""

    def __init__(self, losses: _Bursts) -> None:
        self._losses = losses
        self._after_good = [([1.0], [0.0])]
        self._after_bad = [([0.0], [1.0])]
        self._more: list[tuple[list[float], list[float]]] = []

    def more(self, parity: int) -> tuple[list[float], list[float]]:
        """[n]: more than n of `parity` shards are lost behind a shard that passed, and behind a lost one."""
        while len(self._more) <= parity:
            self._more.append((_upper(*self._after_good[-1]), _upper(*self._after_bad[-1])))
            self._after_good.append(self._losses.step(*self._after_good[-1]))
            self._after_bad.append(self._losses.step(*self._after_bad[-1]))
        return self._more[parity]


def _upper(good: list[float], bad: list[float]) -> list[float]:
    """more[n] = probability of more than n."""
    more, total = [], 0.0
    for g, b in zip(reversed(good), reversed(bad), strict=True):
        more.append(total)
        total += g + b
    return more[::-1]


def _stays_lost(good: list[float], bad: list[float], tails: _Tails, parity: int) -> float:
    """Expected data shards that stay lost: n of them are, if n and the lost parity shards exceed `parity`."""
    after_good, after_bad = tails.more(parity)
    lost = 0.0
    for n in range(1, len(good)):
        if n > parity:
            lost += n * (good[n] + bad[n])
        else:
            lost += n * (good[n] * after_good[parity - n] + bad[n] * after_bad[parity - n])
    return lost
