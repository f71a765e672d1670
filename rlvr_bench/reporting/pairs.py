"""The comparisons of pairs of runs on the page: differences, crossovers and sets, each corrected for all of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.comparison import REPLICATES_PER_TEST
from rlvr_bench.comparison.cards import RunCounts, clusters
from rlvr_bench.comparison.curves import crossover
from rlvr_bench.comparison.results import BoundaryChange, Crossover, NullSize
from rlvr_bench.comparison.sets import boundary_change
from rlvr_bench.comparison.singles import changed_problems
from rlvr_bench.comparison.undecided import set_bounds
from rlvr_bench.metrics import METRICS
from rlvr_bench.parallel import counted, map_in_order
from rlvr_bench.reporting.missing import widen

__all__ = ["PagePair", "compare_pairs", "couples"]


class PagePair(msgspec.Struct, frozen=True, kw_only=True):
    """Run number ``second`` compared with run number ``first``.

    ``differences``: (name, k, value, low, high, p_holm, n of problems).
    ``more_often`` and ``less_often``: single problems whose solve rate changed, at a false discovery rate of 5 %.
    ``n_gained`` and ``n_lost``: expected sizes of the sets that the ids most likely make up.
    A difference with bounds has no value (null) where n was chosen by what was found; else that with errors as not correct,
    and limits that hold the error of both bounds. ``gained_bounds``, ``lost_bounds``: as in ``PairComparison``.
    """

    first: int
    second: int
    differences: list[tuple[str, int | None, float, float, float, float, int]]
    crossover: Crossover
    n_gained: float
    n_lost: float
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    gains: NullSize | None
    losses: NullSize | None
    more_often: tuple[str, ...]
    less_often: tuple[str, ...]
    gained_bounds: tuple[float, float] | None = None
    lost_bounds: tuple[float, float] | None = None


def couples(baselines: Sequence[int], size: int, more: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs to compare: every baseline with every other run, in the order of the baselines, then ``more``."""
    every = [(first, second) for first in baselines for second in range(size) if first != second]
    return list(dict.fromkeys([*every, *more]))


def compare_pairs(
    ids: Sequence[str],
    runs: Sequence[RunCounts],
    ks: Sequence[int],
    headline: Sequence[int],
    couples: Sequence[tuple[int, int]],
    jobs: int,
    on_progress: Callable[[int, int], object],
) -> list[PagePair]:
    """The comparison of the second run of each couple with the first."""
    halves = sorted({(min(pair), max(pair)) for pair in couples})
    replicates = max(2000, REPLICATES_PER_TEST * (len(runs) - 1) * max(len(headline), 2))
    differences = _differences(runs, ks, headline, couples, stats.Resampling(replicates, 0.95, jobs))
    k = ks[-1]

    sets = functools.partial(_sets, ids, k, replicates)
    two = [(runs[first], runs[second]) for first, second in halves]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # NumPy releases the lock in long loops
        made = map_in_order(sets, two, jobs=jobs) if jobs > 1 else pool.map(sets, two)
        by_pair = dict(zip(halves, counted(made, len(two), on_progress), strict=True))
    pairs = []
    for first, second in couples:
        crossing, change, (rose, fell) = by_pair[min(first, second), max(first, second)]
        forward = first < second
        pair = PagePair(
            first=first,
            second=second,
            differences=differences[first, second],
            crossover=crossing,
            n_gained=change.n_gained if forward else change.n_lost,
            n_lost=change.n_lost if forward else change.n_gained,
            gained=change.gained if forward else change.lost,
            lost=change.lost if forward else change.gained,
            gains=change.gains if forward else change.losses,
            losses=change.losses if forward else change.gains,
            more_often=rose if forward else fell,
            less_often=fell if forward else rose,
        )
        gained, lost = set_bounds(runs[first], runs[second], k)
        pairs.append(msgspec.structs.replace(pair, gained_bounds=gained, lost_bounds=lost))
    return _corrected_sets(pairs)


def _sets(
    ids: Sequence[str], k: int, replicates: int, two: tuple[RunCounts, RunCounts]
) -> tuple[Crossover, BoundaryChange, tuple[tuple[str, ...], tuple[str, ...]]]:
    return crossover(*two), boundary_change(ids, *two, k, replicates), _changed(ids, *two)


