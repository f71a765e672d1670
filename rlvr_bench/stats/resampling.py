"""Bootstrap intervals over problems, or clusters of problems, for means of per-problem estimates.

For a claim about new problems it is enough to resample problems: by the law of total variance, the variance of the
per-problem estimates is the variance of the problems plus the noise of their rollouts. A nested resampling of rollouts
would count that noise twice. For a claim about *these* problems the only error is rollout noise: see
``rollout_interval``.

P problems, K budgets, U resampled units (problems, distinct (n, c) pairs or clusters), B replicates.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri, stdtrit

from rlvr_bench.errors import BadArgument
from rlvr_bench.parallel import map_in_order
from rlvr_bench.stats.few_units import DIRICHLET, allow_for_unseen, dirichlet_limits, rising, unseen_share
from rlvr_bench.stats.intervals import Interval, normal_quantile, score_interval
from rlvr_bench.stats.pivots import (
    FEW_UNITS,
    bernstein_radius,
    deviate_beyond,
    largest_kept,
    quantiles,
    small_sample_floor,
    two_sided,
)
from rlvr_bench.stats.solve_rate import distinct_counts, pass_of_pairs
from rlvr_bench.stats.validation import check_budgets, check_count, check_counts, check_probability, check_table

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = [
    "LEVEL",
    "REPLICATES",
    "PairedInterval",
    "Resampling",
    "bootstrap",
    "bootstrap_mean",
    "fresh_rng",
    "paired_bootstrap",
    "paired_bootstrap_mean",
    "resampled_means",
    "resampled_weights",
    "rising_limits",
]

_SEED = 20250807
LEVEL = 0.95  # default level of every interval
REPLICATES = 2000
_AT_ONCE = 64  # replicates
COLUMNS = 128  # budgets per block: a block of 2,000 replicates is 2 MB
TINY = 1e-13  # a variance below this share of the mean square is the rounding noise of equal values
HALF_PAIR = 0.5  # Agresti and Min's half discordant pair, in units of the largest observed difference


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How to resample: ``replicates`` draws, two-sided confidence ``level``, blocks of budgets in ``jobs`` processes.

    Results do not depend on ``jobs``.
    """

    replicates: int = REPLICATES
    level: float = LEVEL
    jobs: int = 1

    def __post_init__(self) -> None:
        check_count("replicates", self.replicates, lowest=100)
        check_probability("level", self.level)


@dataclasses.dataclass(frozen=True)
class PairedInterval:
    """A mean difference, first minus second, and the two-sided bootstrap p-value of no difference, (K,).

    ``z``: the normal deviate (absolute) that ``p_value`` belongs to. Beyond the largest replicate, where the p-value is
    1 / (1 + B) for every difference, it grows with the pivot: the normal tail is scaled to pass that replicate.
    """

    difference: Interval
    p_value: Float64[np.ndarray, " K"]
    z: Float64[np.ndarray, " K"]


@dataclasses.dataclass(frozen=True)
class _Units:
    """Resampled units: sums (U, K) of values and sizes (U, K) in problems, and how many units share a row (U,)."""

    sums: Float64[np.ndarray, "U K"]
    sizes: Float64[np.ndarray, "U K"]
    multiplicity: Int64[np.ndarray, " U"]


@dataclasses.dataclass(frozen=True)
class _Moments:
    """Mean, its squared standard error and the number of units with a defined value, each (B, K)."""

    mean: Float64[np.ndarray, "B K"]
    variance: Float64[np.ndarray, "B K"]
    count: Float64[np.ndarray, "B K"]

    def shrinkage(self) -> Float64[np.ndarray, "B K"]:
        """1 / effective number of 0/1 observations, (B, K): 1 / units where all values are equal."""
        scale = self.mean * (1 - self.mean)
        equal = 1 / np.maximum(self.count, 1)
        return np.asarray(np.divide(self.variance, scale, out=equal, where=(self.variance > 0) & (scale > 0)))


_Rule = Callable[[_Units, "npt.NDArray[np.float64]", float], tuple["npt.NDArray[np.float64]", ...]]


def fresh_rng(stream: int = 0) -> np.random.Generator:
    """The random generator of every resampling, with a fixed seed, so that results are reproducible.

    ``stream``: number of another generator, for draws that must differ from those of the resampling.
    """
    return np.random.default_rng(_SEED + stream)


