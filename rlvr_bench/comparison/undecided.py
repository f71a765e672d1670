"""Limits of a comparison: rollouts without a verdict, and numbers of rollouts that depend on the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from rlvr_bench.comparison.cards import RunCounts
from rlvr_bench.comparison.results import BoundaryChange, Crossover
from rlvr_bench.errors import RunError
from rlvr_bench.scorecard import Scorecard

__all__ = ["MOST_ERRORS", "error_rate", "refuse_errors", "set_bounds", "without_chosen"]

MOST_ERRORS = 0.01  # share of rollouts without a verdict above which a scorecard is refused


def error_rate(card: Scorecard) -> float:
    """Share of rollouts without a verdict, a mean over problems; 0 where the scorecard does not have it.

    The larger of two rates: from the counts, and from the quality rates, which under a stopping rule are of the first
    batch.
    """
    rates = [(entry.error or 0) / entry.n for entry in card.problems if entry.n]
    return max(float(np.mean(rates)) if rates else 0.0, card.quality.get("error_rate") or 0.0)


def refuse_errors(cards: Sequence[tuple[Path, Scorecard]], limit: float, mend: str) -> None:
    """Raises RunError for a scorecard whose verifier failed on a larger share of rollouts than ``limit``."""
    for file, card in cards:
        if (rate := error_rate(card)) > limit:
            raise RunError(
                f"{file}: the verifier failed on {rate:.2%} of the rollouts, the limit is {limit:.2%}: such a scorecard "
                f"says too little of the model. Grade the run again, or {mend}."
            )


def set_bounds(
    first: RunCounts, second: RunCounts, k: int
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Smallest and largest expected size of the gained and of the lost set at k, over all possible verdicts of errors.

    Both are None where errors are too few to matter. The gained set is largest if errors are correct in the second run
    and wrong in the first. The runs are independent, so the expected size is the sum of products of their
    probabilities.
    """
    if not (first.counts.errors.any() or second.counts.errors.any()):
        return None, None
    one, two = first.pass_bounds([k]), second.pass_bounds([k])
    gained = (float(np.sum((1 - one.high) * two.low)), float(np.sum((1 - one.low) * two.high)))
    lost = (float(np.sum(one.low * (1 - two.high))), float(np.sum(one.high * (1 - two.low))))
    return gained, lost


def without_chosen(
    first: RunCounts, second: RunCounts, change: BoundaryChange, crossing: Crossover
) -> tuple[BoundaryChange, Crossover]:
    """The same; without crossover and without tests against chance if n of a run seems to depend on the verdicts."""
    if not (first.counts.chosen or second.counts.chosen):
        return change, crossing
    blank = dict.fromkeys(("leader", "k", "low", "high", "last"))
    unknown = msgspec.structs.replace(
        crossing, text="not known, a stopping rule seems to be at work", changes=0, **blank
    )
    return msgspec.structs.replace(change, gains=None, losses=None), unknown
