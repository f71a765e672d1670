"""Numbers of distinct answers and texts, and answer entropy, for k rollouts and for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.answers import AnswerCounts, answer_classes, answer_counts, wrong_answers
from rlvr_bench.scorers.common import clusters_of, fewest, left_out, mean_estimate, problem_blocks
from rlvr_bench.scorers.votes import vote_ks

__all__ = [
    "distinct_answers",
    "distinct_at",
    "distinct_texts",
    "diversity",
    "entropy_ks",
    "rarefied_entropies",
    "text_diversity",
]

CHUNK_ELEMENTS = 2**21
MOST_FOR_ENTROPY = 256  # answers; for larger subsets the entropy is about that of all answers


def diversity(outcomes: Outcomes, ks: Sequence[int] | None = None) -> list[Estimate]:
    """Distinct answers among k (``distinct_answers@k``) and answer entropy in nats, over all and over wrong answers.

    ``answer_entropy@k`` and ``wrong_answer_entropy@k`` are the entropies of k answers and of k wrong answers, averaged
    over all subsets of that size; compare two runs at a common k. ``answer_entropy`` is that of all answers to a
    problem.

    All correct spellings are one answer; rollouts without an answer are left out, so k counts answers. Distinct answers
    are rarefied (Hurlbert 1971), so runs of different size can be compared at a common k. Entropy is that of arXiv
    2507.14843, sec. 5.1, with Miller and Madow's correction; this does not make runs comparable that differ in n or in
    their number of wrong answers. A policy with a higher solve rate has fewer distinct answers for that reason alone;
    the entropy of a common number of wrong answers does not depend on the solve rate. k: powers of four up to the
    largest number of answers; for entropies powers of two up to 256.
    """
    classes, counts = answer_classes(outcomes), answer_counts(outcomes)
    parts = [
        _Part(None, "answers", counts, classes >= 0),
        _Part("wrong", "wrong answers", wrong_answers(counts), classes > 0),
    ]
    estimates = distinct_at(outcomes, ks)
    estimates += [_entropy(outcomes, part) for part in parts]
    return estimates + [estimate for part in parts for estimate in _entropies(outcomes, ks, part)]


class _Part(NamedTuple):
    """Answers of one kind: their group, what notes call them, their counts, and which rollouts gave them (R,)."""

    group: str | None
    what: str
    counts: AnswerCounts
    rollouts: npt.NDArray[np.bool_]


def distinct_at(outcomes: Outcomes, ks: Sequence[int] | None) -> list[Estimate]:
    """``distinct_answers@k`` alone, as in ``diversity``."""
    rollouts = answer_classes(outcomes) >= 0
    n = np.bincount(outcomes.problem[rollouts], minlength=len(outcomes.problem_ids))
    grid = list(ks) if ks is not None else vote_ks(int(n.max(initial=0)))
    estimates = []
    for k, column in zip(grid, distinct_answers(outcomes, grid).T, strict=True):
        label = Estimate(
            name="distinct_answers@k",
            k=k,
            value=None,
            method="rarefied, mean over problems",
            n_samples=fewest(outcomes, rollouts),
            note=left_out(int((n < k).sum()), len(n), k, "answers"),
        )
        estimates.append(mean_estimate(label, column, floor=1.0, clusters=clusters_of(outcomes)))
    return estimates


def _entropy(outcomes: Outcomes, part: _Part) -> Estimate:
    label = Estimate(
        name="answer_entropy",
        group=part.group,
        value=None,
        method="Miller-Madow, mean over problems",
        n_samples=fewest(outcomes, part.rollouts),
    )
    size = len(outcomes.problem_ids)
    entropy = stats.answer_entropy(part.counts.table(size)) if size else np.empty(0)
    return mean_estimate(label, entropy, floor=0.0, clusters=clusters_of(outcomes))


def _entropies(outcomes: Outcomes, ks: Sequence[int] | None, part: _Part) -> list[Estimate]:
    size = len(outcomes.problem_ids)
    n = np.bincount(outcomes.problem[part.rollouts], minlength=size)
    grid = list(ks) if ks is not None else entropy_ks(n)
    estimates = []
    for k, column in zip(grid, rarefied_entropies(part.counts, size, grid).T, strict=True):
        label = Estimate(
            name="answer_entropy@k" if part.group is None else "wrong_answer_entropy@k",
            k=k,
            value=None,
            method="rarefied, mean over problems",
            n_samples=fewest(outcomes, part.rollouts),
            note=left_out(int((n < k).sum()), size, k, part.what),
        )
        estimates.append(mean_estimate(label, column, floor=0.0, clusters=clusters_of(outcomes)))
    return estimates


def text_diversity(outcomes: Outcomes, ks: Sequence[int] | None = None) -> list[Estimate]:
    """``distinct_texts@k``: expected number of different responses among k of a problem's rollouts, word for word.

    k minus this is the number of the k that repeat another one. k: powers of four up to the largest n, and that n.
    """
    n = outcomes.n_samples
    grid = list(ks) if ks is not None else vote_ks(int(n.max(initial=0)))
    return [
        mean_estimate(
            Estimate(
                name="distinct_texts@k",
                k=k,
                value=None,
                method="rarefied, mean over problems",
                n_samples=fewest(outcomes),
                note=left_out(int((n < k).sum()), len(n), k),
            ),
            column,
            floor=1.0,
            clusters=clusters_of(outcomes),
        )
        for k, column in zip(grid, distinct_texts(outcomes, grid).T, strict=True)
    ]


def distinct_texts(outcomes: Outcomes, ks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Expected number of different texts among k of a problem's rollouts, (P, K); NaN where it has fewer than k."""
    n = outcomes.n_samples
    expected = np.zeros((len(n), len(ks)))
    if not len(ks):
        return expected
    base = int(outcomes.text.max(initial=0)) + 1
    for _, rows in problem_blocks(n):
        key = outcomes.problem[rows].astype(np.int64) * base + outcomes.text[rows]
        texts, often = np.unique(key, return_counts=True)
        # Texts of one problem with the same count have the same expectation.
        kinds, number = np.unique(np.stack([texts // base, often]), axis=1, return_counts=True)
        seen = stats.pass_at_k(kinds[1], n[kinds[0]], ks) * number[:, None]
        np.add.at(expected, kinds[0], np.nan_to_num(seen))
    return np.where(n[:, None] >= np.asarray(ks), expected, np.nan)


def entropy_ks(n: npt.NDArray[np.int64]) -> list[int]:
    """Powers of two from 2 up to the most answers ``n`` (P,) of a problem, and at most 256."""
    most = min(int(n.max(initial=0)), MOST_FOR_ENTROPY)
    return [2**i for i in range(1, most.bit_length())]


def rarefied_entropies(counts: AnswerCounts, size: int, ks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Expected entropy of k of a problem's answers, (P, K), nats; NaN where it gave fewer than k."""
    if not size or not len(ks) or not len(counts.count):
        return np.full((size, len(ks)), np.nan)
    return stats.rarefied_entropy(counts.table(size), ks)


def distinct_answers(outcomes: Outcomes, ks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Expected number of distinct answers among k of a problem's answers, (P, K); NaN where it gave fewer than k."""
    size = len(outcomes.problem_ids)
    if not size or not len(ks):
        return np.full((size, len(ks)), np.nan)
    table = answer_counts(outcomes).table(size)
    step = max(1, CHUNK_ELEMENTS // (table.shape[1] * len(ks)))
    return np.concatenate([stats.rarefied_distinct(table[i : i + step], ks) for i in range(0, size, step)])
