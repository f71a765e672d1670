"""pass@k from runs under a stopping rule: sample until r rollouts are correct, or up to a maximum; checked per batch.

The stopping rule changes the estimator: the ordinary formula with n = rollouts drawn is biased upwards (p = 0.2, k = 5,
at most 12 rollouts, stop at the first success: 0.84 instead of 0.67).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.solve_rate import distinct_counts
from rlvr_bench.stats.validation import check_budgets, check_count, check_counts

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = ["pass_at_k_stopped", "pass_at_k_stopped_variance"]


def pass_at_k_stopped(
    n_correct: npt.ArrayLike,
    n_samples: npt.ArrayLike,
    ks: npt.ArrayLike,
    stop_after: int,
    max_samples: int,
    batch: int = 1,
) -> Float64[np.ndarray, "P K"]:
    """Unbiased pass@k of each problem under batched, truncated inverse sampling, (P, K); NaN where k > max_samples.

    The rule: draw ``batch`` rollouts at a time and stop at the first batch end with at least ``stop_after`` correct
    ones, or at ``max_samples`` (a last batch may be short). The estimate of (1-p)^k is the share of the admissible
    paths to the final state (c, n) that begin with k failures: Girshick, Mosteller and Savage 1946, theorem 3, extended
    to batches; batch = 1 is Haldane's (1945) inverse sampling. A problem that stopped before k rollouts has the
    estimate 1: only the expectation is right, not each value. ``n_correct`` and ``n_samples`` (P,) must be counted in
    the order of submission, because in the order of completion short responses come first.

    Raises ``BadArgument``: as ``pass_at_k``, or the rule cannot end in a given (c, n).
    """
    c, n = check_counts(n_correct, n_samples)
    budgets = check_budgets(ks)
    rule = check_rule(stop_after, max_samples, batch)
    check_ends(c, n, *rule)
    pairs = distinct_counts(c, n)
    failure = _failure(pairs.n_correct, pairs.n_samples, budgets, *rule)
    return np.take(1.0 - failure, pairs.row, axis=0)


def pass_at_k_stopped_variance(
    n_correct: npt.ArrayLike,
    n_samples: npt.ArrayLike,
    ks: npt.ArrayLike,
    stop_after: int,
    max_samples: int,
    batch: int = 1,
) -> Float64[np.ndarray, "P K"]:
    """Unbiased estimate of the variance of ``pass_at_k_stopped``, (P, K); NaN where 2k > max_samples.

    The squared estimate of (1-p)^k minus the unbiased estimate of (1-p)^(2k). Single values may be negative; their sum
    over problems is an estimate of the variance of the sum. Arguments and errors as in ``pass_at_k_stopped``.
    """
    c, n = check_counts(n_correct, n_samples)
    budgets = check_budgets(ks)
    rule = check_rule(stop_after, max_samples, batch)
    check_ends(c, n, *rule)
    pairs = distinct_counts(c, n)
    once = _failure(pairs.n_correct, pairs.n_samples, budgets, *rule)
    twice = _failure(pairs.n_correct, pairs.n_samples, 2 * budgets, *rule)
    return np.take(once**2 - twice, pairs.row, axis=0)


def last_batch(n: Int64[np.ndarray, " P"], batch: int) -> Int64[np.ndarray, " P"]:
    """Size of each problem's last batch, (P,)."""
    return np.asarray(np.where(n % batch == 0, batch, n % batch))


def check_rule(stop_after: int, max_samples: int, batch: int) -> tuple[int, int, int]:
    """The rule's three numbers. Raises ``BadArgument`` where one is not a whole number of at least 1."""
    stop_after, batch = check_count("stop_after", stop_after), check_count("batch", batch)
    return stop_after, check_count("max_samples", max_samples), batch


def check_ends(
    c: Int64[np.ndarray, " P"], n: Int64[np.ndarray, " P"], stop_after: int, max_samples: int, batch: int
) -> None:
    """Raises ``BadArgument`` for a (c, n) at which the rule cannot stop.

    It stops at the first batch end with ``stop_after`` correct, or at ``max_samples``.
    """
    at_end = (n == max_samples) | ((n % batch == 0) & (n > 0) & (c >= stop_after))
    last = last_batch(n, batch)
    possible = at_end & (n <= max_samples) & (c - last < stop_after)
    if not possible.all():
        i = int(np.flatnonzero(~possible)[0])
        rule = f"stop after {stop_after} correct, at most {max_samples}, batches of {batch}"
        raise BadArgument(
            "n_samples", int(n[i]), f"is no end of the rule ({rule}) with {int(c[i])} correct (problem {i})"
        )


def _failure(
    c: Int64[np.ndarray, " U"],
    n: Int64[np.ndarray, " U"],
    ks: Int64[np.ndarray, " K"],
    stop_after: int,
    max_samples: int,
    batch: int,
) -> Float64[np.ndarray, "U K"]:
    last = last_batch(n, batch)
    starts = np.concatenate([[0], ks])
    paths = np.stack([_log_paths(c, n, last, int(k), stop_after) for k in starts], axis=1)
    return np.where(ks <= max_samples, np.exp(paths[:, 1:] - paths[:, :1]), np.nan)


def _log_paths(
    c: Int64[np.ndarray, " U"], n: Int64[np.ndarray, " U"], last: Int64[np.ndarray, " U"], k: int, stop_after: int
) -> Float64[np.ndarray, " U"]:
    """Log of the number of admissible paths from k failures to (c, n).

    Before the last batch j < stop_after are correct: sum_j C(n - last - k, j) C(last, c - j). If k extends into the
    last batch, every order is admissible: C(n - k, c).
    """
    before = n - last - k
    result = np.where(before < 0, log_choose(n - k, c), -np.inf)
    inside = before >= 0
    for j in range(min(stop_after - 1, int(c.max())) + 1):
        term = log_choose(before[inside], np.full(int(inside.sum()), j)) + log_choose(last[inside], c[inside] - j)
        result[inside] = np.logaddexp(result[inside], term)
    return result


def log_choose(top: Int64[np.ndarray, " U"], bottom: Int64[np.ndarray, " U"]) -> Float64[np.ndarray, " U"]:
    """Logarithm of the binomial coefficient, (U,); minus infinity where it is 0."""
    valid = (bottom >= 0) & (bottom <= top)
    top, bottom = np.where(valid, top, 0), np.where(valid, bottom, 0)
    return np.where(valid, gammaln(top + 1) - gammaln(bottom + 1) - gammaln(top - bottom + 1), -np.inf)
