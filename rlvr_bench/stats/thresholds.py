"""Metrics of how reliably problems are solved: G-Pass@k, mG-Pass@k, Cover@tau, and best-of-k for scalar rewards.

P problems, N rollouts, K budgets, T thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaincc, gammaln

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.solve_rate import DistinctCounts, distinct_counts, log_failure
from rlvr_bench.stats.validation import check_budgets, check_counts, check_fractions, check_prior

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = ["cover_at_tau", "cover_at_tau_posterior", "g_pass_at_k", "max_at_k", "mg_pass_at_k"]

ROUNDING = 1e-9  # tau * k is rounded up to a count: 0.07 * 100 must be 7, not 8


def g_pass_at_k(
    n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike, tau: float
) -> Float64[np.ndarray, "P K"]:
    """G-Pass@k_tau of each problem: at least ceil(tau k) (and at least 1) of k rollouts are correct, (P, K).

    P(X >= m) for X hypergeometric(n, c, k): Liu et al. 2024 (arXiv 2412.13147), eq. 5; unbiased for the binomial tail.
    tau = 1 is pass^k, tau <= 1/k pass@k. Arguments and NaN (k > n) as in ``pass_at_k``; accurate to 1e-10 at
    n = 10,000. Raises ``BadArgument``: as ``pass_at_k``, or tau is outside (0, 1].
    """
    share = float(check_fractions("tau", tau)[0])
    return _per_size(
        n_correct, n_samples, ks, lambda n, k: _at_least(n, k, max(math.ceil(share * k * (1 - ROUNDING)), 1))
    )


def mg_pass_at_k(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """mG-Pass@k of each problem, (2/k) sum of P(X >= i) for i from ceil(k/2) + 1 to k, (P, K).

    Liu et al. 2024 (arXiv 2412.13147), eq. 7: the mean of G-Pass@k_tau over tau in [0.5, 1]. 0 at k = 1 (empty sum).
    For odd k the weights do not sum to 1. Arguments, NaN and errors as in ``pass_at_k``.
    """

    def average(n: int, k: int) -> Float64[np.ndarray, " N1"]:
        total = np.zeros(n + 1)
        for m in range((k + 1) // 2 + 1, k + 1):
            total += _at_least(n, k, m)
        return total * (2 / k)

    return _per_size(n_correct, n_samples, ks, average)


def cover_at_tau(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, taus: npt.ArrayLike) -> Float64[np.ndarray, "P T"]:
    """Cover@tau of each problem: 1 where c/n >= tau, else 0, (P, T); NaN where n = 0.

    Dragoi et al. 2025 (arXiv 2510.08325). The threshold applies to the observed rate, so the result is noisy for rates
    near tau: see ``cover_at_tau_posterior``. Raises ``BadArgument``: as ``pass_at_k``, or a tau is outside (0, 1].
    """
    c, n = check_counts(n_correct, n_samples)
    threshold = n[:, None] * check_fractions("taus", taus)
    reached = (c[:, None] >= threshold * (1 - ROUNDING)).astype(np.float64)
    return np.where(n[:, None] > 0, reached, np.nan)


def cover_at_tau_posterior(
    n_correct: npt.ArrayLike,
    n_samples: npt.ArrayLike,
    taus: npt.ArrayLike,
    prior: tuple[float, float] = (0.5, 0.5),
) -> Float64[np.ndarray, "P T"]:
    """Posterior probability that a problem's solve rate is at least tau, 1 - I_tau(a + c, b + n - c), (P, T).

    ``prior`` (a, b) of the Beta distribution, Jeffreys by default; the mean over problems is a smoothed Cover@tau.
    Raises ``BadArgument``: as ``cover_at_tau``, or the prior is not positive.
    """
    c, n = check_counts(n_correct, n_samples)
    a, b = check_prior(prior)
    return np.asarray(betaincc(a + c[:, None], b + (n - c)[:, None], check_fractions("taus", taus)))


def max_at_k(rewards: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """Expected largest reward among k of the n rollouts of each problem, (P, K); unbiased; NaN where k > n.

    sum_i C(i-1, k-1) g_(i) / C(n, k) over rewards sorted upwards: Walder and Karkhanis 2025 (arXiv 2505.15201), sec. 3.
    ``rewards`` (P, N), NaN where a problem has fewer rollouts. Raises ``BadArgument``: not (P, N), infinite, or a
    budget is below 1.
    """
    table = np.asarray(rewards, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise BadArgument("rewards", table.shape, "must have shape (P, N), neither of them 0")
    if np.isinf(table).any():
        raise BadArgument("rewards", float(table[np.isinf(table)][0]), "must be finite, or NaN where not drawn")
    budgets = check_budgets(ks)
    downwards = -np.sort(-table, axis=1)  # NaN sorts last
    drawn = np.sum(~np.isnan(table), axis=1)
    result = np.full((len(table), budgets.size), np.nan)
    for n in np.unique(drawn[drawn > 0]).tolist():
        rows = drawn == n
        result[rows] = downwards[rows, :n] @ _top_weights(n, budgets)
    return result


def _top_weights(n: int, ks: Int64[np.ndarray, " K"]) -> Float64[np.ndarray, "N K"]:
    """Probability C(n-1-i, k-1) / C(n, k) that the i-th largest of n (i from 0) is the largest of k drawn ones."""
    above = np.arange(n)
    pairs = DistinctCounts(np.full(n, n), above, above, np.ones(n, np.int64))
    return np.asarray(np.exp(log_failure(pairs, ks)) * (ks / (n - above)[:, None]))


def _per_size(
    n_correct: npt.ArrayLike,
    n_samples: npt.ArrayLike,
    ks: npt.ArrayLike,
    by_correct: Callable[[int, int], Float64[np.ndarray, " N1"]],
) -> Float64[np.ndarray, "P K"]:
    """Values (P, K) of a metric that ``by_correct(n, k)`` computes for c = 0..n."""
    c, n = check_counts(n_correct, n_samples)
    pairs, budgets = distinct_counts(c, n), check_budgets(ks)
    result = np.full((pairs.n_samples.size, budgets.size), np.nan)
    for size in np.unique(pairs.n_samples).tolist():
        rows = pairs.n_samples == size
        for column in np.flatnonzero(budgets <= size):
            result[rows, column] = by_correct(size, int(budgets[column]))[pairs.n_correct[rows]]
    return np.take(result, pairs.row, axis=0)


def _at_least(n: int, k: int, m: int) -> Float64[np.ndarray, " N1"]:
    """P(X >= m) for X hypergeometric(n, c, k), for every c = 0..n at once.

    If the correct rollouts come first, X >= m exactly where the m-th smallest of k drawn indices is below c. That index
    is i with probability C(i, m-1) C(n-1-i, k-m) / C(n, k). All terms are positive, so there is no cancellation.
    """
    i = np.arange(m - 1, n - k + m)
    log_weight = gammaln(i + 1) - gammaln(i - m + 2) + gammaln(n - i) - gammaln(n - i - k + m)
    weight = np.exp(log_weight - log_weight.max())
    result = np.zeros(n + 1)
    result[m : n - k + m + 1] = np.cumsum(weight)
    result[m:] /= result[n - k + m]
    result[n - k + m :] = 1.0
    return result
