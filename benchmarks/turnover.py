"""Turnover of training series whose solve rates are known, as Markdown tables.

    python -m benchmarks.turnover [--repeats 200]

First table: series whose checkpoints all have one solve rate per problem. A false alarm is any "first solved" or
"forgotten" problems shown to differ from chance (Holm, 5 %) in a series. Second table: series that forget a tenth of the
problems for good half-way; coverage of the 95 % interval of forgotten problems beyond chance at the last checkpoint (for
new problems of the kind), and the share of series in which they are shown. Third table: the best of checkpoints of one
solve rate. A share of 5 % has a standard error of 1.5 points at 200 repetitions. About ten minutes on one core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlvr_bench.analysis.turnover import Turnover, best_checkpoints, turnovers
from rlvr_bench.comparison.cards import RunCounts
from rlvr_bench.scorecard import ProblemScore
from rlvr_bench.scorers.counts import Counts

RATES: dict[str, Callable[[np.random.Generator, int], npt.NDArray[np.float64]]] = {
    "spread: Beta(0.3, 1)": lambda rng, size: rng.beta(0.3, 1, size),
    "hard: Beta(0.3, 20)": lambda rng, size: rng.beta(0.3, 20, size),
    "half unsolvable, others Beta(1, 3)": lambda rng, size: rng.beta(1, 3, size) * (rng.random(size) < 0.5),
}
N, K, FORGOTTEN = 160, 16, 0.1


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args(argv).repeats
    shapes = [(points, problems) for points in (3, 10) for problems in (30, 300)]
    heads = " | ".join(f"{points} checkpoints, {problems} problems" for points, problems in shapes)
    for title, cell in (("false alarms", false_alarms), ("coverage, shown", forgetting), ("best, fresh", luck)):
        _say(f"\n| {title} | {heads} |\n|---|" + "---|" * len(shapes))
        for name, draw in RATES.items():
            rng = np.random.default_rng(len(name))
            _say(f"| {name} | " + " | ".join(cell(rng, draw, *shape, repeats) for shape in shapes) + " |")


def false_alarms(rng: np.random.Generator, draw: Callable[..., npt.NDArray[np.float64]], s: int, p: int, r: int) -> str:
    """Share of series of one solve rate per problem in which something is shown."""
    alarms = [any(value < 0.05 for value in _p_values(_turnover(rng, np.tile(draw(rng, p), (s, 1))))) for _ in range(r)]
    return f"{np.mean(alarms):.1%}"


def forgetting(rng: np.random.Generator, draw: Callable[..., npt.NDArray[np.float64]], s: int, p: int, r: int) -> str:
    """Coverage of the interval of problems forgotten beyond chance, and how often they are shown."""
    expected = _beyond_chance(_forgetful(rng, draw, s, 200_000)) * p
    covered, shown = 0, 0
    for _ in range(r):
        last = _turnover(rng, _forgetful(rng, draw, s, p)).checkpoints[-1].forgotten
        assert last is not None
        covered += (last.low or 0.0) <= expected <= (last.high or 0.0)
        shown += (last.p_holm or 0.0) < 0.05
    return f"{covered / r:.1%}, {shown / r:.0%}"


def luck(rng: np.random.Generator, draw: Callable[..., npt.NDArray[np.float64]], s: int, p: int, r: int) -> str:
    """Mean error of the best checkpoint's pass@k and of its fresh value, in points."""
    errors = []
    for _ in range(r // 4):
        rates = draw(rng, p)
        best = best_checkpoints(range(s), _runs(rng, np.tile(rates, (s, 1))))[K.bit_length() - 1]
        truth = float(np.mean(1 - (1 - rates) ** K))
        errors.append((best.value - truth, (best.fresh.value or 0.0) - truth))
    return ", ".join(f"{100 * error:+.2f}" for error in np.mean(errors, axis=0))


def _forgetful(
    rng: np.random.Generator, draw: Callable[..., npt.NDArray[np.float64]], s: int, p: int
) -> npt.NDArray[np.float64]:
    rates = np.tile(draw(rng, p), (s, 1))
    rates[-(s // 2) :, rng.random(p) < FORGOTTEN] = 0
    return rates


def _beyond_chance(rates: npt.NDArray[np.float64]) -> float:
    """Share of problems forgotten at the last checkpoint beyond chance, from the solve rates (S, P) themselves."""
    fails = (1 - rates) ** K
    forgotten = fails[-1] * (1 - fails[:-1].prod(axis=0))
    return float(np.mean(forgotten - (fails[-1] - fails[-1] ** len(fails))))


def _turnover(rng: np.random.Generator, rates: npt.NDArray[np.float64]) -> Turnover:
    return turnovers(range(len(rates)), _runs(rng, rates), [K])[0]


def _p_values(result: Turnover) -> list[float]:
    statements = [part for point in result.checkpoints for part in (point.first, point.forgotten)]
    return [part.p_holm for part in statements if part is not None and part.p_holm is not None]


def _runs(rng: np.random.Generator, rates: npt.NDArray[np.float64]) -> list[RunCounts]:
    n = np.full(rates.shape[1], N)
    runs = []
    for c in rng.binomial(N, rates):
        entries = tuple(ProblemScore(id=str(i), n=N, c=int(correct)) for i, correct in enumerate(c))
        runs.append(RunCounts("", Path(), n, c, Counts.fixed(n, c, np.zeros_like(c)), entries))
    return runs


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
