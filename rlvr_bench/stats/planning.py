"""Sample size and power of a paired test of pass@k, for assumed solve rates. M model problems.

Both runs answer the same problems, so the test is of the mean difference over problems. Its variance has two parts: the
variance of the true differences over problems, and the rollout noise of both runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaincinv, expit, gammaln, logit, ndtr, ndtri, stdtrit, xlog1py, xlogy

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.resampling import HALF_PAIR
from rlvr_bench.stats.solve_rate import failure_at_k
from rlvr_bench.stats.validation import check_count, check_probability

if TYPE_CHECKING:
    from jaxtyping import Float64

__all__ = ["Change", "assumed_rates", "change_of", "comparison_power", "problems_for", "rollout_variance"]

MODEL_PROBLEMS = 4000
GRID = 1600
MOST_PROBLEMS = 10_000_000
Part = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Change:
    """Solve rates (M,) of the first and the second run, and the mean difference in pass@k between them."""

    first: Float64[np.ndarray, " M"]
    second: Float64[np.ndarray, " M"]
    k: int
    difference: float


def assumed_rates(parts: Sequence[Part]) -> Float64[np.ndarray, " M"]:
    """Solve rates at evenly spaced quantiles of a mixture of Beta distributions, (M,).

    A part is (weight, alpha, beta); alpha = 0 is a point mass at 0, beta = 0 a point mass at 1. Raises ``BadArgument``:
    a weight or a parameter is negative or not finite, or both parameters are 0.
    """
    total = sum(weight for weight, _, _ in parts)
    rates = []
    for weight, alpha, beta in parts:
        if not (weight >= 0 and alpha >= 0 and beta >= 0 and alpha + beta > 0 and math.isfinite(weight + alpha + beta)):
            raise BadArgument("rates", (weight, alpha, beta), "must be a weight and two parameters above 0")
        size = round(MODEL_PROBLEMS * weight / total)
        at = (np.arange(size) + 0.5) / max(size, 1)
        edge = 1.0 if beta == 0 else 0.0
        rates.append(np.full(size, edge) if 0 in (alpha, beta) else betaincinv(alpha, beta, at))
    return np.concatenate(rates)


def change_of(first: Float64[np.ndarray, " M"], k: int, difference: float, spread: float) -> Change:
    """A second run whose mean pass@k is higher by ``difference``: the log odds of all problems are shifted equally.

    ``spread``: standard deviation of an additional random shift of each problem. Rates of 0 and 1 do not change. Raises
    ``BadArgument`` where no shift gives this difference.
    """
    budget = check_count("k", k)
    noise = ndtri((np.arange(first.size) + 0.5) / first.size)
    moves = spread * np.random.default_rng(0).permutation(noise)
    before = float(np.mean(_pass(first, budget)))

    def gain(shift: float) -> float:
        return float(np.mean(_pass(expit(logit(first) + moves + shift), budget))) - before

    low, high = -60.0, 60.0
    if not gain(low) < difference < gain(high):
        reach = f"between {100 * gain(low):.1f} and {100 * gain(high):.1f}"
        rule = f"pass@{budget} is {before:.1%} under the assumed solve rates, so it must be {reach} points"
        raise BadArgument("difference", round(100 * difference, 6), rule)
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if gain(middle) < difference else (low, middle)
    return Change(first, expit(logit(first) + moves + low), budget, difference)


def rollout_variance(rates: Float64[np.ndarray, " M"], n: int, k: int) -> Float64[np.ndarray, " M"]:
    """Variance of the unbiased pass@k from n rollouts at solve rates (M,), by enumeration of the number correct.

    Interpolated between 1,600 rates on the logit scale. Raises ``BadArgument``: n or k is below 1, or k is above n.
    """
    if check_count("k", k) > check_count("n", n):
        raise BadArgument("k", k, f"must be at most the rollouts per problem, {n}")
    grid = np.linspace(-16.0, 16.0, GRID)
    p, c = expit(grid)[:, None], np.arange(n + 1)
    log_choose = gammaln(n + 1) - gammaln(c + 1) - gammaln(n - c + 1)
    chance = np.exp(log_choose + xlogy(c, p) + xlog1py(n - c, -p))
    value = 1 - failure_at_k(c, n, k)[:, 0]
    mean = chance @ value
    variance = np.maximum(chance @ value**2 - mean**2, 0.0)
    inside = (rates > 0) & (rates < 1)
    return np.where(inside, np.interp(logit(np.where(inside, rates, 0.5)), grid, variance), 0.0)


def comparison_power(
    change: Change, n_problems: int, n_rollouts: int, *, level: float = 0.95, cluster: tuple[float, float] = (1.0, 0.0)
) -> float:
    """Power of the paired comparison at ``level``, for this many problems and rollouts per problem.

    ``cluster``: problems per cluster, and the intraclass correlation of the true differences. Normal approximation with
    Student's quantile, and with the half pair that ``paired_bootstrap`` adds to the variance. Raises ``BadArgument``:
    as ``rollout_variance``.
    """
    return _power(change, _spread(change, n_rollouts, cluster), check_count("n_problems", n_problems, lowest=2), level)


def problems_for(
    change: Change,
    n_rollouts: int,
    *,
    power: float = 0.8,
    level: float = 0.95,
    cluster: tuple[float, float] = (1.0, 0.0),
) -> int | None:
    """Fewest problems at which ``comparison_power`` reaches ``power``; None above ten million. Same errors."""
    target = check_probability("power", power)
    spread = _spread(change, n_rollouts, cluster)
    low, high = 1, MOST_PROBLEMS
    if _power(change, spread, high, level) < target:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _power(change, spread, middle, level) < target else (low, middle)
    return high


def _spread(change: Change, n: int, cluster: tuple[float, float]) -> tuple[float, float]:
    """Variance of one problem's observed difference, with the design effect, and the largest difference to expect."""
    size, correlation = cluster
    true = _pass(change.second, change.k) - _pass(change.first, change.k)
    noise = sum(rollout_variance(rates, n, change.k) for rates in (change.first, change.second))
    largest = float(np.minimum(np.abs(true) + 2 * np.sqrt(noise), 1.0).max())
    return float(true.var() * (1 + (size - 1) * correlation) + np.mean(noise)), largest


def _power(change: Change, spread: tuple[float, float], problems: int, level: float) -> float:
    error = math.sqrt(spread[0] / problems + HALF_PAIR * (spread[1] / problems) ** 2)
    limit = float(stdtrit(problems - 1, 0.5 + check_probability("level", level) / 2))
    pivot = abs(change.difference) / max(error, 1e-300)
    return float(ndtr(pivot - limit) + ndtr(-pivot - limit))


def _pass(rates: Float64[np.ndarray, " M"], k: int) -> Float64[np.ndarray, " M"]:
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(k * np.log1p(-rates)))
