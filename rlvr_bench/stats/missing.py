"""pass@k where rollouts or verdicts are missing: bounds instead of a mean over the other problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.stats.relabelled import PassBounds
from rlvr_bench.stats.solve_rate import pass_at_k
from rlvr_bench.stats.validation import check_budgets, check_counts

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = ["n_rises_as_rate_falls", "pass_bounds", "pass_bounds_any_rule"]

_SEED = 20250807
SHUFFLES = 9999
CHUNK = 1000
FEWEST = 8  # problems; with fewer, the test has too little power
DISORDER = 0.1  # largest share of the problems that an interrupted top-up may have been drawing


def pass_bounds(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> PassBounds:
    """pass@k of each problem, (P, K): the unbiased estimate in both bounds where k <= n, else pass@n and 1.

    pass@k rises with k and is at most 1, so pass@n <= pass@k <= 1 for any results of the rollouts that were not drawn.
    The number of rollouts must not depend on their verdicts; if it does, use ``pass_bounds_any_rule``. A problem
    without rollouts has the bounds 0 and 1. Raises ``BadArgument``: as ``pass_at_k``.
    """
    c, n = check_counts(n_correct, n_samples)
    value = pass_at_k(c, n, ks)
    missing = np.isnan(value)
    return PassBounds(np.where(missing, c[:, None] > 0, value), np.where(missing, 1.0, value))


def pass_bounds_any_rule(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> PassBounds:
    """Bounds of pass@k of each problem, (P, K), valid for any rule that decided from the verdicts when to stop.

    The rule may differ between problems, but each problem must have at least the smallest n of all. The order of the
    rollouts is not known. If c of n rollouts are correct, then between max(0, c - (n - m)) and min(c, m) of the first m
    are. For k up to the smallest n, the bounds are pass@k of these two counts with m the smallest n, a sample that no
    rule selected. For larger k they are bounds of "one of the first k is correct", which is 1 for a problem that was
    solved before k. Raises ``BadArgument``: as ``pass_at_k``.
    """
    c, n = check_counts(n_correct, n_samples)
    budgets = check_budgets(ks)
    always = int(n.min())
    low, high = (np.zeros((n.size, budgets.size)) for _ in range(2))
    for i, k in enumerate(budgets.tolist()):
        m = np.minimum(max(always, k), n)
        fewest, most = np.maximum(c - (n - m), 0), np.minimum(c, m)
        if k <= always:
            low[:, i], high[:, i] = pass_at_k(fewest, m, k)[:, 0], pass_at_k(most, m, k)[:, 0]
        else:
            low[:, i], high[:, i] = fewest > 0, (most > 0) | (n < k)
    return PassBounds(low, high)


def n_rises_as_rate_falls(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike) -> float:
    """p-value of the hypothesis that n does not depend on the verdicts, against a rule that stops on success.

    From each problem's n rollouts with c correct, a random subset of the smallest n is counted. If n does not depend on
    the verdicts, these counts are exchangeable over problems, even where the n differ a lot. The statistic is the rank
    correlation with n, one-sided (negative); the permutation test is exact. The result is 1 where all n are equal,
    where there are fewer than 8 problems, and where the order of the problems explains n: an interrupted top-up has
    drawn more for the first problems than for the others, except for up to a tenth of the problems, which it was
    drawing then. Raises ``BadArgument``: as ``pass_at_k``.
    """
    c, n = check_counts(n_correct, n_samples)
    c, n = c[n > 0], n[n > 0]
    if len(n) < FEWEST or n.min() == n.max() or _is_interrupted(n):
        return 1.0
    rng = np.random.default_rng(_SEED)
    thinned = rng.hypergeometric(c, n - c, int(n.min()))
    x, y = _centred_ranks(n), _centred_ranks(thinned)
    observed = float(x @ y)
    lower = sum(
        int(np.sum(rng.permuted(np.tile(y, (min(CHUNK, SHUFFLES - start), 1)), axis=1) @ x <= observed + 1e-9))
        for start in range(0, SHUFFLES, CHUNK)
    )
    return (1 + lower) / (1 + SHUFFLES)


def _is_interrupted(n: npt.NDArray[np.int64]) -> bool:
    """Whether n decreases with the index of the problem, except within a short range of neighbouring problems."""
    more_follows = np.maximum.accumulate(n[::-1])[::-1] > n
    fewer_before = np.minimum.accumulate(n) < n
    out_of_order = np.flatnonzero(more_follows | fewer_before)
    return not len(out_of_order) or int(np.ptp(out_of_order)) < DISORDER * len(n)


def _centred_ranks(values: npt.NDArray[np.int64]) -> Float64[np.ndarray, " P"]:
    """Mid-ranks less their mean."""
    _, row, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[row.ravel()]
    return np.asarray(ranks - ranks.mean())
