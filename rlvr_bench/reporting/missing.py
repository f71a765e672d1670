"""What a page shows where rollouts or verdicts are missing: bounds, and unsolved problems at one budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlvr_bench.comparison.cards import RunCounts
from rlvr_bench.comparison.curves import pass_differences
from rlvr_bench.comparison.estimates import sound_estimates, unsolved_estimate
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import Scorecard

__all__ = ["estimates_at", "widen"]


def estimates_at(card: Scorecard, run: RunCounts, common: int) -> list[Estimate]:
    """The scorecard's, with unsolved problems at the ``common`` budget of all runs of a page; without them where it is 0."""
    kept = [item for item in sound_estimates(card, run) if item.name != "unsolved" or item.k == common]
    if common and not any(item.name == "unsolved" for item in kept):
        kept.append(unsolved_estimate(run, common))
    return kept


def widen(
    value: npt.NDArray[np.float64],
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    p: npt.NDArray[np.float64],
    ks: Sequence[int],
    runs: Sequence[RunCounts],
    couples: Sequence[tuple[int, int]],
) -> None:
    """Put the bounds of pass@k where rollouts or verdicts are missing into these arrays, (measures, couples) each.

    Their first rows are the differences at ``ks``. Where there are bounds alone, value and p-value become NaN.
    """
    for j, (first, second) in enumerate(couples):
        if not any(run.counts.errors.any() or run.counts.chosen for run in (runs[first], runs[second])):
            continue
        for i, difference in enumerate(pass_differences(runs[first], runs[second], ks)):
            value[i, j] = np.nan if difference.value is None else difference.value
            low[i, j], high[i, j], p[i, j] = (
                np.nan if number is None else number for number in (difference.low, difference.high, difference.p_value)
            )
            if difference.value is None:  # nothing is said of a direction
                p[i, j] = np.nan
