"""False alarms of the second stage: how often a straight training series has one, as a Markdown table.

    python -m benchmarks.stages [--repeats 500] [--points 10 20 40]

Each series is a line with deviations of first-order autocorrelation, and errors that are equal or grow fourfold from the
first checkpoint to the last. The level is 5 %; a share of 5 % has a standard error of 1 point at 500 repetitions. About
ten minutes on one core.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import numpy.typing as npt

from rlvr_bench.analysis.stages import fit_stages

CORRELATIONS = (0.0, 0.3, 0.6, 0.8)
GROWTH = 4.0


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--points", type=int, nargs="*", default=[10, 20, 40])
    given = parser.parse_args(argv)
    _say("| points | errors | " + " | ".join(f"correlation {value}" for value in CORRELATIONS) + " |")
    _say("|---|---|" + "---|" * len(CORRELATIONS))
    for points in given.points:
        for growth in (1.0, GROWTH):
            shares = [false_alarms(points, value, growth, given.repeats) for value in CORRELATIONS]
            name = "equal" if growth == 1 else "growing"
            _say(f"| {points} | {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")


def false_alarms(points: int, correlation: float, growth: float, repeats: int) -> float:
    """Share of straight series that ``fit_stages`` gives a second stage."""
    rng = np.random.default_rng([points, int(100 * correlation), int(growth)])
    steps, errors = 10.0 * np.arange(points), np.linspace(1, growth, points)
    fits = [
        fit_stages("m", steps, 0.1 * steps + errors * autoregression(rng, points, correlation), rng=rng, errors=errors)
        for _ in range(repeats)
    ]
    return float(np.mean([bool(fit.second_stage) for fit in fits]))


def autoregression(rng: np.random.Generator, points: int, correlation: float) -> npt.NDArray[np.float64]:
    """Deviations of variance 1 whose neighbours have this correlation, (S,)."""
    values = rng.standard_normal(points)
    for i in range(1, points):
        values[i] = correlation * values[i - 1] + np.sqrt(1 - correlation**2) * values[i]
    return values


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
