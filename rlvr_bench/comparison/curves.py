"""pass@k curves of two runs: paired differences, and the budget at which one overtakes the other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from rlvr_bench import stats
from rlvr_bench.comparison.cards import RunCounts, clusters, common_k
from rlvr_bench.comparison.results import Crossover, Difference
from rlvr_bench.metrics import METRICS
from rlvr_bench.scorers.solve_rate import gaps
from rlvr_bench.stats import REPLICATES
from rlvr_bench.stats.resampling import HALF_PAIR
from rlvr_bench.stats.sequential import ONE_LOOK, REPLICATES_OF_LOOKS, Looks

__all__ = [
    "crossover",
    "crossover_of",
    "described",
    "looks_of",
    "paired_differences",
    "pass_differences",
    "policy_differences",
    "search_grid",
]

TIE = 1e-12  # means closer than this are equal
EVERY_K = 128
RATIO = 1.01


def looks_of(first: RunCounts, second: RunCounts, k: int | None = None, *, every: bool = True) -> Looks:
    """The looks of two runs compared at budget k: ``every`` look while rollouts are added, or one."""
    return Looks(stats.information(float(first.n.mean()), float(second.n.mean()), k or 1)) if every else ONE_LOOK


def pass_differences(
    first: RunCounts, second: RunCounts, ks: Sequence[int], replicates: int = REPLICATES, *, every_look: bool = False
) -> list[Difference]:
    """Paired difference in mean pass@k, second minus first, at each k (``stats.paired_bootstrap_mean``).

    Where rollouts or verdicts are missing in either run, the difference has bounds (``Difference``). The interval is
    for other problems of the same kind and new rollouts. No p-value is below 1 / (1 + ``replicates``).
    """
    names = [("pass@k", k) for k in ks]
    bounds = [run.pass_bounds(ks) for run in (first, second)]
    groups = clusters(first)
    looks = [looks_of(first, second, k, every=every_look) for k in ks]
    least = paired_differences(names, [bounds[0].high, bounds[1].low], groups, replicates, looks)
    if all((limits.low == limits.high).all() for limits in bounds) and not any(_gaps((first, second), ks)):
        return least
    most = paired_differences(names, [bounds[0].low, bounds[1].high], groups, replicates, looks)
    lower = paired_differences(names, [limits.low for limits in bounds], groups, replicates, looks)
    return [
        plain if not gap and low.value == high.value else _between(plain, low, high, known=not gap)
        for plain, low, high, gap in zip(lower, least, most, _gaps((first, second), ks), strict=True)
    ]


def _gaps(runs: Sequence[RunCounts], ks: Sequence[int]) -> list[bool]:
    """Whether rollouts are missing at each budget."""
    return [any(notes) for notes in zip(*(gaps(run.counts, ks) for run in runs), strict=True)]


def _between(plain: Difference, least: Difference, most: Difference, *, known: bool) -> Difference:
    """The difference with bounds: its ``least`` and ``most`` value, and ``plain``, in which errors are not correct."""
    level = (least.value or 0.0, most.value or 0.0)
    at_zero = level[0] <= 0 <= level[1]
    return msgspec.structs.replace(
        plain,
        first=plain.first if known else None,
        second=plain.second if known else None,
        value=plain.value if known else None,
        low=least.low,
        high=most.high,
        at_least=least.value,
        at_most=most.value,
        p_value=1.0 if at_zero else max(least.p_value or 0.0, most.p_value or 0.0),
        method=f"{plain.method}; bounds",
    )


def policy_differences(
    first: RunCounts, second: RunCounts, replicates: int = REPLICATES, *, every_look: bool = False
) -> list[Difference]:
    """Paired differences in policy statistics that both scorecards have.

    Token entropy and branching factor are means over a problem's rollouts. Statistics that depend on the number of
    answers or texts are compared at a common number (``common_k``). Problems without a value are left out.
    """
    compared = [
        (metric, common_k(first, second, str(metric.column)) if metric.has_budget else None)
        for metric in METRICS
        if metric.compared
    ]
    chosen = [(metric, budget) for metric, budget in compared if budget is not None or not metric.has_budget]
    tables = [
        np.stack(
            [run.values(metric) if budget is None else run.budget_values(metric, budget) for metric, budget in chosen],
            axis=1,
        )
        for run in (first, second)
    ]
    looks = [looks_of(first, second, budget, every=every_look) for _, budget in chosen]
    return paired_differences(
        [(metric.name, budget) for metric, budget in chosen], tables, clusters(first), replicates, looks
    )


def crossover(first: RunCounts, second: RunCounts, *, every_look: bool = False) -> Crossover:
    """Where the run that leads at k = 1 is overtaken, with a bootstrap interval over problems (``crossover_of``).

    The search is over every k up to 128, then in steps of 1 %, up to the largest k that every problem has in both runs.
    """
    grid = search_grid(min(first.largest_k, second.largest_k))
    tables = [run.pass_table(grid) for run in (first, second)]
    level = looks_of(first, second, every=every_look).single_level(stats.LEVEL)
    return crossover_of(tables[1] - tables[0], grid, (first.label, second.label), clusters(first), level)


def search_grid(largest: int) -> list[int]:
    """Budgets 1 to 128, then each 1 % above the one before, and the largest."""
    grid = list(range(1, min(largest, EVERY_K) + 1))
    while grid[-1] < largest:
        grid.append(min(largest, int(np.ceil(grid[-1] * RATIO))))
    return grid


def crossover_of(
    differences: npt.NDArray[np.float64],
    grid: Sequence[int],
    labels: tuple[str, str],
    groups: npt.NDArray[np.str_] | None = None,
    level: float = stats.LEVEL,
    draws: npt.NDArray[np.float64] | None = None,
) -> Crossover:
    """First budget of ``grid`` (K,) at which the mean of ``differences`` (P, K), second minus first, changes its sign.

    The leader is the run with the higher mean at the smallest budget at which the means differ. The interval is the
    percentile interval of that first budget, from a paired bootstrap over problems (or clusters, labels (P,)). In a
    replicate it is 1 where the other run leads from the start, and above the largest budget where the other run never
    leads. In simulation a 95 % interval covers 95-98 % for 50 to 200 problems with a clear leader. Where the runs are
    nearly equal at the start, the leader, and so the crossing, is determined by chance: then it covers 84 % for 50
    problems and 95 % for 100, and is wide. ``k`` is None where no crossing is shown (``_is_shown``). ``draws`` (B, K):
    resampled means, if something other than the problems was resampled too.
    """
    largest = int(grid[-1])
    mean = differences.mean(axis=0)
    signs = _signs(mean)
    changes = np.flatnonzero(signs[1:] * signs[:-1] < 0) + 1
    ahead = int(next((sign for sign in signs if sign), 0))
    draws = _resampled(differences, groups) if draws is None else draws
    first = int(grid[changes[0]]) if len(changes) and _is_shown(differences, draws, ahead, groups, level) else None
    low, high = (None, None) if not ahead else _limits(draws, ahead, grid, level)
    crossing = Crossover(
        text="",
        leader=None if not ahead else labels[ahead > 0],
        k=first,
        low=low,
        high=high,
        last=int(grid[changes[-1]]) if len(changes) else None,
        changes=len(changes),
        largest_k=largest,
        level=stats.LEVEL,
        method="first change of lead; percentile bootstrap over problems, paired",
    )
    return described(crossing)


def _signs(mean: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Sign of the difference at each budget; for a tie, that at the budget before (0 before the first difference)."""
    signs = np.where(np.abs(mean) <= TIE, 0, np.sign(mean)).astype(np.int64)
    last = np.maximum.accumulate(np.where(signs != 0, np.arange(len(signs)), 0))
    return np.asarray(signs[last])


