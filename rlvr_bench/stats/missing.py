"""pass@k where rollouts or verdicts are missing: rigorous bounds instead of a mean over the other problems."""

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
FEWEST = 8  # problems, below which no order of n can be told from chance
DISORDER = 0.1  # share of the problems that a half-finished top-up may have in flight


def pass_bounds(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> PassBounds:
    """pass@k of each problem, (P, K): the unbiased estimate in both bounds where k <= n, else pass@n and 1.

    pass@k rises with k and is at most 1, so that pass@n <= pass@k <= 1 whatever the rollouts that were not drawn would have
    been. The number of rollouts must not depend on their verdicts: else ``pass_bounds_any_rule``. A problem without
    rollouts has the bounds 0 and 1. Raises ``BadArgument``: as ``pass_at_k``.
    """
    c, n = check_counts(n_correct, n_samples)
    value = pass_at_k(c, n, ks)
    missing = np.isnan(value)
    return PassBounds(np.where(missing, c[:, None] > 0, value), np.where(missing, 1.0, value))


def pass_bounds_any_rule(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> PassBounds:
    """Bounds of pass@k of each problem, (P, K), that hold whatever rule decided from the verdicts when to stop.

    The rule may be any, and differ between problems, as long as each problem got at least the smallest n of all. Nothing
    is known of the order of the rollouts. Of the n rollouts with c correct the first m hold between max(0, c - (n - m))
    and min(c, m) correct ones; for k up to the smallest n the bounds are pass@k of these two counts, with m the smallest n
    (a sample that no rule chose). Above it they are those of "one of the first k is correct", which is 1 for a problem that
    was solved before k. Raises ``BadArgument``: as ``pass_at_k``.
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
    """p-value of "the numbers of rollouts have nothing to do with the solve rates" against a rule that stops on success.

    Each problem's c of n is thinned at random to the smallest n. If n does not depend on what was found, the thinned
    counts are exchangeable over problems, however much the n differ: the p-value of a negative rank correlation with n,
    by permutation, is then at most a in a share a of cases, exactly. It is 1 where all n are equal, for fewer than 8
    problems, and where the order of the problems explains n: a top-up that was interrupted has drawn more for the first
    problems than for the rest, up to a tenth of the problems that were under way. Raises ``BadArgument``: as ``pass_at_k``.
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
    """Whether n falls along the problems, but for a stretch of neighbours at the border."""
    more_follows = np.maximum.accumulate(n[::-1])[::-1] > n
    fewer_before = np.minimum.accumulate(n) < n
    out_of_order = np.flatnonzero(more_follows | fewer_before)
    return not len(out_of_order) or int(np.ptp(out_of_order)) < DISORDER * len(n)


def _centred_ranks(values: npt.NDArray[np.int64]) -> Float64[np.ndarray, " P"]:
    """Mid-ranks less their mean."""
    _, row, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[row.ravel()]
    return np.asarray(ranks - ranks.mean())
