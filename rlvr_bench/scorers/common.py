"""What scorers share: a fixed random stream, clusters, per-problem means, and an interval for a mean without limits."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from rlvr_bench.records import Estimate, Outcomes

__all__ = ["clusters_of", "fresh_rng", "mean_estimate", "optional", "problem_means"]

_SEED = 20250807
LEVEL = 0.95


def fresh_rng() -> np.random.Generator:
    """The bootstrap's random stream, the same in every run: rescoring a run gives the same scorecard."""
    return np.random.default_rng(_SEED)


def clusters_of(outcomes: Outcomes, drawn: npt.NDArray[np.bool_]) -> npt.NDArray[np.str_] | None:
    """Cluster label per drawn problem, a problem without one being its own; None where no problem has one."""
    if not any(outcomes.clusters):
        return None
    labels = [cluster or f"\0{name}" for cluster, name in zip(outcomes.clusters, outcomes.problem_ids, strict=True)]
    return np.array(labels)[drawn]


def optional(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)


def problem_means(outcomes: Outcomes, values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Mean of a per-rollout value (R,) for each problem (P,), NaN values left out; NaN for a problem without any.

    Problems count equally however many rollouts each has: pooling would let those with more rollouts speak louder.
    """
    numbers = values.astype(np.float64)
    valid = ~np.isnan(numbers)
    size = len(outcomes.problem_ids)
    sums = np.bincount(outcomes.problem[valid], weights=numbers[valid], minlength=size)
    counts = np.bincount(outcomes.problem[valid], minlength=size)
    means = np.full(size, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def mean_estimate(name: str, means: npt.NDArray[np.float64], *, floor: float, group: str | None = None) -> Estimate:
    """Mean over problems (P,) with Student's t interval, cut at the smallest possible value."""
    known = means[~np.isnan(means)]
    n = len(known)
    if not n:
        return Estimate(name=name, value=None, group=group, method="mean over problems", note="not measured")
    value, low, high = float(known.mean()), None, None
    if n > 1:
        half = float(special.stdtrit(n - 1, 0.5 + LEVEL / 2) * known.std(ddof=1) / math.sqrt(n))
        low, high = max(floor, value - half), value + half
    method = "mean over rollouts, then problems; t interval over problems"
    return Estimate(name=name, value=value, low=low, high=high, level=LEVEL, group=group, method=method, n_problems=n)
