"""Shared parts of scorers: a fixed random stream, clusters, per-problem means, and estimates with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.stats.few_units import DIRICHLET

__all__ = [
    "FEWEST_CLUSTERS",
    "cluster_labels",
    "clusters_of",
    "fewest",
    "left_out",
    "mean_estimate",
    "optional",
    "problem_blocks",
    "problem_means",
    "rate_estimates",
    "rates_or_bounds",
    "stated",
    "too_few",
    "with_bounds",
    "with_intervals",
]

AT_LEAST = (
    "fewer than 30 problems or clusters: the interval holds for any distribution of rates, more often than its level"
)
PERHAPS_LESS = (
    "fewer than 10 problems or clusters: a t interval, which may hold less often than its level where values are skewed"
)
FEW_FOR_T = 10
FEWEST_CLUSTERS = 4
BLOCK = 2**18  # rollouts per block: a small part of a large run's memory


def clusters_of(outcomes: Outcomes, drawn: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.str_] | None:
    """``cluster_labels`` of the (drawn) problems."""
    return cluster_labels(outcomes.clusters, outcomes.problem_ids, drawn)


def cluster_labels(
    clusters: Sequence[str], ids: Sequence[str], drawn: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.str_] | None:
    """Cluster label per (drawn) problem; a problem without a label is a cluster of size 1.

    None where no problem has a label, or where there are fewer than ``FEWEST_CLUSTERS``, too few to estimate the
    variance between clusters.
    """
    if not any(clusters):
        return None
    labels = np.array([cluster or f"\0{name}" for cluster, name in zip(clusters, ids, strict=True)])
    labels = labels if drawn is None else labels[drawn]
    return labels if len(np.unique(labels)) >= FEWEST_CLUSTERS else None


def optional(value: float) -> float | None:
    """The number, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else float(value)


def fewest(outcomes: Outcomes, used: npt.NDArray[np.bool_] | None = None) -> int:
    """Smallest number of (used, (R,)) rollouts among the problems that have any; 0 if there are none."""
    problem = outcomes.problem if used is None else outcomes.problem[used]
    counts = np.bincount(problem, minlength=1)
    return int(counts[counts > 0].min(initial=np.iinfo(np.int64).max)) if counts.any() else 0


def left_out(few: int, problems: int, k: int, what: str = "rollouts") -> str | None:
    """The note about problems that a budget leaves out, or None if there are none."""
    if not few:
        return None
    return f"{few} of {problems} problems have fewer than {k} {what} and are left out"


def too_few(few: int, problems: int, k: int) -> str | None:
    """The note on problems that lack rollouts for a budget, None where there are none."""
    return (
        f"{few} of {problems} problems have fewer than {k} rollouts: bounds over what these could be" if few else None
    )