def resampled_means(
    values: npt.NDArray[np.float64],
    *,
    rng: np.random.Generator,
    clusters: npt.ArrayLike | None = None,
    replicates: int = REPLICATES,
) -> npt.NDArray[np.float64]:
    """Means (B, ...) of values (P, ...) over resampled problems, or whole clusters of them (labels (P,)).

    For statistics without an interval in ``bootstrap_mean``: ranks, crossings. NaN where any problem has NaN.
    """
    unit, weights = _drawn_units(len(values), clusters, rng, replicates)
    sums = np.zeros((weights.shape[1], *values.shape[1:]))
    np.add.at(sums, unit, values)
    problems = (weights @ np.bincount(unit)).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(np.tensordot(weights, sums, axes=1) / problems)


def resampled_weights(
    problems: int, *, rng: np.random.Generator, clusters: npt.ArrayLike | None = None, replicates: int = REPLICATES
) -> Float64[np.ndarray, "P B"]:
    """Weights of the problems in each replicate, with sum 1. With ``clusters`` (P,) whole clusters are drawn."""
    unit, weights = _drawn_units(problems, clusters, rng, replicates)
    drawn = weights.T[unit]
    return np.asarray(drawn / drawn.sum(axis=0))


def _drawn_units(
    problems: int, clusters: npt.ArrayLike | None, rng: np.random.Generator, replicates: int
) -> tuple[Int64[np.ndarray, " P"], Float64[np.ndarray, "B U"]]:
    """The unit of each problem (itself, or its cluster), and how often each replicate draws each unit."""
    unit = np.arange(problems) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    return unit, _drawn(np.ones(int(unit.max()) + 1, np.int64), rng, replicates)


def _drawn(
    multiplicity: Int64[np.ndarray, " U"], rng: np.random.Generator, replicates: int
) -> Float64[np.ndarray, "B U"]:
    """How often each replicate draws each unit; ``multiplicity`` is the number of equal units."""
    total = int(multiplicity.sum())
    weights = np.empty((replicates, len(multiplicity)))
    for start in range(0, replicates, _AT_ONCE):  # the same draws as all at once, without their copy as whole numbers
        rows = weights[start : start + _AT_ONCE]
        rows[:] = rng.multinomial(total, multiplicity / total, size=len(rows))
    return weights


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

    Problems are resampled, or whole clusters where ``clusters`` (P,) has a label per problem. Other arguments as in
    ``pass_at_k``, method and coverage as in ``bootstrap_mean``. All k use the same replicates. Problems with n < k are
    left out at that k, and ``n_problems`` does not count them. Limits rise with k over the budgets that all problems
    have (``rising``). Raises ``BadArgument``: as ``pass_at_k``, or clusters disagree in shape.
    """
    c, n = check_counts(n_correct, n_samples)
    pairs, budgets = distinct_counts(c, n), check_budgets(ks)
    values = pass_of_pairs(pairs, budgets)
    if clusters is None:  # problems with the same (n, c) are interchangeable: resample how often each pair occurs
        units = _units(values, None, pairs.multiplicity)
    else:
        units = _units(np.take(values, pairs.row, axis=0), clusters, None)
    return rising_limits(_mean_interval(units, rng, options or Resampling()), budgets)


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: npt.ArrayLike | None = None,
    options: Resampling | None = None,
) -> Interval:
    """Mean over problems of any per-problem rate in [0, 1], (P, K), with a bootstrap interval for new problems, (K,).

    With at least 30 units (problems, or clusters of them), the score bootstrap: the studentized bootstrap (Efron and
    Tibshirani 1993, sec. 12.5) with Wilson's pivot (mean - mu) / sqrt(s^2 mu (1 - mu) / (mean (1 - mean))), whose
    quantiles are at least Student's. Its limits are in [0, 1], it is never wider than the empirical Bernstein bound
    (Maurer and Pontil 2009), which is valid for any values, and it always allows for a share of problems of kinds not
    in the sample (``allow_for_unseen``). With fewer than 30 units its coverage would be 70-99 %, so
    ``dirichlet_limits`` are used, which are valid for any values. Coverage of a 95 % interval in many regimes:
    docs/statistics.md, made by benchmarks/coverage.py. NaN values are left out of their k. Raises ``BadArgument``:
    shapes disagree or a value is outside [0, 1].
    """
    table = check_table("values", values)
    if not (np.nanmin(table, initial=0.0) >= 0 and np.nanmax(table, initial=1.0) <= 1):
        raise BadArgument("values", [float(np.nanmin(table)), float(np.nanmax(table))], "must be in [0, 1]")
    return _mean_interval(_units(table, clusters, None), rng, options or Resampling())


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
    run is left out at that k. Method and coverage as in ``paired_bootstrap_mean``. Raises ``BadArgument``: as
    ``pass_at_k``, or the runs differ in their number of problems.
    """
    budgets = check_budgets(ks)
    tables = []
    for run in (first, second):
        pairs = distinct_counts(*check_counts(*run))
        tables.append(np.take(pass_of_pairs(pairs, budgets), pairs.row, axis=0))
    return paired_bootstrap_mean(tables[0], tables[1], rng=rng, clusters=clusters, options=options)