def _resampled(differences: npt.NDArray[np.float64], groups: npt.NDArray[np.str_] | None) -> npt.NDArray[np.float64]:
    return stats.resampled_means(differences, rng=stats.fresh_rng(), clusters=groups, replicates=REPLICATES)


def _is_shown(
    differences: npt.NDArray[np.float64],
    draws: npt.NDArray[np.float64],
    ahead: int,
    groups: npt.NDArray[np.str_] | None,
    level: float,
) -> bool:
    """Whether the simultaneous confidence band excludes 0 on the leader's side, and at a later budget on the other.

    The band is from the bootstrap of the largest studentized deviation over budgets (Efron and Tibshirani 1993, sec.
    12.5, for a maximum), and at least as wide as Student's interval. So for runs without a crossing the error rate is
    at most 1 - ``level``. For two runs of one policy it is much lower, because both sides must be shown by chance.
    """
    units = len(differences) if groups is None else len(np.unique(groups))
    mean = differences.mean(axis=0)
    error = np.sqrt(draws.var(axis=0) + HALF_PAIR * (np.abs(differences).max(axis=0) / len(differences)) ** 2)
    error = np.maximum(error, TIE)
    largest = np.max(np.abs(draws - mean) / error, axis=1)
    reach = max(float(np.quantile(largest, level)), float(stdtrit(max(units - 1, 1), 0.5 + level / 2)))
    leads, trails = (np.flatnonzero(sign * ahead * mean > reach * error) for sign in (1, -1))
    return bool(len(leads) and len(trails) and leads[0] < trails[-1])


