"""How many different answers the policy gives: distinct answers at a common number, and answer entropy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.answers import answer_classes, answer_counts, wrong_answers
from rlvr_bench.scorers.common import clusters_of, fewest, left_out, mean_estimate
from rlvr_bench.scorers.votes import vote_ks

__all__ = ["distinct_answers", "diversity"]

CHUNK_ELEMENTS = 2**21


def diversity(outcomes: Outcomes, ks: Sequence[int] | None = None) -> list[Estimate]:
    """Distinct answers among k (``distinct_answers@k``) and answer entropy in nats, over all and over wrong answers.

    All correct spellings are one answer; rollouts without an answer are left out, so k counts answers. Distinct answers
    are rarefied (Hurlbert 1971): runs of different size compare at a common k. Entropy is that of arXiv 2507.14843, sec.
    5.1, with Miller and Madow's correction. A policy that finds the answer more often gives fewer distinct answers for
    that reason alone: the entropy over wrong answers does not depend on it. k = powers of four up to the most answers.
    """
    classes, clusters = answer_classes(outcomes), clusters_of(outcomes)
    n = np.bincount(outcomes.problem[classes >= 0], minlength=len(outcomes.problem_ids))
    grid = list(ks) if ks is not None else vote_ks(int(n.max(initial=0)))
    used = fewest(outcomes, classes >= 0)
    labels = [
        Estimate(
            name="distinct_answers@k",
            k=k,
            value=None,
            method="rarefied, mean over problems",
            n_samples=used,
            note=left_out(int((n < k).sum()), len(n), k, "answers"),
        )
        for k in grid
    ]
    table = distinct_answers(outcomes, grid)
    estimates = [
        mean_estimate(label, column, floor=1.0, clusters=clusters)
        for label, column in zip(labels, table.T, strict=True)
    ]
    counts, size = answer_counts(outcomes), len(outcomes.problem_ids)
    for group, part, mask in ((None, counts, classes >= 0), ("wrong", wrong_answers(counts), classes > 0)):
        label = Estimate(
            name="answer_entropy",
            group=group,
            value=None,
            method="Miller-Madow, mean over problems",
            n_samples=fewest(outcomes, mask),
        )
        entropy = stats.answer_entropy(part.table(size)) if size else np.empty(0)
        estimates.append(mean_estimate(label, entropy, floor=0.0, clusters=clusters))
    return estimates


def distinct_answers(outcomes: Outcomes, ks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Expected number of distinct answers among k of a problem's answers, (P, K); NaN where it gave fewer than k."""
    size = len(outcomes.problem_ids)
    if not size or not len(ks):
        return np.full((size, len(ks)), np.nan)
    table = answer_counts(outcomes).table(size)
    step = max(1, CHUNK_ELEMENTS // (table.shape[1] * len(ks)))
    return np.concatenate([stats.rarefied_distinct(table[i : i + step], ks) for i in range(0, size, step)])
