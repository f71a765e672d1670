"""How much worse a run is than its baseline, with one-sided limits and the p-value at the tolerance."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from rlvr_bench import stats
from rlvr_bench.stats.intervals import score_interval
from rlvr_bench.stats.sequential import ONE_LOOK, REPLICATES_OF_LOOKS, Looks

__all__ = ["Evidence", "RateMean", "about_new_problems", "about_these_problems", "mean_of"]

REPLICATES_PER_RULE = 200
FEWEST_REPLICATES = 2000
FARTHEST = 40.0  # standard errors
STEPS = 45
Counts = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A mean difference ``value`` over ``n_problems``, with one-sided limits ``low`` and ``high`` at the level asked.

    ``p_value`` is that of a true difference of at most the tolerance; p-value and limits are valid at ``looks``.
    ``source`` is the error they include: "rollouts", for these same problems, or "problems".
    """

    value: float
    low: float
    high: float
    p_value: float
    n_problems: int
    source: Literal["rollouts", "problems", "none"]
    method: str
    looks: Looks = ONE_LOOK


@dataclasses.dataclass(frozen=True)
class RateMean:
    """A mean rate and its shrinkage, Var(mean) / (mean (1 - mean)), from which score intervals at any level follow."""

    value: float
    shrinkage: float

    def limits(self, z: float) -> tuple[float, float]:
        edge = np.array([z])
        low, high = score_interval(np.array([self.value]), np.array([self.shrinkage]), (-edge, edge))
        return float(low[0]), float(high[0])


def about_these_problems(
    first: Counts, second: Counts, k: int, tolerance: float, level: float, looks: Looks = ONE_LOOK
) -> Evidence:
    """Mean pass@k of ``first`` minus ``second``, both (n_correct, n_samples), with the error of rollouts only.

    Both have the same problems. Given these, the two runs are independent, so problems are neither resampled nor
    paired. The limits are Newcombe's (1998, method 10) in the form of Zou and Donner (2008): the error of each run in
    each direction is from its score interval for the sampling of rollouts (``stats.rollout_interval``), and the squares
    of the errors are added. The p-value inverts the limits. Problems with fewer than k rollouts in either run must be
    left out.
    """
    means = [mean_of(run, k, level) for run in (first, second)]
    value = means[0].value - means[1].value
    low, high = _limits(means[0], means[1], looks.quantile(level))
    return Evidence(
        value=value,
        low=low,
        high=high,
        p_value=looks.p_value(_standard_errors(means[0], means[1], tolerance)),
        n_problems=len(first[0]),
        source="rollouts",
        method="score intervals over rollouts, combined (Newcombe 1998)",
        looks=looks,
    )


def about_new_problems(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    tolerance: float,
    level: float,
    groups: npt.NDArray[np.str_] | None,
    rules: int,
    looks: Looks = ONE_LOOK,
) -> Evidence:
    """Mean of ``first`` minus ``second``, (P,) each, by a paired bootstrap over problems (or clusters).

    For claims about other problems of the same kind and new rollouts (``stats.paired_bootstrap_mean``). The number of
    replicates is large enough for a small p-value after the correction over ``rules``.
    """
    fewest = FEWEST_REPLICATES if looks.information is None else REPLICATES_OF_LOOKS
    scale = max(1.0, float(np.abs([first, second]).max())) + tolerance  # the bootstrap needs values in [-1, 1]
    bootstrap = stats.paired_bootstrap_mean(
        (first - tolerance) / scale,
        second / scale,
        rng=stats.fresh_rng(),
        clusters=groups,
        options=stats.Resampling(max(fewest, REPLICATES_PER_RULE * rules), looks.single_level(2 * level - 1)),
    )
    interval = bootstrap.difference
    z = -float(ndtri(bootstrap.p_value[0] / 2)) if looks.information is None else float(bootstrap.z[0])
    value, low, high = (float(limit[0]) * scale + tolerance for limit in (interval.value, interval.low, interval.high))
    return Evidence(
        value=value,
        low=low,
        high=high,
        p_value=looks.p_value(z if value > tolerance else -z),
        n_problems=int(interval.n_problems[0]),
        source="problems",
        method=f"{interval.method} over problems, paired",
        looks=looks,
    )


def mean_of(run: Counts, k: int, level: float) -> RateMean:
    """Mean pass@k of (n_correct, n_samples), with the error of rollouts only."""
    interval = stats.rollout_interval(*run, [k], 2 * level - 1)
    value = float(interval.value[0])
    edge = float((interval.high if value < 0.5 else interval.low)[0])
    spread = float(ndtri(level)) ** 2 * edge * (1 - edge)
    return RateMean(value, (edge - value) ** 2 / spread if spread > 0 else 0.0)


def _limits(first: RateMean, second: RateMean, z: float) -> tuple[float, float]:
    (low1, high1), (low2, high2) = first.limits(z), second.limits(z)
    value = first.value - second.value
    low = value - math.hypot(first.value - low1, high2 - second.value)
    return low, value + math.hypot(high1 - first.value, second.value - low2)


def _standard_errors(first: RateMean, second: RateMean, tolerance: float) -> float:
    """Standard errors from the tolerance to the difference: the z at which a limit is equal to the tolerance."""
    above = first.value - second.value > tolerance
    near, far = 0.0, FARTHEST
    for _ in range(STEPS):
        z = (near + far) / 2
        low, high = _limits(first, second, z)
        inside = low > tolerance if above else high < tolerance
        near, far = (z, far) if inside else (near, z)
    return near if above else -near
