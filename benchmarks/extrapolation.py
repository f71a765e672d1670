"""Errors, coverage and width of `score --extrapolate` on simulated populations and on the published counts of Pythia.

    python -m benchmarks.extrapolation [--repeats 200] [--only simulated published]

Simulated: 200 problems, n = 128, k = 5,000, and the truth is the mean pass@k of the very problems drawn, or of the population.
Published: subsamples of n = 256 of the 10,000 rollouts of seven models on 128 problems of MATH (Schaeffer et al. 2025), and the
truth is the share of problems that the 10,000 solve. Refused ones have no number. Prints the tables of docs/statistics.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats import Interval, pass_beyond
from tests.stats.reference import PYTHIA_COUNTS

Rates = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Rates]
PROBLEMS, N, K = 200, 128, 5000
PUBLISHED_N, PUBLISHED_K = 256, 10_000


def beta(a: float, b: float, never: float = 0.0) -> Draw:
    return lambda rng, m: rng.beta(a, b, m) * (rng.random(m) >= never)


def halves(first: Draw, second: Draw) -> Draw:
    return lambda rng, m: np.where(rng.random(m) < 0.5, first(rng, m), second(rng, m))


POPULATIONS: dict[str, Draw] = {
    **{f"Beta({a}, {b})": beta(a, b) for a in (0.1, 0.2, 0.3, 0.5) for b in (1, 2, 5)},
    "Beta(0.4, 3), 10 % never": beta(0.4, 3, 0.1),
    "Beta(0.3, 2), 30 % never": beta(0.3, 2, 0.3),
    "Beta(1, 3), 50 % never": beta(1, 3, 0.5),
    "Beta(0.3, 20) and Beta(5, 2)": halves(beta(0.3, 20), beta(5, 2)),
    "Beta(0.2, 2) and Beta(2, 2)": halves(beta(0.2, 2), beta(2, 2)),
    "Beta(1, 500) and Beta(1, 3)": halves(beta(1, 500), beta(1, 3)),
}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=["simulated", "published"])
    given = parser.parse_args(argv)
    if "simulated" in given.only:
        _say(
            "| solve rates | refused | these problems | the population | mean width | mean error |\n|---|---|---|---|---|---|"
        )
        for name, draw in POPULATIONS.items():
            _say(f"| {name} | {simulated(draw, given.repeats)} |")
    if "published" in given.only:
        _say("\n| model | refused | coverage | mean width | mean error |\n|---|---|---|---|---|")
        for name, counts in PYTHIA_COUNTS.items():
            _say(f"| {name} | {published(np.asarray(counts), max(10, given.repeats // 5))} |")


def simulated(draw: Draw, repeats: int) -> str:
    rng = np.random.default_rng(1)
    population = pass_of(draw(rng, 1_000_000))
    rows = []
    for _ in range(repeats):
        rates = draw(rng, PROBLEMS)
        truth = pass_of(rates)
        interval = attempt(rng.binomial(N, rates), N, K, rng)
        if interval is not None:
            rows.append([*(holds(interval, mean) for mean in (truth, population)), *width_and_error(interval, truth)])
    return summary(rows, repeats, 2)


def published(counts: npt.NDArray[np.int64], repeats: int) -> str:
    rng = np.random.default_rng(2)
    truth = float(np.mean(counts > 0))
    rows = []
    for _ in range(repeats):
        interval = attempt(rng.hypergeometric(counts, PUBLISHED_K - counts, PUBLISHED_N), PUBLISHED_N, PUBLISHED_K, rng)
        if interval is not None:
            rows.append([holds(interval, truth), *width_and_error(interval, truth)])
    return summary(rows, repeats, 1)


def attempt(c: npt.NDArray[np.int64], n: int, k: int, rng: np.random.Generator) -> Interval | None:
    try:
        return pass_beyond(c, n, k, rng=rng)
    except BadArgument:
        return None


def holds(interval: Interval, truth: float) -> float:
    return float(interval.low[0] <= truth <= interval.high[0])


def width_and_error(interval: Interval, truth: float) -> tuple[float, float]:
    return float(interval.high[0] - interval.low[0]), float(abs(interval.value[0] - truth))


def pass_of(rates: Rates) -> float:
    return float(np.mean(-np.expm1(K * np.log1p(-np.minimum(rates, 1 - 1e-15)))))


def summary(rows: list[list[float]], repeats: int, shares: int) -> str:
    """Refused in percent, then shares in percent, then points."""
    refused = f"{1 - len(rows) / repeats:.0%}"
    if not rows:
        return " | ".join([refused, *["-"] * (shares + 2)])
    means = np.mean(rows, axis=0)
    return " | ".join([refused, *(f"{m:.0%}" for m in means[:shares]), *(f"{100 * m:.1f}" for m in means[shares:])])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
