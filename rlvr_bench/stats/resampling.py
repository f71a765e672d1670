"""Bootstrap intervals over problems, or clusters of problems, for means of per-problem estimates.

Resampling problems already holds both errors of a claim about new problems: the spread of per-problem estimates is the
spread of the problems plus the noise of their rollouts (law of total variance), so a second, nested resampling of
rollouts would count that noise twice. The claim about *these* problems holds rollout noise only: see
``rollout_interval``.

P problems, K budgets, U resampled units (problems, distinct (n, c) pairs or clusters), B replicates.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.intervals import Interval, normal_quantile, score_interval
from rlvr_bench.stats.solve_rate import distinct_counts, log_failure
from rlvr_bench.stats.validation import check_budgets, check_count, check_counts, check_probability, check_table

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = [
    "PairedInterval",
    "Resampling",
    "bootstrap",
    "bootstrap_mean",
    "paired_bootstrap",
    "paired_bootstrap_mean",
]

COLUMNS = 128  # budgets per block: a block of 2,000 replicates is 2 MB
TINY = 1e-14  # variances below this are rounding noise of equal values


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How to resample: ``replicates`` draws, two-sided confidence ``level``."""

    replicates: int = 2000
    level: float = 0.95

    def __post_init__(self) -> None:
        check_count("replicates", self.replicates, lowest=100)
        check_probability("level", self.level)


@dataclasses.dataclass(frozen=True)
class PairedInterval:
    """A mean difference, first minus second, and the two-sided bootstrap p-value of no difference, (K,)."""

    difference: Interval
    p_value: Float64[np.ndarray, " K"]


@dataclasses.dataclass(frozen=True)
class _Units:
    """Resampled units: sums (U, K) of values and sizes (U, K) in problems, and how many units share a row (U,)."""

    sums: Float64[np.ndarray, "U K"]
    sizes: Float64[np.ndarray, "U K"]
    multiplicity: Int64[np.ndarray, " U"]


def bootstrap(
    n_correct: npt.ArrayLike,
    n_samples: npt.ArrayLike,
    ks: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: npt.ArrayLike | None = None,
    options: Resampling | None = None,
) -> Interval:
    """Mean pass@k over problems with a bootstrap interval for claims about new problems (and new rollouts), (K,).

    Problems are resampled; with ``clusters`` (P,), a label per problem, whole clusters are. Arguments otherwise as
    ``pass_at_k``, method and coverage as ``bootstrap_mean``. All k share their replicates. Problems with n < k are left
    out of that k and show in ``n_problems``. Raises ``BadArgument``: as ``pass_at_k``, or clusters disagree in shape.
    """
    c, n = check_counts(n_correct, n_samples)
    pairs = distinct_counts(c, n)
    values = 0.0 - np.expm1(log_failure(pairs, check_budgets(ks)))
    if clusters is None:  # problems with the same (n, c) are interchangeable: resample how often each pair occurs
        units = _units(values, None, pairs.multiplicity)
    else:
        units = _units(np.take(values, pairs.row, axis=0), clusters, None)
    return _interval(units, rng, options or Resampling(), (0.0, 1.0))[0]


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: npt.ArrayLike | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    options: Resampling | None = None,
) -> Interval:
    """Mean over problems of any per-problem estimate (P, K) with a bootstrap interval for new problems, (K,).

    Score bootstrap: the studentized bootstrap (Efron and Tibshirani 1993, sec. 12.5) with Wilson's pivot
    (mean - mu) / sqrt(s^2 mu (1 - mu) / (mean (1 - mean))), values rescaled from ``limits`` to [0, 1]. It never leaves
    the limits, equals no point when all values are equal (300 of 300 solved gives [0.987, 1]), and in simulation
    covers better than percentile, BCa or studentized intervals for the skewed 0/1-heavy values of small problem sets.
    A 95 % interval covers 93-97 % from 30 problems on for Beta-distributed solve rates of mean 0.05 to 0.95; rarer
    success (fewer than about five problems with a value above 0) covers 85-93 %.
    NaN values are left out of their k. Raises ``BadArgument``: shapes disagree or a value is outside the limits.
    """
    table = check_table("values", values)
    low, high = limits
    if not (low <= np.nanmin(table, initial=low) and np.nanmax(table, initial=high) <= high):
        raise BadArgument("values", [float(np.nanmin(table)), float(np.nanmax(table))], f"must lie in {list(limits)}")
    return _interval(_units(table, clusters, None), rng, options or Resampling(), limits)[0]


