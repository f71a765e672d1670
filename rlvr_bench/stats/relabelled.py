"""pass@k of runs that stopped on verdicts which have changed since: after a regrade, or if errors count as correct.

The rule stopped a problem after enough rollouts that were correct by the old verdicts. The number of rollouts depends
on the old verdicts, and the number correct by the present ones does not show when the rule stopped.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.stopped import check_ends, check_rule, last_batch, log_choose
from rlvr_bench.stats.validation import check_budgets, check_counts

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = ["PassBounds", "pass_at_k_relabelled"]


@dataclasses.dataclass(frozen=True)
class PassBounds:
    """Estimates of a lower and an upper bound of pass@k, both (P, K); where they are equal, an estimate of pass@k.

    The bounds hold in expectation, E[low] <= pass@k <= E[high], for any values of the missing rollouts or verdicts.
    """

    low: Float64[np.ndarray, "P K"]
    high: Float64[np.ndarray, "P K"]


def pass_at_k_relabelled(
    n_correct: npt.ArrayLike,
    n_samples: npt.ArrayLike,
    ks: npt.ArrayLike,
    stop_after: int,
    max_samples: int,
    batch: int,
    *,
    stopped_on: npt.ArrayLike,
    both: npt.ArrayLike,
) -> PassBounds:
    """pass@k by the present verdicts, (P, K), where the rule of ``pass_at_k_stopped`` stopped on other verdicts.

    ``n_correct`` (P,) rollouts are correct now, ``stopped_on`` (P,) were correct by the verdicts that the rule used,
    and ``both`` (P,) are in both counts. Given these counts, all orders of the rollouts that the rule admits are
    equally likely, for any probabilities of the four kinds of rollout. So the share of these orders that begin with k
    rollouts that are wrong now is an unbiased estimate of (1-p)^k. It has the smallest variance that these counts allow
    (Rao-Blackwell); if the verdicts are equal, it is ``pass_at_k_stopped``. A problem that stopped before k rollouts
    counts as solved in k if one of its rollouts is correct now; if none is, its bounds are 0 and 1. Budgets of at most
    ceil(stop_after / batch) batches are always drawn, so there the bounds are equal and the estimate is exactly
    unbiased.

    Raises ``BadArgument``: as ``pass_at_k_stopped``, for ``stopped_on``; or ``both`` is impossible.
    """
    c, n = check_counts(n_correct, n_samples)
    o, _ = check_counts(stopped_on, n_samples)
    a, _ = check_counts(both, n_samples)
    rule = check_rule(stop_after, max_samples, batch)
    check_ends(o, n, *rule)
    if bad := np.flatnonzero((a > np.minimum(c, o)) | (c - a > n - o)).tolist():
        raise BadArgument("both", int(a[bad[0]]), f"cannot be among {c[bad[0]]} and {o[bad[0]]} of {n[bad[0]]}")
    budgets = check_budgets(ks)
    states, row = np.unique(np.stack([n, o, a, c - a], axis=1), axis=0, return_inverse=True)
    begun = _begun_with_failures(states, budgets, rule[0], rule[2])
    open_ended = budgets[None] > states[:, :1]
    low, high = 1.0 - begun, 1.0 - np.where(open_ended, 0.0, begun)
    return PassBounds(np.take(low, row.ravel(), axis=0), np.take(high, row.ravel(), axis=0))


def _begun_with_failures(
    states: Int64[np.ndarray, "U 4"], ks: Int64[np.ndarray, " K"], stop_after: int, batch: int
) -> Float64[np.ndarray, "U K"]:
    """Share of each state's admissible orders that begin with min(k, n) rollouts that are wrong now, (U, K)."""
    every = _log_orders(states, np.zeros(len(states), dtype=np.int64), stop_after, batch)
    columns = [_log_orders(states, np.minimum(k, states[:, 0]), stop_after, batch) for k in ks]
    return np.asarray(np.minimum(np.exp(np.stack(columns, axis=1) - every[:, None]), 1.0))


def _log_orders(
    states: Int64[np.ndarray, "U 4"], first: Int64[np.ndarray, " U"], stop_after: int, batch: int
) -> Float64[np.ndarray, " U"]:
    """Log of the number of admissible orders in which the ``first`` (U,) rollouts are wrong now.

    A state is (n, o, a, d): rollouts, correct by the old verdicts, correct by old and present ones, correct by the
    present ones only. The number is a sum over s, the number of the ``first`` that were correct by the old verdicts.
    The term is the number of ways to place the o by the rule (``_log_placed``), times C(o - s, a) C(n - first - o + s,
    d), the choices of which later rollouts are correct now.
    """
    n, o, a, d = states.T
    result = np.full(len(states), -np.inf)
    for s in range(int(o.max(initial=0)) + 1):
        chosen = log_choose(o - s, a) + log_choose(n - first - o + s, d)
        if np.isneginf(chosen).all():
            continue
        result = np.logaddexp(result, chosen + _log_placed(n, o, first, s, stop_after, last_batch(n, batch)))
    return result


def _log_placed(
    n: Int64[np.ndarray, " U"],
    o: Int64[np.ndarray, " U"],
    first: Int64[np.ndarray, " U"],
    s: int,
    stop_after: int,
    last: Int64[np.ndarray, " U"],
) -> Float64[np.ndarray, " U"]:
    """Log of the number of ways to place o rollouts, with s of them among the ``first``.

    Fewer than stop_after of them are before the last batch.

    A sum over the number before the last batch, or over the number in it, whichever has fewer terms. t counts those
    that are before the last batch and after ``first``, or all before the last batch where ``first`` extends into it.
    """
    before, fixed = n - last, np.full_like(n, s)
    result = np.full(len(n), -np.inf)
    by_batch = int(last.max(initial=0)) < stop_after
    for term in range(int(last.max(initial=0)) + 1 if by_batch else stop_after):
        t = (o - s - term) if by_batch else np.full_like(n, term)
        early = log_choose(first, fixed) + log_choose(before - first, t) + log_choose(last, o - s - t)
        early = np.where(s + t < stop_after, early, -np.inf)
        t = np.full_like(n, s - term if by_batch else term)
        late = log_choose(before, t) + log_choose(first - before, s - t) + log_choose(n - first, o - s)
        late = np.where(t < stop_after, late, -np.inf)
        result = np.logaddexp(result, np.where(first <= before, early, late))
    return result
