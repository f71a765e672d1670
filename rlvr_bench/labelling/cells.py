"""The cells of the audit: rollouts by verdict, by how rare their answer is, and whether a problem hangs on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rlvr_bench.records import Outcomes

__all__ = ["CELLS", "CLASSES", "CellKind", "cell_of_rollouts"]

RARE_SHARE = 0.01  # of a problem's rollouts, or a single one
CLASSES = ("rare answers", "other answers")  # in which a verifier may err differently; without an answer counts as rare


class CellKind(NamedTuple):
    """A cell: its name, the number of its class in ``CLASSES``, and whether its verdict is correct."""

    name: str
    rollout_class: int
    is_correct: bool


CELLS = (
    CellKind("correct, the problem's only one", 0, True),
    CellKind("correct, rare answer", 0, True),
    CellKind("correct, other", 1, True),
    CellKind("wrong, rare answer", 0, False),
    CellKind("wrong, other", 1, False),
    CellKind("no answer", 0, False),
)
_ONLY, _RARE, _OTHER, _WRONG_RARE, _WRONG_OTHER, _NO_ANSWER = range(len(CELLS))


def cell_of_rollouts(outcomes: Outcomes) -> npt.NDArray[np.int8]:
    """The number of each rollout's cell in ``CELLS``, (R,); -1 for a rollout without a verdict.

    An answer is rare if at most 1 % of its problem's rollouts give it, or only one does.
    """
    common = ~_is_rare(outcomes)
    cell = np.full(len(outcomes.status), -1, dtype=np.int8)
    correct, wrong = outcomes.is_correct, outcomes.has_status("wrong")
    cell[correct] = np.where(common[correct], _OTHER, _RARE)
    cell[correct & (outcomes.n_correct == 1)[outcomes.problem]] = _ONLY
    cell[wrong] = np.where(common[wrong], _WRONG_OTHER, _WRONG_RARE)
    cell[outcomes.has_status("no_answer")] = _NO_ANSWER
    return cell


def _is_rare(outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    """The rollouts (R,) whose answer is rare among those of their problem, or not known."""
    key = outcomes.problem.astype(np.int64) << 32 | outcomes.answer
    _, row, count = np.unique(key, return_inverse=True, return_counts=True)
    limit = np.maximum(1, RARE_SHARE * outcomes.n_samples)[outcomes.problem]
    return np.asarray((outcomes.answer < 0) | (count[row.ravel()] <= limit))
