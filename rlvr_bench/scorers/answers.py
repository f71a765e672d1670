"""The distinct answers to each problem and their counts, for votes, diversity and guessing."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from rlvr_bench.records import Outcomes

__all__ = ["AnswerCounts", "answer_classes", "answer_counts", "wrong_answers"]

NO_ANSWER = -1


@dataclasses.dataclass(frozen=True)
class AnswerCounts:
    """The distinct answers of a run, sorted by problem, then by class: D of them over all problems.

    ``problem`` (D,) indexes problems, ``answer`` (D,) is the class, 0 for correct, and ``count`` (D,) how many rollouts
    of the problem gave it.
    """

    problem: npt.NDArray[np.int64]
    answer: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]

    def table(self, size: int) -> npt.NDArray[np.int64]:
        """Counts as (P, A) for ``size`` problems, column 0 correct, 0 where a problem has fewer distinct answers."""
        first = np.searchsorted(self.problem, np.arange(size))
        column = np.arange(len(self.problem)) - first[self.problem] + 1
        column[self.answer == 0] = 0
        # Wrong answers start at column 1 in every problem, with or without a correct answer.
        has_correct = np.zeros(size, dtype=np.int64)
        has_correct[self.problem[self.answer == 0]] = 1
        column[self.answer > 0] -= has_correct[self.problem[self.answer > 0]]
        table = np.zeros((size, int(column.max(initial=0)) + 1), dtype=np.int64)
        table[self.problem, column] = self.count
        return table


def answer_classes(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """The class of each rollout's answer, (R,): 0 correct, -1 no answer, else a number above 0.

    A task may accept several spellings: all correct rollouts are one class. Wrong answers are distinguished by their
    normalised text. Answers that the verifier could not decide (``error``) count as wrong here. A rollout whose verdict
    is ``no_answer``, or without a recorded answer, has the class -1.
    """
    answer = outcomes.answer.astype(np.int64)
    none = (answer < 0) | outcomes.has_status("no_answer")
    classes = np.where(none, NO_ANSWER, answer + 1)
    classes[outcomes.is_correct] = 0
    return classes


def answer_counts(outcomes: Outcomes) -> AnswerCounts:
    """How often each distinct answer of each problem was given; rollouts without an answer are left out."""
    classes = answer_classes(outcomes)
    given = classes >= 0
    base = int(classes.max(initial=0)) + 1
    key, count = np.unique(outcomes.problem[given].astype(np.int64) * base + classes[given], return_counts=True)
    return AnswerCounts(key // base, key % base, count)


def wrong_answers(counts: AnswerCounts) -> AnswerCounts:
    """The wrong answers only."""
    keep = counts.answer > 0
    return AnswerCounts(counts.problem[keep], counts.answer[keep], counts.count[keep])
