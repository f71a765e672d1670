"""Majority vote over answers: exact expectation of maj@k over random k-subsets. P problems, A answers, K budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln, xlog1py, xlogy

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.validation import check_answer_counts, check_budgets

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = ["maj_at_k"]


def maj_at_k(answer_counts: npt.ArrayLike, correct: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """Probability that the most frequent answer of k of the n rollouts is the correct one, (P, K); NaN where k > n.

    Exact over uniformly random k-subsets; tied most frequent answers share the win equally. ``answer_counts`` (P, A)
    counts each distinct answer of a problem, 0 where it has fewer; ``correct`` (P,) is the column of the correct
    answer, -1 where no rollout gave it. The caller decides whether rollouts without an answer are a class in the table or
    are left out.

    The sum over the winning count t and the number j of tied rivals, with the share 1 / (j + 1) of the win, is derived
    in the project's formula notes and checked by enumeration. Subset counts are treated as independent binomials
    conditional on their sum, so that every term is a probability. Raises ``BadArgument``: shapes disagree, a count is
    negative, a column does not exist.
    """
    counts = check_answer_counts(answer_counts)
    chosen = np.atleast_1d(np.asarray(correct))
    if chosen.shape != (len(counts),) or chosen.dtype.kind not in "iu":
        raise BadArgument("correct", chosen.shape, f"must be whole numbers of shape {(len(counts),)}")
    if not ((chosen >= -1) & (chosen < counts.shape[1])).all():
        raise BadArgument("correct", chosen.tolist(), f"must be in [-1, {counts.shape[1] - 1}]")
    budgets = check_budgets(ks)
    known: dict[tuple[int, ...], Float64[np.ndarray, " K"]] = {}
    result = np.empty((len(counts), budgets.size))
    for row, (tally, column) in enumerate(zip(counts, chosen.tolist(), strict=True)):
        n_correct = int(tally[column]) if column >= 0 else 0
        rivals = np.sort(np.delete(tally, column) if column >= 0 else tally)
        key = (n_correct, *rivals[rivals > 0].tolist())
        if key not in known:
            known[key] = np.array([_win_probability(n_correct, rivals[rivals > 0], int(k)) for k in budgets])
        result[row] = known[key]
    return result


def _win_probability(n_correct: int, rivals: Int64[np.ndarray, " A"], k: int) -> float:
    n = n_correct + int(rivals.sum())
    if k > n:
        return float("nan")
    rate = (k + 0.5) / (n + 1)  # any rate gives the same result; this one keeps every term well above underflow
    chance_correct = _binomial(n_correct, rate)
    won = 0.0
    for t in range(1, min(n_correct, k) + 1):
        if np.minimum(rivals, t).sum() >= k - t:  # else the rivals cannot fill the subset
            won += chance_correct[t] * _rivals_share(rivals, t, k - t, rate)
    return float(won / _binomial(n, rate)[k])


def _rivals_share(rivals: Int64[np.ndarray, " A"], t: int, left: int, rate: float) -> float:
    """Expected 1 / (1 + rivals at exactly t), if the rivals' counts sum to ``left`` and none exceeds t; else 0."""
    free = int(rivals[rivals < t].sum())  # these cannot reach t: together they are one binomial
    ways = np.zeros((left // t + 1, left + 1))  # ways[j, d]: j rivals at t, d taken so far
    start = _binomial(free, rate)[: left + 1]
    ways[0, : start.size] = start
    for rival in rivals[rivals >= t].tolist():
        chance = _binomial(rival, rate)
        below = np.stack([np.convolve(row, chance[:t])[: left + 1] for row in ways])
        if t <= left:
            below[1:, t:] += chance[t] * ways[:-1, : left + 1 - t]
        ways = below
    return float(np.sum(ways[:, left] / np.arange(1, len(ways) + 1)))


def _binomial(n: int, rate: float) -> Float64[np.ndarray, " N1"]:
    x = np.arange(n + 1)
    log_choose = gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)
    return np.asarray(np.exp(log_choose + xlogy(x, rate) + xlog1py(n - x, -rate)))
