"""Bootstrap intervals over problems, or clusters of problems, for means of per-problem estimates.

Resampling problems already holds both errors of a claim about new problems: the spread of per-problem estimates is the
spread of the problems plus the noise of their rollouts (law of total variance), so a second, nested resampling of
rollouts would count that noise twice. The claim about *these* problems holds rollout noise only: see
``rollout_interval``.

P problems, K budgets, U resampled units (problems, distinct (n, c) pairs or clusters), B replicates.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from rlvr_bench.errors import BadArgument
from rlvr_bench.parallel import each
from rlvr_bench.stats.intervals import Interval, normal_quantile, score_interval
from rlvr_bench.stats.solve_rate import distinct_counts, pass_of_pairs
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
TINY = 1e-13  # a variance below this share of the mean square is the rounding noise of equal values
FEW_UNITS = 30
HALF_PAIR = 0.5  # Agresti and Min's half discordant pair, in units of the largest difference seen


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How to resample: ``replicates`` draws, two-sided confidence ``level``, blocks of budgets in ``jobs`` processes.

    Results do not depend on ``jobs``.
    """

    replicates: int = 2000
    level: float = 0.95
    jobs: int = 1

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
    values = pass_of_pairs(pairs, check_budgets(ks))
    if clusters is None:  # problems with the same (n, c) are interchangeable: resample how often each pair occurs
        units = _units(values, None, pairs.multiplicity)
    else:
        units = _units(np.take(values, pairs.row, axis=0), clusters, None)
    return _mean_interval(units, rng, options or Resampling(), (0.0, 1.0))


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
    the limits, is never a point (300 of 300 solved gives [0.988, 1]), and in simulation covers better than percentile,
    BCa or studentized intervals for the skewed, 0/1-heavy values of small problem sets; it is never wider than the
    empirical Bernstein bound (Maurer and Pontil 2009), which holds for any values. A 95 % interval covers 93-97 %
    for 100 problems and 92-98 % for 30, with Beta-distributed solve rates, also zero-inflated. It covers less (50-90 %)
    where almost all values are so close to a limit that the few others, which carry the mean, are not in the sample:
    pass@32 of an easy set of 30. From 10 to 15 problems it covers 70-99 %.
    NaN values are left out of their k. Raises ``BadArgument``: shapes disagree or a value is outside the limits.
    """
    table = check_table("values", values)
    low, high = limits
    if not (low <= np.nanmin(table, initial=low) and np.nanmax(table, initial=high) <= high):
        raise BadArgument("values", [float(np.nanmin(table)), float(np.nanmax(table))], f"must lie in {list(limits)}")
    units = _units((table - low) / (high - low), clusters, None)
    return _mean_interval(units, rng, options or Resampling(), limits)


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

    Symmetric studentized bootstrap (Hall 1988), never narrower than the normal interval, with half a pair at plus and
    minus the largest difference added to the variance (Agresti and Min 2005), so that few discordant problems do not
    pass for certainty; where all differences are equal, the Clopper-Pearson bound on an unseen kind of problem. The
    p-value inverts the same pivot at 0. A 95 % interval covers 93-97 % in simulation where many problems differ (30 to
    300 problems, Beta solve rates), and more, up to 100 %, where few do; less where all differences lie in the few
    problems that an easy set leaves unsolved.
    Raises ``BadArgument``: shapes disagree.
    """
    tables = check_table("first", first), check_table("second", second)
    if not max(np.nanmax(np.abs(table), initial=0.0) for table in tables) <= 1:
        raise BadArgument("first or second", "a value outside [-1, 1]", "must hold rates, or be rescaled to them")
    if tables[0].shape != tables[1].shape:
        raise BadArgument("second", tables[1].shape, f"must have the shape of first, {tables[0].shape}")
    options = options or Resampling()
    units = _units(tables[0] - tables[1], clusters, None)
    mean, low, high, p_value = _run(units, rng, options, _difference_rule)
    method = "symmetric studentized bootstrap"
    return PairedInterval(Interval(mean, low, high, options.level, method, "problems", _n_problems(units)), p_value)


