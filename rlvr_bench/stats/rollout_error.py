"""Intervals for claims about these same problems: the only error is rollout noise. P problems, K budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaln

from rlvr_bench.stats.intervals import Interval, normal_quantile, score_interval
from rlvr_bench.stats.posterior import fit_beta_prior, log_failure_moment
from rlvr_bench.stats.solve_rate import (
    DistinctCounts,
    distinct_counts,
    failure_at_k,
    log_failure,
    pass_at_k_variance,
)
from rlvr_bench.stats.validation import check_budgets, check_counts, check_probability

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = ["rollout_interval"]

CHUNK_ELEMENTS = 2**20


def rollout_interval(
    n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike, level: float = 0.95
) -> Interval:
    """Mean pass@k over these same problems, with an interval for the sampling of rollouts only, (K,).

    The parametric bootstrap, c from Binomial(n, c/n), fails for k near n: it biases pass@k and gives problems with c =
    0 no error. Instead c is from its posterior predictive distribution under a Beta prior fitted to the run
    (``fit_beta_prior``), in closed form: the expected variance is E[F(c')^2 | c] - E[(1-p)^(2k) | c] with F = C(n-c',
    k) / C(n, k). Where 2k <= n it is at least the unbiased ``pass_at_k_variance``. The limits are those of the score
    interval.

    A 95 % interval covers 93-97 % for 30 or 100 problems with Beta-distributed solve rates and k <= n = 64; it covers
    more (99 %) when half of the problems cannot be solved, and less (75-80 %) for 2k > n when solve rates form two
    narrow groups, one of them near 1/n. Problems with n < k are left out. Raises ``BadArgument``: as ``pass_at_k``.
    """
    c, n = check_counts(n_correct, n_samples)
    budgets = check_budgets(ks)
    z = normal_quantile(check_probability("level", level))
    pairs = distinct_counts(c, n)
    fail = np.exp(log_failure(pairs, budgets))
    known = ~np.isnan(fail)
    problems = pairs.multiplicity @ known
    mean = 1 - _average(fail, pairs.multiplicity, problems)
    if c.sum() in (0, n.sum()):
        low, high = _all_alike(bool(c.sum() == 0), n, budgets, level)
        low, high = np.where(problems > 0, low, np.nan), np.where(problems > 0, high, np.nan)
    else:
        shrinkage = _shrinkage(pairs, budgets, known, problems)
        edge = np.full(mean.shape, z)
        low, high = score_interval(mean, shrinkage, (-edge, edge))
    return Interval(mean, low, high, level, "posterior predictive rollouts", "rollouts", problems.astype(np.int64))


def _shrinkage(
    pairs: DistinctCounts,
    ks: Int64[np.ndarray, " K"],
    known: npt.NDArray[np.bool_],
    problems: Int64[np.ndarray, " K"],
) -> Float64[np.ndarray, " K"]:
    """Var(mean) / (mean (1 - mean)) with both from the posterior, at most 1 / P as for 0/1 draws of P problems."""
    prior = fit_beta_prior(
        np.repeat(pairs.n_correct, pairs.multiplicity), np.repeat(pairs.n_samples, pairs.multiplicity)
    )
    a = (prior[0] + pairs.n_correct)[:, None]
    b = (prior[1] + pairs.n_samples - pairs.n_correct)[:, None]
    unbiased = np.nan_to_num(pass_at_k_variance(pairs.n_correct, pairs.n_samples, ks))
    variance = np.where(known, _predictive_variance(pairs, a, b, ks), 0.0)
    total = np.maximum(pairs.multiplicity @ variance, pairs.multiplicity @ unbiased)
    expected = _average(np.where(known, np.exp(log_failure_moment(a, b, ks)), np.nan), pairs.multiplicity, problems)
    count = np.maximum(problems, 1)
    scale = np.maximum(expected * (1 - expected), np.finfo(np.float64).tiny)
    return np.asarray(np.minimum(total / count**2 / scale, 1 / count))


def _predictive_variance(
    pairs: DistinctCounts, a: Float64[np.ndarray, "U 1"], b: Float64[np.ndarray, "U 1"], ks: Int64[np.ndarray, " K"]
) -> Float64[np.ndarray, "U K"]:
    result = -np.exp(log_failure_moment(a, b, 2 * ks))
    for n in np.unique(pairs.n_samples).tolist():
        rows = np.flatnonzero(pairs.n_samples == n)
        redrawn = np.arange(n + 1)
        squared = np.nan_to_num(failure_at_k(redrawn, n, ks)) ** 2
        log_choose = -betaln(redrawn + 1, n - redrawn + 1) - np.log(n + 1)
        step = max(1, CHUNK_ELEMENTS // (n + 1))
        for part in np.split(rows, range(step, rows.size, step)):
            log_chance = log_choose + betaln(a[part] + redrawn, b[part] + n - redrawn) - betaln(a[part], b[part])
            result[part] += np.exp(log_chance) @ squared
    return np.asarray(np.maximum(result, 0.0))


def _average(
    values: Float64[np.ndarray, "U K"], multiplicity: Int64[np.ndarray, " U"], problems: Int64[np.ndarray, " K"]
) -> Float64[np.ndarray, " K"]:
    total = multiplicity @ np.nan_to_num(values)
    return np.asarray(np.divide(total, problems, out=np.full(total.shape, np.nan), where=problems > 0))


def _all_alike(
    none_correct: bool, n: Int64[np.ndarray, " P"], ks: Int64[np.ndarray, " K"], level: float
) -> tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
    """Exact limits when no rollout (or every one) is correct, for any solve rates of the problems.

    The probability of the observed counts is at most (mean of 1-p, or of p)^N by the inequality of arithmetic and
    geometric means, N = P min n; the mean of 1 - (1-p)^k is then at most 1 - (1 - mean p)^k by Jensen, and at least the
    mean of p.
    """
    log_bound = np.log(0.5 - level / 2) / max(n.size * int(n.min()), 1)
    if none_correct:
        return np.zeros(ks.size), 0.0 - np.expm1(ks * log_bound)
    return np.full(ks.size, np.exp(log_bound)), np.ones(ks.size)
