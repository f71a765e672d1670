"""Coverage with a verifier that errs at known rates, on rollouts of the zoo, as Markdown tables.

    python -m benchmarks.verifier_error [--repeats 200] [--labels 300] [--pool runs]

The checker of the zoo's puzzles is exact, so errors can be planted. The population is 300 problems with 256 rollouts each
of a checkpoint. A run is 300 problems drawn from it with replacement, 64 of their rollouts each, whose verdicts are then
changed at the planted rates; labels of a sample (``labelling.draw_sample``) say the truth. First table: how often the
95 % interval of pass@k covers that of the population, without and with the verifier's error, and how much wider the second
is. Second table: two checkpoints, of which only the second has a verifier that errs; how often the intervals cover the
difference in pass@k and the numbers of problems gained and lost. A share of 95 % has a standard error of 1.5 points at 200
repetitions. About three hours on one core.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import GradeOptions, SampleOptions, evaluate, stats
from rlvr_bench.comparison.cards import RunCounts
from rlvr_bench.comparison.true_sets import compared_with_error
from rlvr_bench.labelling.sampling import sampling_chances
from rlvr_bench.measured_error import MeasuredError
from rlvr_bench.records import STATUSES, Outcomes
from rlvr_bench.scorecard import ProblemScore
from rlvr_bench.scorers.counts import Counts
from rlvr_bench.scorers.true_solves import error_of_labels
from rlvr_bench.store import open_run
from rlvr_bench.store.outcomes import read_outcomes

N, POOL, KS = 64, 256, (1, 4, 16, 64)
CORRECT, WRONG = STATUSES.index("correct"), STATUSES.index("wrong")
# Rates of false positives and of false negatives, and of which wrong answers.
PLANTED = {
    "none": (0.0, 0.0, "any"),
    **{f"phi = {rate:.1%}": (rate, 0.0, "any") for rate in (0.001, 0.01, 0.05)},
    **{f"psi = {rate:.1%}": (0.0, rate, "any") for rate in (0.001, 0.01, 0.05)},
    **{f"phi = psi = {rate:.1%}": (rate, rate, "any") for rate in (0.001, 0.01, 0.05)},
    **{f"phi = {rate:.1%}, all on rare answers": (rate, 0.0, "rare") for rate in (0.001, 0.01, 0.05)},
    "phi = 1.0%, whole answers": (0.01, 0.0, "answers"),
    "phi = 1.0%, all on a fifth of the problems": (0.01, 0.0, "problems"),
}


def pool_of(model: str, folder: Path) -> Outcomes:
    """All rollouts of the population, with the true verdicts."""
    options = SampleOptions(n=POOL, out=folder, token_stats="off")
    run, _ = evaluate(model, "double_countdown", options, GradeOptions(workers=1))
    return read_outcomes(open_run(run))


def one_run(pool: Outcomes, rng: np.random.Generator, problems: npt.NDArray[np.int64]) -> Outcomes:
    """N rollouts of each of these problems of the population; a problem may be drawn twice."""
    index = np.argsort(rng.random((len(problems), POOL)), axis=1)[:, :N]
    rows = (problems[:, None] * POOL + index).ravel()
    size = len(problems)
    return msgspec.structs.replace(
        pool.only(rows),
        problem_ids=tuple(f"{pool.problem_ids[i]} #{at}" for at, i in enumerate(problems.tolist())),
        tiers=("",) * size,
        clusters=("",) * size,
        problem=np.repeat(np.arange(size, dtype=np.int32), N),
        index=np.tile(np.arange(N, dtype=np.int32), size),
        asked=N,
        golds=(),
    )


def planted(outcomes: Outcomes, phi: float, psi: float, where: str, rng: np.random.Generator) -> Outcomes:
    """The outcomes with wrong verdicts; false positives on any rollouts, rare or whole answers, or some problems."""
    right, chance = outcomes.is_correct, np.full(len(outcomes.status), phi)
    wrong = outcomes.has_status("wrong")
    _, answer, count = np.unique(
        outcomes.problem.astype(np.int64) << 32 | outcomes.answer, return_inverse=True, return_counts=True
    )
    if where != "any":
        chosen = {
            "rare": count[answer] == 1,
            "answers": rng.random(len(count))[answer] < phi,
            "problems": (rng.random(len(outcomes.problem_ids)) < 0.2)[outcomes.problem],
        }[where]
        chance = chosen * (1.0 if where == "answers" else phi * wrong.sum() / max((chosen & wrong).sum(), 1))
    status = outcomes.status.copy()
    status[wrong & (rng.random(len(status)) < chance)] = CORRECT
    status[right & (rng.random(len(status)) < psi)] = WRONG
    return msgspec.structs.replace(outcomes, status=status)


def measured(outcomes: Outcomes, truth: npt.NDArray[np.bool_], labels: int, seed: int) -> MeasuredError:
    """What labels of a sample say."""
    chance = sampling_chances(outcomes, labels, seed)
    rows = np.flatnonzero(chance).tolist()
    return error_of_labels(
        outcomes, {row: bool(truth[row]) for row in rows}, {row: float(chance[row]) for row in rows}, KS, {}
    )


def population(pool: Outcomes) -> npt.NDArray[np.float64]:
    """pass@k of the population, (K,)."""
    return np.asarray(stats.pass_at_k(pool.n_correct, pool.n_samples, KS).mean(axis=0))


def coverage(pool: Outcomes, name: str, repeats: int, labels: int) -> str:
    """A row of the first table."""
    truth, (phi, psi, where) = population(pool), PLANTED[name]
    hits: dict[str, list[npt.NDArray[np.bool_]]] = {"plain": [], "with": []}
    rates, widths, rng = [], [], np.random.default_rng(zlib.crc32(name.encode()))
    for seed in range(repeats):
        run = one_run(pool, rng, rng.integers(0, len(pool.problem_ids), len(pool.problem_ids)))
        seen = planted(run, phi, psi, where, rng)
        plain = stats.bootstrap(seen.n_correct, seen.n_samples, KS, rng=stats.fresh_rng())
        error = measured(seen, run.is_correct, labels, seed)
        low, high = (np.array([getattr(e, side) for e in error.pass_at_k]) for side in ("low", "high"))
        hits["plain"].append((plain.low <= truth) & (truth <= plain.high))
        hits["with"].append((low <= truth) & (truth <= high))
        widths.append((high - low) / (plain.high - plain.low))
        actual = float((seen.is_correct & ~run.is_correct).sum() / (~run.is_correct).sum()) if where != "any" else phi
        estimates = (error.false_positives[0], actual), (error.false_negatives[0], psi)
        rates.append([(e.low or 0.0) <= value <= (e.high or 0.0) for e, value in estimates])
    cells = [_shares(hits["plain"]), _shares(hits["with"]), _shares(rates)]
    return " | ".join([name, *cells, ", ".join(f"{width:.1f}" for width in np.mean(widths, axis=0))])


def set_coverage(pools: tuple[Outcomes, Outcomes], name: str, repeats: int, labels: int) -> str:
    """A row of the second table."""
    solved = [stats.pass_at_k(pool.n_correct, pool.n_samples, KS) for pool in pools]
    difference = (solved[1] - solved[0]).mean(axis=0)
    first, second = (table[:, -1] for table in solved)
    size = len(pools[0].problem_ids)
    sizes = size * np.mean((1 - first) * second), size * np.mean(first * (1 - second))
    rng, hits = np.random.default_rng(zlib.crc32(name.encode())), []
    for seed in range(repeats):
        problems = rng.integers(0, size, size)
        runs = [one_run(pool, rng, problems) for pool in pools]
        seen = [planted(run, *PLANTED[name if number else "none"], rng) for number, run in enumerate(runs)]
        counts = [_counted(number, *pair, labels, seed) for number, pair in enumerate(zip(seen, runs, strict=True))]
        result = compared_with_error(seen[0].problem_ids, counts[0], counts[1], KS, KS[-1])
        assert result is not None
        intervals = (*result.pass_at_k, result.gained, result.lost)
        truth = (*difference, *sizes)
        hits.append(np.array([item.low <= value <= item.high for item, value in zip(intervals, truth, strict=True)]))
    return f"{name} | {_shares(hits)}"


def _counted(number: int, seen: Outcomes, run: Outcomes, labels: int, seed: int) -> RunCounts:
    n, c, ids = seen.n_samples, seen.n_correct, seen.problem_ids
    entries = tuple(ProblemScore(id=name, n=N, c=int(correct)) for name, correct in zip(ids, c, strict=True))
    error = measured(seen, run.is_correct, labels, seed)
    return RunCounts(str(number), Path(), n, c, Counts.fixed(n, c, np.zeros_like(c)), entries, error)


def _shares(hits: list[npt.NDArray[np.bool_]]) -> str:
    return ", ".join(f"{100 * share:.1f}" for share in np.mean(hits, axis=0))


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--pool", type=Path, default=Path("runs/verifier-error"))
    parser.add_argument("--only", default="", help="only planted errors with this text in their name")
    options = parser.parse_args(argv)
    pools = pool_of("zoo:base", options.pool), pool_of("zoo:grpo", options.pool)
    names = [name for name in PLANTED if options.only in name]
    _say("| planted | by the verdicts | with the error | rates | width |\n|---|---|---|---|---|")
    for name in names:
        _say(f"| {coverage(pools[0], name, options.repeats, options.labels)} |")
    _say("\n| planted | difference, gained, lost |\n|---|---|")
    for name in names:
        _say(f"| {set_coverage(pools, name, options.repeats, options.labels)} |")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