def _mean_interval(
    units: _Units, rng: np.random.Generator, options: Resampling, limits: tuple[float, float]
) -> Interval:
    span = limits[1] - limits[0]
    mean, low, high = (limits[0] + span * column for column in _run(units, rng, options, _score_rule))
    return Interval(mean, low, high, options.level, "score bootstrap", "problems", _n_problems(units))


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
    total = int(units.multiplicity.sum())
    weights = rng.multinomial(total, units.multiplicity / total, size=options.replicates).astype(np.float64)
    parts = [slice(start, start + COLUMNS) for start in range(0, units.sums.shape[1], COLUMNS)]
    blocks = [_Units(units.sums[:, part], units.sizes[:, part], units.multiplicity) for part in parts]
    found = each(functools.partial(_of_block, rule, weights, options.level), blocks, jobs=options.jobs)
    return [np.concatenate(column) for column in zip(*found, strict=True)]


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
    if units.sizes.max() <= 1:  # a unit is a problem, not a cluster: the three products below are known already
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
    own, draws = _moments(units, units.multiplicity[None].astype(np.float64)), _moments(units, weights)
    mean, spread = own.mean[0], own.mean[0] * (1 - own.mean[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = (draws.mean - mean) / np.sqrt(draws.shrinkage() * spread)
    flat = (own.variance[0] == 0) | np.isnan(mean)
    pivots[:, flat] = 0.0
    tails = _quantiles(pivots, [0.5 - level / 2, 0.5 + level / 2])
    floor = _small_sample_floor(own.count[0], level)
    low, high = score_interval(mean, own.shrinkage()[0], (np.minimum(tails[0], -floor), np.maximum(tails[1], floor)))
    widest = _bernstein_radius(own.variance[0], own.count[0], level)
    low, high = np.maximum(low, mean - widest), np.minimum(high, mean + widest)
    unseen = _unseen_share(own.count[0], level)
    low, high = np.where(flat, mean * (1 - unseen), low), np.where(flat, mean + (1 - mean) * unseen, high)
    return mean, low, high


def _difference_rule(
    units: _Units, weights: Float64[np.ndarray, "B U"], level: float
) -> tuple[Float64[np.ndarray, " K"], ...]:
    own, draws = _moments(units, units.multiplicity[None].astype(np.float64)), _moments(units, weights)
    mean = own.mean[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        floor = HALF_PAIR * (np.abs(units.sums).max(axis=0) / (units.multiplicity @ units.sizes)) ** 2
        pivots = np.abs(draws.mean - mean) / np.sqrt(draws.variance + floor)
        error = np.sqrt(own.variance[0] + floor)
        p_value = (1 + np.sum(pivots >= np.abs(mean) / error, axis=0)) / (1 + len(pivots))
    flat = (own.variance[0] == 0) | np.isnan(mean)
    pivots[:, flat] = 0.0
    unseen = _unseen_share(own.count[0], level)
    floor_pivot = np.maximum(normal_quantile(level), _small_sample_floor(own.count[0], level))
    reach = np.maximum(_quantiles(pivots, [level])[0], floor_pivot) * error
    low = np.where(flat, mean - (1 + mean) * unseen, np.maximum(mean - reach, -1.0))
    high = np.where(flat, mean + (1 - mean) * unseen, np.minimum(mean + reach, 1.0))
    p_value = np.where(flat & (mean == 0), 1.0, p_value)
    return mean, low, high, np.where(np.isnan(mean), np.nan, p_value)


def _bernstein_radius(
    variance: Float64[np.ndarray, " K"], count: Float64[np.ndarray, " K"], level: float
) -> Float64[np.ndarray, " K"]:
    """Half-width that no mean of values in [0, 1] needs to exceed, whatever their distribution (``variance``: of the mean).

    Maurer and Pontil 2009 (arXiv 0907.3740), theorem 4, each side at half the error. It holds the score bootstrap back where
    one value carries the whole mean, of which a resample without it says nothing: all but one of 300 at 1e-40.
    """
    log = math.log(4 / (1 - level))
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt(2 * variance * log) + 7 * log / (3 * (count - 1)))


def _small_sample_floor(count: Float64[np.ndarray, " K"], level: float) -> Float64[np.ndarray, " K"]:
    """Student's quantile for few units, whose replicates too often draw nearly equal values; else 0."""
    quantile = stdtrit(np.maximum(count - 1, 1), 0.5 + level / 2)
    return np.where(count < FEW_UNITS, quantile, 0.0)


def _unseen_share(count: Float64[np.ndarray, " K"], level: float) -> Float64[np.ndarray, " K"]:
    """Largest share of units unlike all seen ones: the Clopper-Pearson bound for 0 of ``count``, two-sided."""
    return np.asarray(0.0 - np.expm1(np.log(0.5 - level / 2) / np.maximum(count, 1)))


def _quantiles(draws: Float64[np.ndarray, "B K"], shares: list[float]) -> Float64[np.ndarray, "Q K"]:
    """Quantiles down each column; replicates that drew only undefined values are left out."""
    draws[:, np.isnan(draws).all(axis=0)] = 0.0
    pick = np.nanquantile if np.isnan(draws).any() else np.quantile
    return np.asarray(pick(draws, shares, axis=0))