def paired_bootstrap(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    ks: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: npt.ArrayLike | None = None,
    options: Resampling | None = None,
) -> PairedInterval:
    """Mean difference in pass@k of two runs on the same problems, first minus second, for new problems, (K,).

    ``first`` and ``second`` are (n_correct, n_samples) with problems in the same order. A problem with n < k in either
    run is left out of that k. Method and coverage as ``paired_bootstrap_mean``. Raises ``BadArgument``: as
    ``pass_at_k``, or the runs differ in their number of problems.
    """
    budgets = check_budgets(ks)
    tables = []
    for run in (first, second):
        pairs = distinct_counts(*check_counts(*run))
        tables.append(np.take(0.0 - np.expm1(log_failure(pairs, budgets)), pairs.row, axis=0))
    return paired_bootstrap_mean(tables[0], tables[1], rng=rng, clusters=clusters, options=options)


def paired_bootstrap_mean(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: npt.ArrayLike | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    options: Resampling | None = None,
) -> PairedInterval:
    """Mean difference of two per-problem estimates (P, K) on the same problems, first minus second, (K,).

    The score bootstrap of ``bootstrap_mean`` on the differences, whose limits are twice as wide. The p-value inverts
    the same pivot at difference 0, so p < 1 - level exactly when the interval excludes 0, up to replicate noise.
    Raises ``BadArgument``: shapes disagree or a value is outside the limits.
    """
    tables = check_table("first", first), check_table("second", second)
    if tables[0].shape != tables[1].shape:
        raise BadArgument("second", tables[1].shape, f"must have the shape of first, {tables[0].shape}")
    width = limits[1] - limits[0]
    interval, p_value = _interval(
        _units(tables[0] - tables[1], clusters, None), rng, options or Resampling(), (-width, width)
    )
    return PairedInterval(interval, p_value)


def _units(
    values: Float64[np.ndarray, "P K"], clusters: npt.ArrayLike | None, multiplicity: Int64[np.ndarray, " P"] | None
) -> _Units:
    valid = ~np.isnan(values)
    filled, sizes = np.where(valid, values, 0.0), valid.astype(np.float64)
    if clusters is None:
        return _Units(filled, sizes, np.ones(len(values), np.int64) if multiplicity is None else multiplicity)
    labels = np.asarray(clusters)
    if labels.shape != (len(values),):
        raise BadArgument("clusters", labels.shape, f"must have one label per problem, shape {(len(values),)}")
    _, row = np.unique(labels, return_inverse=True)
    member = np.zeros((int(row.max()) + 1, len(values)))
    member[row, np.arange(len(values))] = 1.0
    return _Units(member @ filled, member @ sizes, np.ones(len(member), np.int64))


def _interval(
    units: _Units, rng: np.random.Generator, options: Resampling, limits: tuple[float, float]
) -> tuple[Interval, Float64[np.ndarray, " K"]]:
    """Interval and p-value of mean 0, block of budgets by block of budgets; all share the same replicates."""
    total = int(units.multiplicity.sum())
    weights = rng.multinomial(total, units.multiplicity / total, size=options.replicates).astype(np.float64)
    n_problems = np.rint(units.multiplicity @ units.sizes).astype(np.int64)
    blocks = []
    for start in range(0, n_problems.size, COLUMNS):
        part = slice(start, start + COLUMNS)
        block = _Units(units.sums[:, part], units.sizes[:, part], units.multiplicity)
        blocks.append(_block(block, weights, options.level, limits))
    value, low, high, p_value = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return Interval(value, low, high, options.level, "score bootstrap", "problems", n_problems), p_value


def _block(
    units: _Units, weights: Float64[np.ndarray, "B U"], level: float, limits: tuple[float, float]
) -> tuple[Float64[np.ndarray, " K"], ...]:
    span = limits[1] - limits[0]
    own = units.multiplicity[None, :].astype(np.float64)
    mean, shrinkage, raw_shrinkage = (row[0] for row in _moments(units, own, limits))
    means, shrinkages, _ = _moments(units, weights, limits)
    pivots = _pivots(means, shrinkages, mean)
    tails = np.nanquantile(pivots, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    z = normal_quantile(level)
    fixed = (raw_shrinkage < TINY) | (mean * (1 - mean) < TINY)  # all values equal: nothing to studentize with
    low, high = score_interval(mean, shrinkage, (np.where(fixed, -z, tails[0]), np.where(fixed, z, tails[1])))
    return limits[0] + span * mean, limits[0] + span * low, limits[0] + span * high, _p_value(pivots, mean, shrinkage)