def paired_bootstrap_mean(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: npt.ArrayLike | None = None,
    options: Resampling | None = None,
) -> PairedInterval:
    """Mean difference of two per-problem estimates (P, K) on the same problems, first minus second, (K,).

    Symmetric studentized bootstrap (Hall 1988), never narrower than the normal interval. Half a pair at plus and at
    minus the largest difference is added to the variance (Agresti and Min 2005), so that the interval is not too narrow
    where few problems are discordant. Where all differences are equal, it is the Clopper-Pearson bound of
    ``unseen_share``. The p-value inverts the interval: it is below 1 - level exactly where 0 is outside the interval.
    In simulation a 95 % interval covers 93-97 % where many problems differ (30 to 300 problems, Beta solve rates), and
    more, up to 100 %, where few do. It covers less where all differences are in the few problems that are unsolved in
    an easy set. Raises ``BadArgument``: shapes disagree.
    """
    tables = check_table("first", first), check_table("second", second)
    if not max(np.nanmax(np.abs(table), initial=0.0) for table in tables) <= 1:
        raise BadArgument("first or second", "a value outside [-1, 1]", "must hold rates, or be rescaled to them")
    if tables[0].shape != tables[1].shape:
        raise BadArgument("second", tables[1].shape, f"must have the shape of first, {tables[0].shape}")
    options = options or Resampling()
    units = _units(tables[0] - tables[1], clusters, None)
    mean, low, high, p_value, z = _run(units, rng, options, _difference_rule)
    method = "symmetric studentized bootstrap"
    return PairedInterval(Interval(mean, low, high, options.level, method, "problems", _n_problems(units)), p_value, z)


def rising_limits(interval: Interval, ks: Int64[np.ndarray, " K"]) -> Interval:
    """``interval`` (K,) with limits that rise with ``ks`` over the budgets at which all problems have a value."""
    whole = interval.n_problems == interval.n_problems.max(initial=0)
    low, high = (rising(np.where(whole, limit, np.nan), ks) for limit in (interval.low, interval.high))
    return dataclasses.replace(
        interval, low=np.where(whole, low, interval.low), high=np.where(whole, high, interval.high)
    )


def _mean_interval(units: _Units, rng: np.random.Generator, options: Resampling) -> Interval:
    mean, low, high, is_few = _run(units, rng, options, _score_rule)
    few = is_few == 1
    if few.any():
        rows = (units.sizes[:, few] > 0).any(axis=1)
        part = dirichlet_limits(
            units.sums[rows][:, few], units.sizes[rows][:, few], units.multiplicity[rows], rng, options.level
        )
        low[few], high[few] = np.minimum(part[0], low[few]), np.maximum(part[1], high[few])
    method = DIRICHLET if few.all() else "score bootstrap"
    return Interval(mean, low, high, options.level, method, "problems", _n_problems(units))


def _n_problems(units: _Units) -> Int64[np.ndarray, " K"]:
    return np.asarray(np.rint(units.multiplicity @ units.sizes).astype(np.int64))


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


def _run(units: _Units, rng: np.random.Generator, options: Resampling, rule: _Rule) -> list[npt.NDArray[np.float64]]:
    """Apply a rule to blocks of budgets, all with the same replicates, and join its (K,) results."""
    weights = _drawn(units.multiplicity, rng, options.replicates)
    parts = [slice(start, start + COLUMNS) for start in range(0, units.sums.shape[1], COLUMNS)]
    blocks = [_Units(units.sums[:, part], units.sizes[:, part], units.multiplicity) for part in parts]
    columns = map_in_order(functools.partial(_of_block, rule, weights, options.level), blocks, jobs=options.jobs)
    return [np.concatenate(column) for column in zip(*columns, strict=True)]