def _limits(
    draws: npt.NDArray[np.float64], ahead: int, grid: Sequence[int], level: float
) -> tuple[int | None, int | None]:
    overtaken = draws * ahead < -TIE
    crossing_index = np.where(overtaken.any(axis=1), overtaken.argmax(axis=1), len(grid))
    ordered = np.sort(crossing_index)
    tail = int((1 - level) / 2 * len(ordered))
    low, high = int(ordered[tail]), int(ordered[-1 - tail])
    return (int(grid[low]) if low < len(grid) else None, int(grid[high]) if high < len(grid) else None)


def described(crossing: Crossover) -> Crossover:
    """The crossover with its text."""
    edge = f">{crossing.largest_k}" if crossing.high is None else str(crossing.high)
    if crossing.leader is None:
        text = f"no difference up to {crossing.largest_k}"
    elif crossing.k is not None:
        text = f"crosses at {crossing.k} [{crossing.low}, {edge}]"
        if crossing.changes > 1:
            text += f", {crossing.changes} changes of lead, the last at {crossing.last}"
    elif crossing.changes or crossing.low is not None:
        text = f"no crossing shown up to {crossing.largest_k}"
    else:
        text = f"no crossing up to {crossing.largest_k}"
    return msgspec.structs.replace(crossing, text=text)


def paired_differences(
    names: Sequence[tuple[str, int | None]],
    tables: Sequence[npt.NDArray[np.float64]],
    groups: npt.NDArray[np.str_] | None,
    replicates: int,
    looks: Sequence[Looks],
) -> list[Difference]:
    """One paired difference per column of the values (P, K) of the first and the second run, named (name, k).

    A problem without a value in either run is left out of that column. A column without any problem is left out.
    Columns with the same ``looks`` (K,) use the same replicates.
    """
    missing = np.isnan(tables[0]) | np.isnan(tables[1])
    by_column: dict[int, Difference] = {}
    for look in dict.fromkeys(looks):
        known = [i for i, other in enumerate(looks) if other == look and not missing[:, i].all()]
        if known:
            first, second = (np.where(missing, np.nan, table)[:, known] for table in tables)
            differences = _differences([names[i] for i in known], (first, second), groups, replicates, look)
            by_column |= dict(zip(known, differences, strict=True))
    return [by_column[i] for i in sorted(by_column)]


def _differences(
    names: Sequence[tuple[str, int | None]],
    tables: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    groups: npt.NDArray[np.str_] | None,
    replicates: int,
    looks: Looks,
) -> list[Difference]:
    first, second = tables
    scale = np.maximum(1.0, np.nanmax(np.abs([first, second]), axis=(0, 1)))  # the bootstrap needs values in [0, 1]
    draws = replicates if looks.information is None else max(replicates, REPLICATES_OF_LOOKS)
    bootstrap = stats.paired_bootstrap_mean(
        second / scale,
        first / scale,
        rng=stats.fresh_rng(),
        clusters=groups,
        options=stats.Resampling(draws, looks.single_level(stats.LEVEL)),
    )
    interval = bootstrap.difference
    return [
        Difference(
            name=name,
            k=k,
            first=float(np.nanmean(first[:, i])),
            second=float(np.nanmean(second[:, i])),
            value=float(interval.value[i] * scale[i]),
            low=float(interval.low[i] * scale[i]),
            high=float(interval.high[i] * scale[i]),
            level=stats.LEVEL,
            p_value=looks.renewed(float(bootstrap.p_value[i]), float(bootstrap.z[i]), two_sided=True),
            n_problems=int(interval.n_problems[i]),
            method=f"{interval.method} over {interval.source}, paired",
        )
        for i, (name, k) in enumerate(names)
    ]
