"""Diversity of final answers, comparable between runs of different size. P problems, A answers, K budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.solve_rate import pass_at_k
from rlvr_bench.stats.validation import check_answer_counts, check_budgets

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64


def rarefied_distinct(answer_counts: npt.ArrayLike, ks: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """Expected number of distinct answers among k of the n rollouts of each problem, (P, K); NaN where k > n.

    sum_a 1 - C(n - n_a, k) / C(n, k): rarefaction (Hurlbert 1971), unbiased, and free of the run's size where the plain
    number of distinct answers grows with n. ``answer_counts`` (P, A) as in ``maj_at_k``. Raises ``BadArgument``: a
    count is negative or a budget below 1.
    """
    counts = check_answer_counts(answer_counts)
    budgets = check_budgets(ks)
    n = np.repeat(counts.sum(axis=1), counts.shape[1])
    return np.asarray(pass_at_k(counts.ravel(), n, budgets).reshape(*counts.shape, budgets.size).sum(axis=1))


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
