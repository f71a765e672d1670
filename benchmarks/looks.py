"""False alarms and power of `check` and `compare --looks` over ten looks while rollouts are added.

    python -m benchmarks.looks [--replicates 1000] [--problems 30 200] [--only check | compare | tails]

Each replicate draws a set of problems with their solve rates and two runs, and looks at 32, 64, ... 16,384 rollouts per
problem (for pass@64 at 64, 128, ... 32,768). For `check` the run's true mean pass@k is lower by exactly the tolerance (the
hardest case that is no regression), or by twice the tolerance, and the drop is spread over all problems; looking ends with the
first outcome that is not "cannot tell". "one look each" is what happens to whoever uses the limits of a single look at every
one. For `compare` both runs are of one policy. "tails": how often the gained and the lost set of one policy, and the net of
random differences, reach the deviates of 5, 1 and 0.1 % where 19 simulated sets leave all but the first to the exact tail.
Prints the tables of docs/check.md.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from benchmarks.check import mixed, spread
from rlvr_bench import stats
from rlvr_bench.checking.evidence import about_these_problems
from rlvr_bench.comparison.curves import _paired
from rlvr_bench.comparison.sets import null_sizes
from rlvr_bench.stats.sequential import ONE_LOOK, Looks, anytime_p_value
from rlvr_bench.stats.significance import sign_flip_test

RULES = ((1, 0.02), (16, 0.03), (64, 0.03))  # budget and tolerance
LARGEST = 64
Counts = npt.NDArray[np.int64]


def looks_at(k: int) -> list[int]:
    """Rollouts per problem at ten looks, each twice as many as at the one before."""
    return [max(32, k) * 2**i for i in range(10)]


def growing(rng: np.random.Generator, rates: npt.NDArray[np.float64], k: int) -> list[Counts]:
    """Correct rollouts of each problem at each look."""
    steps = np.diff((0, *looks_at(k)))
    return list(np.cumsum([rng.binomial(step, rates) for step in steps], axis=0))


def first_outcome(runs: list[list[Counts]], k: int, tolerance: float, *, every: bool) -> tuple[str, int]:
    """What `check` ends with, and the rollouts per problem at that look."""
    for n, *counts in zip(looks_at(k), *runs, strict=True):
        looks = Looks(stats.information(n, n, k)) if every else ONE_LOOK
        sizes = np.full(counts[0].size, n)
        found = about_these_problems((counts[0], sizes), (counts[1], sizes), k, tolerance, 0.95, looks)
        if found.p_value <= 0.05:
            return "regression", n
        if found.high <= tolerance:
            return "ok", n
    return "cannot tell", looks_at(k)[-1]


def check_row(rng: np.random.Generator, problems: int, k: int, tolerance: float, replicates: int) -> list[str]:
    ended: dict[tuple[float, bool], list[tuple[str, int]]] = {}
    for _ in range(replicates):
        rates = mixed(rng, problems, looks_at(k)[0])
        for times in (1.0, 2.0):
            runs = [growing(rng, each, k) for each in (rates, spread(rates, k, times * tolerance, rng))]
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
    """Two runs of one policy: the share of replicates in which any look at all finds p <= 0.05.

    For the gained and the lost set, the net of both, and pass@1, pass@16 and pass@64.
    """
    ks = [k for k, _ in RULES]
    alarms = np.zeros((replicates, 2, 3 + len(ks)), dtype=bool)
    for i in range(replicates):
        rates = mixed(rng, problems, looks_at(LARGEST)[0])
        for n, *counts in zip(looks_at(LARGEST), *(growing(rng, rates, LARGEST) for _ in range(2)), strict=True):
            for j, every in enumerate((True, False)):
                alarms[i, j] |= np.array(p_values(rng, counts, n, ks, every=every)) <= 0.05
    return [f"{problems}", *(f"{value:.1%}" for value in alarms.mean(axis=0).ravel())]


def p_values(rng: np.random.Generator, counts: list[Counts], n: int, ks: list[int], *, every: bool) -> list[float]:
    """Those that `compare` prints at one look, before the correction for several budgets."""
    looks = [Looks(stats.information(n, n, k)) if every else ONE_LOOK for k in ks]
    sizes = np.full(counts[0].size, n)
    sets = null_sizes((counts[0], sizes), (counts[1], sizes), n, rng, 999, looks[0])
    tables = [stats.pass_at_k(each, n, ks) for each in counts]
    solved = [(each > 0) * 1.0 for each in counts]
    net = sign_flip_test(solved[1] - solved[0], rng)
    paired = _paired([("pass@k", k) for k in ks], tables, None, 2000, looks)
    return [
        *(size.p_value for size in sets),
        looks[0].renewed(net.p_value, net.z, two_sided=True),
        *(one.p_value if one.p_value is not None else 1.0 for one in paired),
    ]


def tails(rng: np.random.Generator, n: tuple[int, int], k: int, replicates: int) -> str:
    """False alarms at 5, 1 and 0.1 % of two runs of 40 problems, n rollouts of each, at budget k."""
    looks, levels = Looks(16.0), (0.05, 0.01, 0.001)
    sets, nets = [], []
    for _ in range(replicates):
        rates = rng.beta(0.2, 1.2, 40)
        runs = [(rng.binomial(size, rates), np.full(40, size)) for size in n]
        sets += [test.p_value for test in null_sizes(runs[0], runs[1], k, rng, 19, looks)]
        nets.append(sign_flip_test(rng.normal(0, rng.random(40) ** 3), rng, None, 19).z)
    alarms = [np.mean(np.array(sets) <= anytime_p_value(-float(ndtri(level)), 16.0)) for level in levels]
    of_nets = [np.mean(np.array(nets) >= -float(ndtri(level / 2)) - 1e-9) for level in levels]
    return (
        f"n {n}, k {k}: sets "
        + ", ".join(f"{a:.2%}" for a in alarms)
        + "; net "
        + ", ".join(f"{a:.2%}" for a in of_nets)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--problems", type=int, nargs="*", default=[30, 200])
    parser.add_argument("--only", choices=["check", "compare", "tails"])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    if arguments.only in ("tails", None):
        for sizes, k in (((32, 32), 32), ((96, 32), 16), ((64, 64), 64)):
            print(tails(rng, sizes, k, 4 * arguments.replicates), flush=True)
    for problems in arguments.problems if arguments.only in ("check", None) else ():
        for k, tolerance in RULES:
            print("|", " | ".join(check_row(rng, problems, k, tolerance, arguments.replicates)), "|", flush=True)
    for problems in arguments.problems if arguments.only in ("compare", None) else ():
        print("|", " | ".join(compare_row(rng, problems, max(100, arguments.replicates // 5))), "|", flush=True)


if __name__ == "__main__":
    main()
