"""pass@k of runs that stopped on other verdicts than those that count now: a regraded run, or errors taken as right.

The rule stopped a problem after enough rollouts that were right by the verdicts of that time. Which rollouts exist is
then a matter of those verdicts, and the number right by the present ones says nothing of when the rule stopped.
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
    """Estimates of a lower and of an upper bound of pass@k, (P, K) each; where they are equal, an estimate of pass@k.

    The bounds hold on average over repetitions: E[low] <= pass@k <= E[high], whatever the missing rollouts or verdicts
    would have been.
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
    """pass@k by the present verdicts of problems that the rule of ``pass_at_k_stopped`` stopped on other ones, (P, K).

    ``n_correct`` (P,) rollouts are right now, ``stopped_on`` (P,) were when the rule looked, ``both`` (P,) are in either
    count. Given these counts every order of the rollouts that the rule admits is equally likely, whatever the chances of
    the four kinds of rollout. The share of those orders that begin with k rollouts that are wrong now is therefore an
    unbiased estimate of (1-p)^k, the best that these counts allow (Rao and Blackwell; with equal verdicts it is
    ``pass_at_k_stopped``). A problem that stopped before k rollouts with one that is right now is solved in k. Of one that
    stopped before k with none right now nothing is known: its bounds are 0 and 1. Budgets of at most
    ceil(stop_after / batch) batches, which are always drawn, have no such problem: the estimate is exactly unbiased.

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
    """Log of the number of admissible orders of which the ``first`` (U,) rollouts are wrong now.

    A state is (n, right then, right then and now, right now only). Of the first ones s were right then:
    W(s) C(n - first, o - s) ways to place those right then, and C(o - s, a) C(n - first - o + s, d) to choose among the
    rest which are right now. W holds the rule: fewer than stop_after were right then before the last batch.
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
    """Log of the ways to place o rollouts, s of them among the ``first``, fewer than stop_after before the last batch.

    A sum over how many are before the last batch, t of those after ``first``, or of all where ``first`` reaches into it; or
    over how many are in it, whichever has fewer terms.
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
