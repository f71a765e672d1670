"""False alarms and power of `check` and `compare --looks` over ten looks while rollouts are added.

    python -m benchmarks.looks [--replicates 1000] [--problems 30 200]

Each replicate draws a set of problems with their solve rates and two runs, and looks at 32, 64, ... 16,384 rollouts per
problem. For `check` the run's true mean pass@k is lower by exactly the tolerance (the hardest case that is no regression), or
by twice the tolerance, and the drop is spread over all problems; looking ends with the first outcome that is not
"cannot tell". "one look each" is what happens to whoever uses the limits of a single look at every one. For `compare` both
runs are of one policy. Prints the tables of docs/check.md.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from benchmarks.check import mixed, spread
from rlvr_bench import stats
from rlvr_bench.checking.evidence import about_these_problems
from rlvr_bench.comparison.curves import _paired
from rlvr_bench.comparison.sets import null_sizes
from rlvr_bench.stats.sequential import ONE_LOOK, Looks

LOOKS = tuple(32 * 2**i for i in range(10))
Counts = npt.NDArray[np.int64]


def growing(rng: np.random.Generator, rates: npt.NDArray[np.float64]) -> list[Counts]:
    """Correct rollouts of each problem at each look."""
    steps = np.diff((0, *LOOKS))
    return list(np.cumsum([rng.binomial(step, rates) for step in steps], axis=0))


def first_outcome(runs: list[list[Counts]], k: int, tolerance: float, *, every: bool) -> tuple[str, int]:
    """What `check` ends with, and the rollouts per problem at that look."""
    for n, *counts in zip(LOOKS, *runs, strict=True):
        looks = Looks(stats.information(n, n, k)) if every else ONE_LOOK
        sizes = np.full(counts[0].size, n)
        evidence = about_these_problems((counts[0], sizes), (counts[1], sizes), k, tolerance, 0.95, looks)
        if evidence.p_value <= 0.05:
            return "regression", n
        if evidence.high <= tolerance:
            return "ok", n
    return "cannot tell", LOOKS[-1]


def check_row(rng: np.random.Generator, problems: int, k: int, tolerance: float, replicates: int) -> list[str]:
    ended: dict[tuple[float, bool], list[tuple[str, int]]] = {}
    for _ in range(replicates):
        rates = mixed(rng, problems, LOOKS[0])
        for times in (1.0, 2.0):
            runs = [growing(rng, run_rates) for run_rates in (rates, spread(rates, k, times * tolerance, rng))]
            for every in (True, False):
                ended.setdefault((times, every), []).append(first_outcome(runs, k, tolerance, every=every))

    def share(times: float, every: bool, outcome: str) -> str:
        return f"{np.mean([name == outcome for name, _ in ended[times, every]]):.1%}"

    median = [int(np.median([n for _, n in ended[2.0, every]])) for every in (True, False)]
    return [
        f"{problems}",
        f"pass@{k}={tolerance}",
        *(share(1.0, True, outcome) for outcome in ("regression", "ok")),
        *(share(1.0, False, outcome) for outcome in ("regression", "ok")),
        share(2.0, True, "regression"),
        *(f"{n:,}" for n in median),
    ]


def compare_row(rng: np.random.Generator, problems: int, replicates: int) -> list[str]:
    """Two runs of one policy: the share of replicates in which any look at all finds p <= 0.05."""
    alarms = np.zeros((replicates, 2, 4), dtype=bool)
    for i in range(replicates):
        rates = mixed(rng, problems, LOOKS[0])
        for n, *counts in zip(LOOKS, *(growing(rng, rates) for _ in range(2)), strict=True):
            for j, every in enumerate((True, False)):
                looks = Looks(stats.information(n, n)) if every else ONE_LOOK
                sizes = np.full(problems, n)
                sets = null_sizes((counts[0], sizes), (counts[1], sizes), n, rng, 999)
                wide = Looks(stats.information(n, n, 16)) if every else ONE_LOOK
                tables = [stats.pass_at_k(correct, n, [1, 16]) for correct in counts]
                paired = _paired([("pass@k", 1), ("pass@k", 16)], tables, None, 2000, [looks, wide])
                p_values = [looks.renewed(size.p_value) for size in sets] + [one.p_value for one in paired]
                alarms[i, j] |= np.array(p_values) <= 0.05
    rates_of = alarms.mean(axis=0)
    return [f"{problems}", *(f"{value:.1%}" for value in rates_of.ravel())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--problems", type=int, nargs="*", default=[30, 200])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    for problems in arguments.problems:
        for k, tolerance in ((1, 0.02), (16, 0.03)):
            print("|", " | ".join(check_row(rng, problems, k, tolerance, arguments.replicates)), "|", flush=True)
    for problems in arguments.problems:
        print("|", " | ".join(compare_row(rng, problems, max(100, arguments.replicates // 5))), "|", flush=True)


if __name__ == "__main__":
    main()
