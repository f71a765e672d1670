"""Alarms of ``follow`` by simulation: false ones over 100 looks, and the delay for a drop of pass@k, for docs/following.md.

    python benchmarks/alarms.py [--repeats 1000]

Per regime: problems with Beta-distributed solve rates, a base and checkpoints with rollouts at these rates; for a drop all
solve rates are lowered by one factor after 20 looks. Checkpoints are drawn from a pool. About two minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import sys

import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.checking.evidence import RateMean, mean_of
from rlvr_bench.stats.drift import drift

Rates = npt.NDArray[np.float64]
# problems, rollouts, k, and the Beta law of the solve rates
REGIMES = (
    (300, 64, 16, 0.5, 1.0),
    (300, 64, 64, 0.3, 1.0),
    (500, 16, 16, 0.5, 1.0),
    (30, 64, 64, 0.3, 1.0),
    (30, 16, 1, 0.5, 0.5),
)
DROPS = (0.03, 0.05, 0.10)
LEVEL, EFFECT, LOOKS, GOOD = 0.05, 0.05, 100, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(1)
    for problems, n, k, a, b in REGIMES:
        rates, size = rng.beta(a, b, problems), np.full(problems, n)
        same = pool(rng, rates, n, k, 500)
        lows = [float(stats.rollout_interval(rng.binomial(n, rates), size, [k], 1 - LEVEL).low[0]) for _ in range(200)]
        false = np.mean([first(rng, rng.choice(lows), [same], [LOOKS]) is not None for _ in range(repeats)])
        cells = []
        for points in DROPS:
            worse = pool(rng, lowered(rates, k, points), n, k, 150)
            at = [first(rng, rng.choice(lows), [same, worse], [GOOD, LOOKS]) for _ in range(repeats // 10)]
            delays = [math.inf if look is None else look - GOOD + 1 for look in at if look is None or look >= GOOD]
            cells.append(f"{np.median(delays):g}")
        sys.stdout.write(f"| {problems} | {n} | pass@{k} | {false:.1%} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


def pool(rng: np.random.Generator, rates: Rates, n: int, k: int, size: int) -> list[RateMean]:
    return [mean_of((rng.binomial(n, rates), np.full(len(rates), n)), k, 0.975) for _ in range(size)]


def first(rng: np.random.Generator, low: float, pools: list[list[RateMean]], counts: list[int]) -> int | None:
    """The look, from 0, at which the alarm sounds."""
    drawn = [means[i] for means, count in zip(pools, counts, strict=True) for i in rng.permutation(len(means))[:count]]
    excess = [low - mean.value for mean in drawn]
    evidence = drift(excess, [max(mean.shrinkage * low * (1 - low), 1e-12) for mean in drawn], EFFECT).log_evidence
    sounded = np.flatnonzero(evidence >= math.log(2 / LEVEL))
    return int(sounded[0]) if sounded.size else None


def lowered(rates: Rates, k: int, points: float) -> Rates:
    """The rates times the factor that lowers their mean pass@k by so much."""
    low, high = 0.0, 1.0
    goal = np.mean(1 - (1 - rates) ** k) - points
    for _ in range(50):
        factor = (low + high) / 2
        low, high = (low, factor) if np.mean(1 - (1 - factor * rates) ** k) > goal else (factor, high)
    return rates * low


if __name__ == "__main__":
    main()
