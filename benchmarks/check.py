"""How often `rlvr-bench check` is right: simulated runs of known solve rates against a baseline.

    python benchmarks/check.py [--replicates 1000] [--problems 30 200 500]

Each replicate draws a set of problems with their solve rates, a baseline and a run of n rollouts each, and checks one
rule. The run's true mean pass@k is the baseline's, or lower by exactly the tolerance (the hardest case that is no
regression), or by twice the tolerance. The drop is spread over all problems (every solve rate is cut by one factor), or
put on as few problems as it takes (their solve rates fall to 0). Prints the tables of docs/check.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlvr_bench.checking import CheckOptions, check_cards
from rlvr_bench.checking.rules import make_rules
from rlvr_bench.scorecard import Scorecard, scorecard_from

Rates = npt.NDArray[np.float64]
TOLERANCES = {1: 0.02, 16: 0.03, 64: 0.03}
SIZES = (16, 64, 256)


def mixed(rng: np.random.Generator, problems: int, n: int) -> Rates:
    """Beta(0.3, 0.7), and 15 % of the problems beyond reach."""
    rates = rng.beta(0.3, 0.7, problems)
    rates[rng.random(problems) < 0.15] = 0.0
    return rates


def two_groups(rng: np.random.Generator, problems: int, n: int) -> Rates:
    """Half of the problems at 0.5, half at 1/n: the hardest case of `stats.rollout_interval`."""
    return np.where(np.arange(problems) < problems // 2, 0.5, 1 / n)


def spread(rates: Rates, k: int, drop: float, rng: np.random.Generator) -> Rates:
    return _cut(rates, np.ones(rates.size, dtype=bool), k, drop)


def few(rates: Rates, k: int, drop: float, rng: np.random.Generator) -> Rates:
    """Problems fall to 0 in random order; the last one as far as it takes."""
    lower = rates.copy()
    for i in rng.permutation(rates.size):
        without = lower.copy()
        without[i] = 0.0
        if _mean(rates, k) - _mean(without, k) >= drop:
            return _cut(lower, np.arange(rates.size) == i, k, drop - _mean(rates, k) + _mean(lower, k))
        lower = without
    return lower


def _cut(rates: Rates, chosen: npt.NDArray[np.bool_], k: int, drop: float) -> Rates:
    """The chosen solve rates times the factor that lowers the mean by ``drop``."""
    low, high = 0.0, 1.0
    for _ in range(50):
        factor = (low + high) / 2
        if _mean(rates, k) - _mean(np.where(chosen, rates * factor, rates), k) > drop:
            low = factor
        else:
            high = factor
    return np.where(chosen, rates * high, rates)


def _mean(rates: Rates, k: int) -> float:
    return float(np.mean(1 - (1 - rates) ** k))


def card(name: str, rates: Rates, n: int, rng: np.random.Generator) -> tuple[Path, Scorecard]:
    correct = rng.binomial(n, rates).tolist()
    problems = [{"id": str(i), "n": n, "c": c} for i, c in enumerate(correct)]
    run = {"model": name, "task": "t", "n": n}
    return Path(name), scorecard_from({"schema": 1, "run": run, "problems": problems, "estimates": [], "quality": {}})


Population = Callable[[np.random.Generator, int, int], Rates]
Shape = Callable[[Rates, int, float, np.random.Generator], Rates]


def rates_of_outcomes(
    population: Population, shape: Shape, drop: float, problems: int, n: int, k: int, replicates: int
) -> dict[str, float]:
    """Share of replicates by outcome."""
    rng = np.random.default_rng([problems, n, k, round(1000 * drop), shape is few])
    rules = make_rules({f"pass@{k}": TOLERANCES[k]}, {})
    outcomes = {"ok": 0, "regression": 0, "cannot_tell": 0}
    for _ in range(replicates):
        rates = population(rng, problems, n)
        lower = shape(rates, k, drop, rng) if drop else rates
        pair = card("run", lower, n, rng), card("baseline", rates, n, rng)
        result = check_cards([pair[0]], [pair[1]], rules, CheckOptions(looks="one"))
        outcomes[result.outcome] += 1
    return {name: count / replicates for name, count in outcomes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--problems", type=int, nargs="+", default=[30, 200, 500])
    given = parser.parse_args()
    print(
        "| problems | n | rule | no change: alarm | passes | drop of 1x: alarm | on few | passes | 2x: found | on few |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for problems in given.problems:
        for n in SIZES:
            for k in (k for k in TOLERANCES if k <= n):
                print(_line(mixed, problems, n, k, given.replicates), flush=True)
    print("\nTwo groups of problems:\n")
    for n in SIZES:
        print(_line(two_groups, 200, n, 16 if n == 16 else 64, given.replicates), flush=True)


def _line(population: Population, problems: int, n: int, k: int, replicates: int) -> str:
    drop = TOLERANCES[k]
    cases = [(spread, 0.0), (spread, drop), (few, drop), (spread, 2 * drop), (few, 2 * drop)]
    none, same, on_few, twice, twice_few = (
        rates_of_outcomes(population, shape, size, problems, n, k, replicates) for shape, size in cases
    )
    shares = (none["regression"], none["ok"], same["regression"], on_few["regression"], same["ok"])
    shares = (*shares, twice["regression"], twice_few["regression"])
    return f"| {problems} | {n} | pass@{k}={drop:g} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |"


if __name__ == "__main__":
    main()