def _changed(ids: Sequence[str], first: RunCounts, second: RunCounts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Problems that the second run solves more often, and less often."""
    changed = changed_problems(ids, first, second)
    if changed is None:
        return (), ()
    return tuple(problem.id for problem in changed.gained), tuple(problem.id for problem in changed.lost)


_Row = tuple[str, int | None, float, float, float, float, int]


def _differences(
    runs: Sequence[RunCounts],
    ks: Sequence[int],
    headline: Sequence[int],
    couples: Sequence[tuple[int, int]],
    options: stats.Resampling,
) -> dict[tuple[int, int], list[_Row]]:
    """Paired differences of each couple: pass@k at every k, and the metrics that are compared, where measured.

    One bootstrap serves all couples. Holm's correction is over a baseline's tests at the headline budgets, and over those
    of its policy statistics. Other budgets have an interval and no test.
    """
    tables = [run.pass_table(ks) for run in runs]
    policies = [metric for metric in METRICS if metric.compared and not metric.has_budget]
    columns: list[tuple[str, int | None, npt.NDArray[np.float64]]] = [
        ("pass@k", k, np.stack([table[:, i] for table in tables], axis=1)) for i, k in enumerate(ks)
    ]
    columns += [(metric.name, None, np.stack([run.values(metric) for run in runs], axis=1)) for metric in policies]
    measured = [(name, k, values) for name, k, values in columns if not np.isnan(values).all(axis=0).any()]
    scale = [max(1.0, float(np.nanmax(np.abs(values)))) for *_, values in measured]  # the bootstrap takes rates
    first, second = (
        np.concatenate(
            [values[:, [couple[side] for couple in couples]] / scale[i] for i, (*_, values) in enumerate(measured)],
            axis=1,
        )
        for side in (0, 1)
    )
    paired = stats.paired_bootstrap_mean(
        second,
        first,
        rng=stats.fresh_rng(),
        clusters=clusters(runs[0]),
        options=options,
    )
    value, low, high = (
        limit.reshape(len(measured), -1) * np.array(scale)[:, None]
        for limit in (paired.difference.value, paired.difference.low, paired.difference.high)
    )
    size, p = (array.reshape(len(measured), -1) for array in (paired.difference.n_problems, paired.p_value))
    widen(value, low, high, p, [k for name, k, _ in measured if name == "pass@k" and k is not None], runs, couples)
    p_holm = np.full(p.shape, np.nan)
    families = (
        [i for i, (name, k, _) in enumerate(measured) if name == "pass@k" and k in headline],
        [i for i, (name, *_) in enumerate(measured) if name != "pass@k"],
    )
    for baseline in {first for first, _ in couples}:
        mine = [i for i, couple in enumerate(couples) if couple[0] == baseline]
        for family in families:
            cells = np.ix_(family, mine)
            p_holm[cells] = stats.holm(p[cells].ravel()).reshape(p[cells].shape) if family else p[cells]
    return {
        couple: [
            (name, k, float(value[i, j]), float(low[i, j]), float(high[i, j]), float(p_holm[i, j]), int(size[i, j]))
            for i, (name, k, _) in enumerate(measured)
        ]
        for j, couple in enumerate(couples)
    }


def _corrected_sets(pairs: Sequence[PagePair]) -> list[PagePair]:
    """Holm's correction over the gained and lost sets of each baseline."""
    corrected = []
    for baseline in dict.fromkeys(pair.first for pair in pairs):
        mine = [pair for pair in pairs if pair.first == baseline]
        sizes = [size for pair in mine for size in (pair.gains, pair.losses) if size is not None]
        adjusted = iter(stats.holm([size.p_value for size in sizes]).tolist() if sizes else [])
        for pair in mine:
            gains, losses = (
                size and msgspec.structs.replace(size, p_holm=next(adjusted)) for size in (pair.gains, pair.losses)
            )
            corrected.append(msgspec.structs.replace(pair, gains=gains, losses=losses))
    return corrected
