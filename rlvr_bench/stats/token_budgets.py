"""pass@k on an axis of total cost: what k rollouts of a problem use, in tokens.

A policy that draws floor(k) rollouts, and one more with probability k - floor(k), uses k rollouts on average. So pass@k
between two whole k is the line between them, and every point of the axis is a budget that can be spent.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.solve_rate import pass_at_k

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Bool, Float64, Int64

__all__ = ["Splits", "best_splits", "pass_at_cost"]

SPLITS = 50  # random halves; each is used both ways
_NEVER = -1.0


@dataclasses.dataclass(frozen=True)
class Splits:
    """The best cap at X budgets, of C caps; the last cap is the largest. P problems.

    ``cap`` (X,) and ``k`` (X,): the best cap of all rollouts and its number of rollouts, and ``naive`` (X,) its value on
    these same rollouts. ``fresh`` (P, X): values of each problem at the cap that one half of its rollouts chose, from the
    other half; ``largest`` (P, X): those at the largest cap, from the same halves. Their means are the estimates.
    ``chosen`` (X, C): how often the halves chose each cap. NaN, or -1 for ``cap``, where no cap (for
    ``largest``: where the largest cap does not) fits the budget.
    """

    cap: Int64[np.ndarray, " X"]
    k: Float64[np.ndarray, " X"]
    naive: Float64[np.ndarray, " X"]
    fresh: Float64[np.ndarray, "P X"]
    largest: Float64[np.ndarray, "P X"]
    chosen: Float64[np.ndarray, "X C"]


def pass_at_cost(
    passes: Float64[np.ndarray, "P K"],
    ks: npt.ArrayLike,
    cost: Float64[np.ndarray, " P"],
    budgets: npt.ArrayLike,
) -> Float64[np.ndarray, "P X"]:
    """Values of each problem whose mean over problems is pass@k at k = budget / mean cost of a rollout.

    ``passes``: pass@k of each problem at the increasing budgets ``ks``; ``cost`` (P,): mean cost of a rollout of each
    problem; ``budgets`` (X,): total costs per problem, averaged over problems. The mean cost is an estimate too: a
    problem's value includes its influence on it, -pass'(k) k (cost / mean cost - 1) (the infinitesimal jackknife, Efron
    and Tibshirani 1993, sec. 21.3), so that means of resampled values vary as the recomputed estimate does. NaN where k
    is outside of ``ks``. Raises BadArgument where a cost is not above 0.
    """
    grid, total = np.asarray(ks, dtype=np.float64), np.asarray(budgets, dtype=np.float64)
    if not (cost > 0).all():
        raise BadArgument("cost", float(np.min(cost)), "every problem must cost more than 0")
    mean = float(cost.mean())
    k = total / mean
    left = np.clip(np.searchsorted(grid, k, side="right") - 1, 0, max(len(grid) - 2, 0))
    right = np.minimum(left + 1, len(grid) - 1)
    gap = np.maximum(grid[right] - grid[left], 1.0)
    rise = (passes[:, right] - passes[:, left]) / gap
    values = passes[:, left] + rise * (k - grid[left])
    influence = rise.mean(axis=0) * k * (cost / mean - 1)[:, None]
    inside = (k >= grid[0] * (1 - 1e-12)) & (k <= grid[-1] * (1 + 1e-12))
    return np.where(inside, values - influence, np.nan)


def best_splits(
    correct: Bool[np.ndarray, "R C"],
    cost: npt.NDArray[np.number],
    problem: npt.NDArray[np.integer],
    budgets: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    splits: int = SPLITS,
) -> Splits:
    """The best way to spend a budget: how long rollouts may be, and so how many there are.

    ``correct`` and ``cost`` (R, C) of R rollouts at C caps; ``problem`` (R,): their problems, 0 to P - 1, each with at
    least two rollouts. The best of several estimates is biased upwards. So a random half of each problem's rollouts
    chooses the cap, and the other half gives its value; both ways, over ``splits`` random halves. A cap fits a budget
    where k is at least 1 and at most half of the fewest rollouts of a problem.
    """
    total = np.asarray(budgets, dtype=np.float64)
    size = np.bincount(problem)
    most = int(size.min(initial=2**31)) // 2
    if not len(size) or most < 1:
        raise BadArgument("problem", int(size.min(initial=0)), "every problem needs at least two rollouts")
    ks = total[:, None] / _problem_means(cost, problem, size).mean(axis=0)
    slack = 1e-9  # a budget of whole rollouts is one, in spite of rounding
    fits, row = (ks >= 1 - slack) & (ks <= most + slack), np.arange(total.size)
    fresh, largest = np.zeros((len(size), total.size)), np.zeros((len(size), total.size))
    chosen = np.zeros((total.size, correct.shape[1]))
    for _ in range(splits):
        tables = [
            _values(correct[rows], cost[rows], problem[rows], total, most) for rows in _halves(problem, size, rng)
        ]
        for mine, other in (tables, tables[::-1]):
            best = _best(mine, fits)
            chosen[row, best] += 1
            fresh += other[:, row, best]
            largest += other[:, :, -1]
    whole = _values(correct, cost, problem, total, most)
    best, known = _best(whole, fits), fits.any(axis=1)
    return Splits(
        cap=np.where(known, best, -1),
        k=np.where(known, ks[row, best], np.nan),
        naive=np.where(known, whole.mean(axis=0)[row, best], np.nan),
        fresh=np.where(known, fresh / (2 * splits), np.nan),
        largest=np.where(fits[:, -1], largest / (2 * splits), np.nan),
        chosen=chosen / (2 * splits),
    )


def _halves(
    problem: npt.NDArray[np.integer], size: Int64[np.ndarray, " P"], rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """The rows of two random halves of each problem's rollouts, of equal size."""
    order = np.lexsort((rng.random(len(problem)), problem))
    rank = np.arange(len(problem)) - np.repeat(np.cumsum(size) - size, size)
    half = (size // 2)[problem[order]]
    return [order[rank < half], order[(rank >= half) & (rank < 2 * half)]]


def _values(
    correct: npt.NDArray[np.bool_],
    cost: npt.NDArray[np.number],
    problem: npt.NDArray[np.integer],
    budgets: Float64[np.ndarray, " X"],
    most: int,
) -> Float64[np.ndarray, "P X C"]:
    """``pass_at_cost`` of each problem, budget and cap, with k moved into 1 to ``most`` where it is outside."""
    size = np.bincount(problem)
    means = _problem_means(cost, problem, size)
    right = np.stack([np.bincount(problem[column], minlength=len(size)) for column in correct.T], axis=1)
    columns = []
    for c, spent in zip(right.T, means.T, strict=True):
        wanted = np.clip(budgets / spent.mean(), 1, most)
        low = np.floor(wanted).astype(np.int64)
        ks = np.unique(np.concatenate([low, np.minimum(low + 1, most)]))
        columns.append(pass_at_cost(pass_at_k(c, size, ks), ks, spent, wanted * spent.mean()))
    return np.stack(columns, axis=2)


def _problem_means(
    cost: npt.NDArray[np.number], problem: npt.NDArray[np.integer], size: Int64[np.ndarray, " P"]
) -> Float64[np.ndarray, "P C"]:
    sums = [np.bincount(problem, weights=column, minlength=len(size)) for column in cost.T]
    return np.asarray(np.stack(sums, axis=1) / size[:, None])


def _best(values: Float64[np.ndarray, "P X C"], fits: Bool[np.ndarray, "X C"]) -> Int64[np.ndarray, " X"]:
    """The cap with the highest mean of those that fit each budget, (X,); of equal ones the largest."""
    means = np.where(fits, values.mean(axis=0), _NEVER)
    return np.asarray(means.shape[1] - 1 - np.argmax(means[:, ::-1], axis=1))