def problem_means(outcomes: Outcomes, values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Mean of a per-rollout value (R,) for each problem (P,), NaN values left out; NaN for a problem without any.

    All problems have the same weight. Pooling rollouts would give more weight to problems with more rollouts.
    """
    problem, size = outcomes.problem, len(outcomes.problem_ids)
    if np.issubdtype(values.dtype, np.floating) and (missing := np.isnan(values)).any():
        problem, values = problem[~missing], values[~missing]
    sums = np.bincount(problem, weights=values, minlength=size)
    counts = np.bincount(problem, minlength=size)
    means = np.full(size, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def problem_blocks(n: npt.NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Slices of problems and of their rollouts, for ``n`` rollouts per problem (P,).

    A block has at most ``BLOCK`` rollouts, or one problem.
    """
    end = np.cumsum(n)
    start = 0
    while start < len(n):
        first = int(end[start] - n[start])
        stop = max(start + 1, int(np.searchsorted(end, first + BLOCK, side="right")))
        yield slice(start, stop), slice(first, int(end[stop - 1]))
        start = stop


def stated(outcomes: Outcomes, name: str, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """``values`` (R,) computed from column ``name``; all NaN if the run's source lacks that column for some rollout."""
    return np.broadcast_to(np.nan, values.shape) if name in outcomes.unknown else values


def mean_estimate(
    label: Estimate,
    means: npt.NDArray[np.float64],
    *,
    floor: float = -math.inf,
    clusters: npt.NDArray[np.str_] | None = None,
) -> Estimate:
    """``label`` with the mean over problems (P,), NaN left out, and Student's t interval.

    The lower limit is at least ``floor``. For values without an upper limit, such as entropies. ``clusters`` (P,): with
    G clusters the standard error is that of the ratio estimator over cluster sums, with G - 1 degrees of freedom.
    """
    known = ~np.isnan(means)
    values, labels = means[known], None if clusters is None else clusters[known]
    n = len(values)
    method = label.method or "mean over rollouts, then problems"
    if not n:
        return msgspec.structs.replace(label, value=None, method=method, note=label.note or "not measured")
    value, low, high = float(values.mean()), None, None
    units = np.arange(n) if labels is None else np.unique(labels, return_inverse=True)[1]
    deviations = np.bincount(units, weights=values - value)
    if (count := len(deviations)) > 1:
        error = math.sqrt(count / (count - 1) * float(deviations @ deviations)) / n
        half = float(special.stdtrit(count - 1, 0.5 + stats.LEVEL / 2)) * error
        low, high = max(floor, value - half), value + half
    method += "; t interval over problems" if labels is None else "; t interval over clusters of problems"
    caveat = PERHAPS_LESS if 1 < count < FEW_FOR_T else None
    completed = msgspec.structs.replace(label, value=value, low=low, high=high, level=stats.LEVEL, method=method)
    return msgspec.structs.replace(completed, n_problems=n, caveat=caveat)


def rate_estimates(
    labels: Sequence[Estimate],
    values: npt.NDArray[np.float64],
    clusters: npt.NDArray[np.str_] | None = None,
    *,
    as_count: bool = False,
) -> list[Estimate]:
    """``labels`` with means over problems of rates in [0, 1], (P, K), one column per label, and their intervals.

    NaN values are left out. ``as_count``: value and interval are multiplied by the number of problems, for the expected
    size of a set of problems. The interval is for other problems of the same kind (``stats.bootstrap_mean``).
    """
    if not labels or not len(values):
        return []
    interval = stats.bootstrap_mean(values, rng=stats.fresh_rng(), clusters=clusters)
    return with_intervals(labels, interval, as_count=as_count)


def with_intervals(labels: Sequence[Estimate], interval: stats.Interval, *, as_count: bool = False) -> list[Estimate]:
    """``labels`` with the K estimates of ``interval``; a label's method comes before that of the interval."""
    estimates = []
    for i, label in enumerate(labels):
        size = int(interval.n_problems[i])
        value, low, high = (
            optional(float(limit[i]) * (size if as_count else 1))
            for limit in (interval.value, interval.low, interval.high)
        )
        method = f"{label.method}; {interval.method} over {interval.source}".removeprefix("; ")
        completed = msgspec.structs.replace(label, value=value, low=low, high=high, level=interval.level, method=method)
        caveat = AT_LEAST if interval.method == DIRICHLET else None
        estimates.append(msgspec.structs.replace(completed, n_problems=size, caveat=caveat))
    return estimates


def with_bounds(
    labels: Sequence[Estimate],
    bounds: stats.PassBounds,
    clusters: npt.NDArray[np.str_] | None = None,
    *,
    as_count: bool = False,
) -> list[Estimate]:
    """``labels`` with the means of bounds of each problem, (P, K); the interval contains the error of both.

    If a label has no note, only verdicts are missing: its value is the lower bound, in which these rollouts are not
    correct. ``as_count``: the number of unsolved problems, sum of 1 - pass@k; the value is then the upper bound.
    """
    low, high = (1 - bounds.high, 1 - bounds.low) if as_count else (bounds.low, bounds.high)
    lower, upper = (
        rate_estimates(labels, np.clip(bound, 0.0, 1.0), clusters, as_count=as_count) for bound in (low, high)
    )
    return [
        msgspec.structs.replace(
            least,
            value=(most if as_count else least).value if label.note is None else None,
            high=most.high,
            at_least=least.value,
            at_most=most.value,
        )
        for label, least, most in zip(labels, lower, upper, strict=True)
    ]


def rates_or_bounds(
    labels: Sequence[Estimate], values: npt.NDArray[np.float64], clusters: npt.NDArray[np.str_] | None
) -> list[Estimate]:
    """``rate_estimates``; for a label with a note, bounds: its NaN values (P,) are replaced by 0 and by 1."""
    plain = rate_estimates(labels, values, clusters)
    if not any(label.note for label in labels):
        return plain
    missing = np.isnan(values)
    bounds = stats.PassBounds(np.where(missing, 0.0, values), np.where(missing, 1.0, values))
    return [
        either if label.note else value
        for label, value, either in zip(labels, plain, with_bounds(labels, bounds, clusters), strict=True)
    ]
