"""Diversity of final answers, comparable between runs of different size. P problems, A answers, K budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import gammaln

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.solve_rate import pass_at_k
from rlvr_bench.stats.validation import check_answer_counts, check_budgets

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

CHUNK_ELEMENTS = 2**17


def rarefied_distinct(answer_counts: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """Expected number of distinct answers among k of the n rollouts of each problem, (P, K); NaN where k > n.

    sum_a 1 - C(n - n_a, k) / C(n, k): rarefaction (Hurlbert 1971), unbiased. It does not depend on n, while the plain
    number of distinct answers grows with n. ``answer_counts`` (P, A) as in ``maj_at_k``. Raises ``BadArgument``: a
    count is negative or a budget below 1.
    """
    counts = check_answer_counts(answer_counts)
    budgets = check_budgets(ks)
    n = np.repeat(counts.sum(axis=1), counts.shape[1])
    return np.asarray(pass_at_k(counts.ravel(), n, budgets).reshape(*counts.shape, budgets.size).sum(axis=1))


def rarefied_entropy(answer_counts: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """Expected plug-in entropy, in nats, of k of the n answers to each problem, (P, K); NaN where k > n.

    sum_a sum_j P(J_a = j) (-j/k log(j/k)) with J_a hypergeometric, the number of answers a among k of n. It is an
    unbiased estimate of the plug-in entropy of k fresh answers, so it does not depend on n; the entropy of all n
    answers does (``answer_entropy``). It is below the entropy of the policy by about (D - 1) / (2k), D distinct
    answers, in every run. ``answer_counts`` (P, A) as in ``maj_at_k``; leave the correct column out for the entropy of
    wrong answers. Raises ``BadArgument``: a count is negative or a budget below 1.
    """
    counts = check_answer_counts(answer_counts)
    budgets = check_budgets(ks)
    n = counts.sum(axis=1)
    problem, answer = np.nonzero(counts)
    base = int(n.max(initial=0)) + 1
    pairs, row = np.unique(
        counts[problem, answer] * base + n[problem], return_inverse=True
    )  # few: most answers are alike
    entropy = np.empty((len(n), budgets.size))
    for column, k in enumerate(budgets.tolist()):
        terms = _expected_terms(pairs // base, pairs % base, k)
        entropy[:, column] = np.bincount(problem, weights=terms[row], minlength=len(n))
    return np.where(n[:, None] >= budgets, entropy, np.nan)


def _expected_terms(count: npt.NDArray[np.int64], n: npt.NDArray[np.int64], k: int) -> Float64[np.ndarray, " U"]:
    """E[-J/k log(J/k)] with J of k draws from n, ``count`` of them marked, both (U,); 0 where k > n."""
    expected = np.zeros(len(count))
    step = max(1, CHUNK_ELEMENTS // k)
    j = np.arange(1, k)  # J = 0 and J = k add nothing
    term = -(j / k) * np.log(j / k)
    for start in range(0, len(count) if k > 1 else 0, step):
        c, size = count[start : start + step, None], n[start : start + step, None]
        possible = (j <= c) & (k - j <= size - c) & (k <= size)
        log_share = _log_choose(c, j) + _log_choose(size - c, k - j) - _log_choose(size, np.full_like(j, k))
        expected[start : start + step] = np.where(possible, np.exp(np.where(possible, log_share, 0.0)), 0.0) @ term
    return expected


def _log_choose(n: npt.NDArray[np.int64], k: npt.NDArray[np.int64]) -> Float64[np.ndarray, "U J"]:
    chosen = np.clip(k, 0, np.maximum(n, 0))
    return np.asarray(gammaln(n + 1.0) - gammaln(chosen + 1.0) - gammaln(n - chosen + 1.0))


def answer_entropy(
    answer_counts: npt.ArrayLike, correction: Literal["none", "miller-madow"] = "miller-madow"
) -> Float64[np.ndarray, " P"]:
    """Shannon entropy of each problem's answers in nats, (P,); NaN for a problem without answers.

    Plug-in -sum p log p is the answer-level entropy of Wu et al. 2025 (arXiv 2507.14843, sec. 5.1; "none"), biased low
    by about (D - 1) / (2n) for D distinct answers; Miller and Madow (1955) add that back. ``answer_counts`` (P, A) as
    in ``maj_at_k``; leave the correct column out for the entropy of wrong answers. Raises ``BadArgument``: a count is
    negative or the correction is unknown.
    """
    if correction not in ("none", "miller-madow"):
        raise BadArgument("correction", correction, "must be 'none' or 'miller-madow'")
    counts = check_answer_counts(answer_counts)
    n = counts.sum(axis=1)
    share = counts / np.maximum(n, 1)[:, None]
    plug_in = -np.sum(share * np.log(np.where(share > 0, share, 1.0)), axis=1)
    missing = (np.count_nonzero(counts, axis=1) - 1) / (2 * np.maximum(n, 1))
    entropy = np.maximum(plug_in, 0.0) + (missing if correction == "miller-madow" else 0.0)
    return np.where(n > 0, entropy, np.nan)