def _of_block(
    rule: _Rule, weights: Float64[np.ndarray, "B U"], level: float, block: _Units
) -> tuple[npt.NDArray[np.float64], ...]:
    return rule(block, weights, level)


def _moments(units: _Units, weights: Float64[np.ndarray, "B U"]) -> _Moments:
    """Mean and its squared standard error per replicate; units are clusters of given sizes (ratio estimator).

    Squared standard error: G/(G-1) sum_g w_g (S_g - mean m_g)^2 / N^2 over the G units with a defined value.
    """
    total, square, size = weights @ units.sums, weights @ units.sums**2, weights @ units.sizes
    size[size == 0] = np.nan
    mean = total / size
    if units.sizes.max() <= 1:  # a unit is a problem, not a cluster: the three products below are already known
        spread, count = square - 2 * mean * total + mean**2 * size, size
    else:
        spread = square - 2 * mean * (weights @ (units.sums * units.sizes)) + mean**2 * (weights @ units.sizes**2)
        count = weights @ (units.sizes > 0)
    spread[spread <= TINY * square] = 0.0
    variance = np.divide(spread * count, (count - 1) * size**2, out=np.zeros_like(mean), where=count > 1)
    return _Moments(mean, variance, count)


def _score_rule(
    units: _Units, weights: Float64[np.ndarray, "B U"], level: float
) -> tuple[Float64[np.ndarray, " K"], ...]:
    """Mean and limits (K,), and 1 where the units are few: there the limits are only those of ``allow_for_unseen``."""
    observed, draws = _moments(units, units.multiplicity[None].astype(np.float64)), _moments(units, weights)
    mean, spread, count = observed.mean[0], observed.mean[0] * (1 - observed.mean[0]), observed.count[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = (draws.mean - mean) / np.sqrt(draws.shrinkage() * spread)
    few = count < FEW_UNITS
    flat = (observed.variance[0] == 0) | np.isnan(mean) | few
    pivots[:, flat] = 0.0
    tails = quantiles(pivots, [0.5 - level / 2, 0.5 + level / 2])
    student = stdtrit(np.maximum(count - 1, 1), 0.5 + level / 2)
    pivot_limits = np.minimum(tails[0], -student), np.maximum(tails[1], student)
    low, high = score_interval(mean, observed.shrinkage()[0], pivot_limits)
    widest = bernstein_radius(observed.variance[0], count, level)
    low, high = np.maximum(low, mean - widest), np.minimum(high, mean + widest)
    low, high = allow_for_unseen((np.where(flat, mean, low), np.where(flat, mean, high)), mean, count, level)
    return mean, low, high, few.astype(np.float64)


def _difference_rule(
    units: _Units, weights: Float64[np.ndarray, "B U"], level: float
) -> tuple[Float64[np.ndarray, " K"], ...]:
    observed, draws = _moments(units, units.multiplicity[None].astype(np.float64)), _moments(units, weights)
    mean, count = observed.mean[0], observed.count[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        floor = HALF_PAIR * (np.abs(units.sums).max(axis=0) / (units.multiplicity @ units.sizes)) ** 2
        pivots = np.nan_to_num(np.abs(draws.mean - mean) / np.sqrt(draws.variance + floor))
        error = np.sqrt(observed.variance[0] + floor)
        pivot = np.abs(mean) / error
        p_value = np.maximum((1 + np.sum(pivots >= pivot, axis=0)) / (1 + len(pivots)), two_sided(pivot, count))
    flat = (observed.variance[0] == 0) | np.isnan(mean)
    unseen = unseen_share(count, level)
    floor_pivot = np.maximum(normal_quantile(level), small_sample_floor(count, level))
    reach = np.maximum(largest_kept(pivots, level), floor_pivot) * error
    low = np.where(flat, mean - (1 + mean) * unseen, np.maximum(mean - reach, -1.0))
    high = np.where(flat, mean + (1 - mean) * unseen, np.minimum(mean + reach, 1.0))
    # For equal differences: the level at which the bound of ``unseen_share`` is 0.
    p_value = np.where(flat, np.minimum(2 * (1 + np.abs(mean)) ** -count, 1.0), p_value)
    z = np.where(flat, -ndtri(p_value / 2), np.maximum(-ndtri(p_value / 2), deviate_beyond(pivot, pivots, count)))
    return mean, low, high, p_value, z
