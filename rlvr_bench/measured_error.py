"""The types of a verifier's measured error: the cells of the audit, the two rates, and pass@k with the error in it."""

from __future__ import annotations

from typing import Literal

import msgspec

from rlvr_bench.records import Estimate

__all__ = ["AuditCell", "MeasuredError"]


class AuditCell(msgspec.Struct, frozen=True, kw_only=True):
    """``rollouts`` with one kind of verdict (``CELLS``), of which ``labelled`` have a label that counts.

    ``misjudged`` of the labels contradict the verdict. ``effective``: how many equally likely labels these are worth
    (Kish 1965). ``share``: the estimated share of misjudged rollouts, weighted by 1 / chance of being sampled, with its
    Clopper-Pearson interval.
    """

    name: str
    rollouts: int
    labelled: int
    misjudged: int
    effective: float
    share: float
    low: float
    high: float


class MeasuredError(msgspec.Struct, frozen=True, kw_only=True):
    """How often a verifier errs on a run, and what that does to pass@k.

    ``source``: "labels", or "rates" if the rates were given. ``by``: labels that count, by who gave them; ``unsure`` and
    ``outside``: labels of sampled rollouts that decide nothing, and labels of rollouts that were not sampled.
    ``false_positives`` and ``false_negatives``: the rates over all rollouts (group None) and by rarity of the answer.
    ``pass_at_k``: with the verifier's error in value and interval. ``floor``: what false positives alone would give, by
    k, at the upper end of their rate; ``floor_k``: the smallest k at which that is half of the observed pass@k, None if
    there is none up to n. ``explained``: solved problems whose correct rollouts false positives alone explain.
    ``seen``: by problem the counts that ``stats.draw_true_counts`` needs, one row for each class of rollouts;
    ``undecided``: by problem its rollouts without a verdict, where it has any. ``left_out``: why some budgets are missing.
    """

    source: Literal["labels", "rates"]
    by: dict[str, int] = {}
    unsure: int = 0
    outside: int = 0
    cells: tuple[AuditCell, ...] = ()
    false_positives: tuple[Estimate, ...]
    false_negatives: tuple[Estimate, ...]
    pass_at_k: tuple[Estimate, ...]
    floor: dict[int, float]
    floor_k: int | None
    explained: tuple[str, ...]
    seen: dict[str, tuple[tuple[int, ...], ...]]
    undecided: dict[str, int] = {}
    left_out: str | None = None

    @property
    def rates(self) -> tuple[float, float]:
        """The rates of false positives and of false negatives, as given or estimated."""
        return self.false_positives[0].value or 0.0, self.false_negatives[0].value or 0.0
