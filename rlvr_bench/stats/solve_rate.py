"""Solve-rate metrics from counts: c correct of n rollouts per problem. P problems, K budgets.

A count metric depends only on a problem's pair (n, c), and a run has few distinct pairs: it is computed once for each
pair. For a budget above n there is no unbiased estimate: the entry is NaN, never 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.stats.validation import check_budgets, check_counts

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = [
    "DistinctCounts",
    "auc_at_k",
    "distinct_counts",
    "failure_at_k",
    "log_failure",
    "mean_pass_at_k",
    "pass_at_k",
    "pass_at_k_variance",
    "pass_hat_k",
    "pass_of_pairs",
]

CHUNK_ELEMENTS = 2**19  # temporary arrays of 4 MB
NEGLIGIBLE = -42.0  # a failure probability of 1e-18 does not change 1 - failure


@dataclasses.dataclass(frozen=True)
class DistinctCounts:
    """The distinct (n, c) pairs of a run, sorted by n, then c: U pairs of P problems.

    ``row`` (P,) is the index of each problem's pair; ``multiplicity`` (U,) is the number of problems with each pair.
    """

    n_samples: Int64[np.ndarray, " U"]
    n_correct: Int64[np.ndarray, " U"]
    row: Int64[np.ndarray, " P"]
    multiplicity: Int64[np.ndarray, " U"]


def pass_at_k(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """Unbiased pass@k of each problem: the share of the k-subsets of its n rollouts that hold a correct one.

    rho(n, c, k) = 1 - C(n-c, k) / C(n, k), Chen et al. 2021 (arXiv 2107.03374), eq. 1: the minimum-variance unbiased
    estimate of 1 - (1-p)^k, as a product of at most min(c, k) factors per entry. Accurate to 1e-12 at n = 10,000.

    ``n_correct`` (P,) correct and ``n_samples`` (P,) drawn rollouts (or one number for all problems), ``ks`` (K,)
    budgets. Returns (P, K) probabilities, NaN where k > n. Average them over problems; do not pool counts. Raises
    ``BadArgument``: a count is negative, not whole or above n; a budget is below 1; shapes disagree.
    """
    c, n = check_counts(n_correct, n_samples)
    pairs = distinct_counts(c, n)
    return np.take(pass_of_pairs(pairs, check_budgets(ks)), pairs.row, axis=0)


def mean_pass_at_k(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, " K"]:
    """Mean over problems of ``pass_at_k``, (K,), without the (P, K) table: a million problems take little memory.

    Problems with n < k are left out at that k; NaN where none is left. Arguments and errors as in ``pass_at_k``.
    """
    c, n = check_counts(n_correct, n_samples)
    pairs, budgets = distinct_counts(c, n), check_budgets(ks)
    used, failed = np.zeros(budgets.size), np.zeros(budgets.size)
    for size, rows in _sizes(pairs):
        weight = pairs.multiplicity[rows].astype(np.float64)
        inside = budgets <= size
        used += inside * weight.sum()
        failed[inside] += _weighted_failure(size, pairs.n_correct[rows], budgets[inside], weight)
    return np.asarray(1.0 - np.divide(failed, used, out=np.full(budgets.shape, np.nan), where=used > 0))


def failure_at_k(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """Unbiased estimate of (1-p)^k, C(n-c, k) / C(n, k): 1 - pass@k without cancellation near pass@k = 1.

    Arguments, NaN and errors as in ``pass_at_k``.
    """
    c, n = check_counts(n_correct, n_samples)
    pairs = distinct_counts(c, n)
    return np.take(np.exp(log_failure(pairs, check_budgets(ks))), pairs.row, axis=0)


def pass_hat_k(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """Unbiased pass^k of each problem, C(c, k) / C(n, k): the probability p^k that all of k rollouts are correct.

    Yao et al. 2024 (tau-bench, arXiv 2406.12045), sec. 3. Equals G-Pass@k at tau = 1. Arguments, NaN and errors as in
    ``pass_at_k``.
    """
    c, n = check_counts(n_correct, n_samples)
    return failure_at_k(n - c, n, ks)


def pass_at_k_variance(
    n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike
) -> Float64[np.ndarray, "P K"]:
    """Unbiased estimate of the rollout-sampling variance of ``pass_at_k``, (P, K).

    (C(n-c, k)/C(n, k))^2 - C(n-c, 2k)/C(n, 2k): the squared estimate of q^k minus the unbiased estimate of q^(2k), for
    q = 1-p. Never negative. NaN where 2k > n: the variance is then a polynomial in p of degree above n, which no
    function of c estimates without bias. The squared standard error of the mean over a *fixed* set of P problems is the
    sum over problems, divided by P^2. Arguments and errors as in ``pass_at_k``.
    """
    c, n = check_counts(n_correct, n_samples)
    budgets = check_budgets(ks)
    pairs = distinct_counts(c, n)
    once, twice = log_failure(pairs, budgets), log_failure(pairs, 2 * budgets)
    with np.errstate(invalid="ignore"):
        gap = np.where(np.isneginf(once) & ~np.isnan(twice), 0.0, twice - 2 * once)
    return np.take(np.abs(np.exp(2 * once) * np.expm1(np.minimum(gap, 0.0))), pairs.row, axis=0)


def auc_at_k(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """Area under the pass@j curve for j = 1..k by the trapezoid rule, divided by k - 1; pass@1 at k = 1. (P, K).

    Hu et al. 2026 (arXiv 2601.08763), eq. 7. Linear in k. Arguments, NaN and errors as in ``pass_at_k``.
    """
    budgets = check_budgets(ks)
    c, n = check_counts(n_correct, n_samples)
    pairs = distinct_counts(c, n)
    curve = pass_of_pairs(pairs, np.arange(1, budgets.max() + 1))
    inside = np.cumsum(curve, axis=1) - (curve[:, :1] + curve) / 2  # ends count half
    area = np.where(budgets == 1, curve[:, :1], inside[:, budgets - 1] / np.maximum(budgets - 1, 1))
    return np.take(np.where(budgets > pairs.n_samples[:, None], np.nan, area), pairs.row, axis=0)


def distinct_counts(n_correct: Int64[np.ndarray, " P"], n_samples: Int64[np.ndarray, " P"]) -> DistinctCounts:
    """Collapse problems to their distinct (n, c) pairs; the arguments must have passed ``check_counts``."""
    base = int(n_correct.max()) + 1
    key = n_samples * base + n_correct
    if (size := int(key.max()) + 1) <= 4 * key.size + 2**16:  # counting is several times faster than sorting
        tally = np.bincount(key, minlength=size)
        distinct = np.flatnonzero(tally)
        rank = np.zeros(size, dtype=np.int64)
        rank[distinct] = np.arange(distinct.size)
        row, multiplicity = rank[key], tally[distinct]
    else:
        distinct, row, multiplicity = np.unique(key, return_inverse=True, return_counts=True)
    return DistinctCounts(distinct // base, distinct % base, row, multiplicity)


def pass_of_pairs(pairs: DistinctCounts, ks: Int64[np.ndarray, " K"]) -> Float64[np.ndarray, "U K"]:
    """``pass_at_k`` of each distinct pair, (U, K)."""
    ordered, column = np.unique(ks, return_inverse=True)
    result = np.ones((pairs.n_samples.size, ordered.size))
    for n, rows in _sizes(pairs):
        c, table = pairs.n_correct[rows], result[rows]
        defined = int(np.searchsorted(ordered, n, side="right"))
        table[:, defined:] = np.nan
        if _shorter_by_correct(n, c, ordered[:defined]):
            for columns, failure in _failure_by_correct(n, int(c.max()), ordered[:defined]):
                np.subtract(1.0, failure[c], out=table[:, columns])
        else:
            for block, failure in _failure_by_budget(n, c, int(ordered[defined - 1])):
                reached = ordered[: np.searchsorted(ordered, failure.shape[0], side="right")]
                np.subtract(1.0, failure[reached - 1].T, out=table[block, : reached.size])
    return result if np.array_equal(ks, ordered) else result[:, column]


def log_failure(pairs: DistinctCounts, ks: Int64[np.ndarray, " K"]) -> Float64[np.ndarray, "U K"]:
    """Logarithm of C(n-c, k) / C(n, k) per distinct pair and budget: -inf where n - c < k <= n, NaN where k > n.

    Running sums of log1p: precise for failure rates of any size.
    """
    result = np.empty((pairs.n_samples.size, ks.size))
    for n, rows in _sizes(pairs):
        c, out = pairs.n_correct[rows], result[rows]
        if _shorter_by_correct(n, c, ks):
            _log_failure_by_correct(n, c, ks, out)
        else:
            _log_failure_by_budget(n, c, ks, out)
        out[:, ks > n] = np.nan
    return result


def _sizes(pairs: DistinctCounts) -> Iterator[tuple[int, slice]]:
    """Each number of rollouts with the rows of its pairs."""
    sizes, starts = np.unique(pairs.n_samples, return_index=True)
    for n, start, stop in zip(sizes.tolist(), starts, [*starts[1:], pairs.n_samples.size], strict=True):
        yield n, slice(int(start), int(stop))


def _shorter_by_correct(n: int, c: Int64[np.ndarray, " U"], ks: Int64[np.ndarray, " K"]) -> bool:
    """Whether the product over c has fewer factors than the product over k, for pairs with the same n.

    C(n-c, k) / C(n, k) = prod_{j<k} (n-c-j)/(n-j) = prod_{j<c} (n-k-j)/(n-j): running products over j give the first
    for every k, and the second for every c.
    """
    return bool(int(c.max()) * ks.size <= c.size * min(n, int(ks.max(initial=0))))


def _weighted_failure(
    n: int, c: Int64[np.ndarray, " U"], ks: Int64[np.ndarray, " K"], weight: Float64[np.ndarray, " U"]
) -> Float64[np.ndarray, " K"]:
    """Sum over pairs with the same n of ``weight`` times C(n-c, k) / C(n, k), (K,), for budgets up to n."""
    total = np.zeros(ks.size)
    if _shorter_by_correct(n, c, ks):
        for columns, failure in _failure_by_correct(n, int(c.max()), ks):
            total[columns] = weight @ failure[c]
        return total
    total = np.zeros(int(ks.max()))
    for block, failure in _failure_by_budget(n, c, total.size):
        total[: failure.shape[0]] += failure @ weight[block]
    return np.asarray(total[ks - 1])


def _failure_by_budget(
    n: int, c: Int64[np.ndarray, " U"], largest: int
) -> Iterator[tuple[slice, Float64[np.ndarray, "K B"]]]:
    """C(n-c, k) / C(n, k) for k = 1, 2, ..., in blocks of similar c, up to the k where it must be below e^NEGLIGIBLE.

    A factor is exactly 0 at j = n - c, so all later products are 0. At n = 10,000 the rounding error is at most 6e-13.
    """
    remaining = n - np.arange(largest, dtype=np.float64)[:, None]
    first = 0
    while first < c.size:
        lowest = int(c[first])
        reach = largest
        if 0 < lowest < n:  # a product of k factors is at most (1 - c/n)^k
            reach = min(reach, math.ceil(NEGLIGIBLE / math.log1p(-lowest / n)))
        similar = int(np.searchsorted(c, 2 * lowest + 1, side="right"))
        block = slice(first, min(similar, first + max(1, CHUNK_ELEMENTS // reach)))
        factors = remaining[:reach] - c[block]
        factors /= remaining[:reach]
        yield block, np.multiply.accumulate(factors, axis=0, out=factors)
        first = block.stop


def _failure_by_correct(
    n: int, most: int, ks: Int64[np.ndarray, " K"]
) -> Iterator[tuple[slice, Float64[np.ndarray, "C K"]]]:
    """C(n-c, k) / C(n, k) for c = 0, 1, ..., ``most`` and blocks of the budgets, none above n."""
    remaining = n - np.arange(most, dtype=np.float64)[:, None]
    step = max(1, CHUNK_ELEMENTS // (most + 1))
    for first in range(0, ks.size, step):
        columns = slice(first, min(first + step, ks.size))
        failure = np.ones((most + 1, columns.stop - first))
        np.divide(remaining - ks[columns], remaining, out=failure[1:])
        yield columns, np.multiply.accumulate(failure, axis=0, out=failure)


def _log_failure_by_budget(
    n: int, c: Int64[np.ndarray, " U"], ks: Int64[np.ndarray, " K"], out: Float64[np.ndarray, "U K"]
) -> None:
    remaining = n - np.arange(min(n, int(ks.max())), dtype=np.float64)
    inside = np.flatnonzero(ks <= n)
    step = max(1, CHUNK_ELEMENTS // remaining.size)
    for first in range(0, c.size, step):
        rows = slice(first, first + step)
        out[rows, inside] = _running_log(c[rows, None] / remaining)[:, ks[inside]]


def _log_failure_by_correct(
    n: int, c: Int64[np.ndarray, " U"], ks: Int64[np.ndarray, " K"], out: Float64[np.ndarray, "U K"]
) -> None:
    remaining = n - np.arange(int(c.max()), dtype=np.float64)
    step = max(1, CHUNK_ELEMENTS // max(remaining.size, 1))
    for first in range(0, ks.size, step):
        columns = slice(first, first + step)
        out[:, columns] = _running_log(ks[columns, None] / remaining)[:, c].T


def _running_log(ratio: Float64[np.ndarray, "A B"]) -> Float64[np.ndarray, "A B1"]:
    """Running sums of log(1 - ratio) along the last axis, with a leading 0; ratios above 1 count as 1."""
    result = np.zeros((ratio.shape[0], ratio.shape[1] + 1))
    with np.errstate(divide="ignore"):
        np.log1p(-np.minimum(ratio, 1.0), out=ratio)
    np.cumsum(ratio, axis=1, out=result[:, 1:])
    return result
