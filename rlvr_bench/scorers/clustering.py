"""Notes on how clusters of problems change the interval of pass@k."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import FEWEST_CLUSTERS, clusters_of
from rlvr_bench.scorers.counts import Counts

__all__ = ["MUCH_WIDER", "with_cluster_notes"]

MUCH_WIDER = 1.2


def with_cluster_notes(estimates: Sequence[Estimate], outcomes: Outcomes) -> list[Estimate]:
    """``estimates``, with a note on clusters at the smallest and the largest k of pass@k, if the run has clusters.

    The note says by how much clusters widen the interval, if by more than a fifth, or that there are too few clusters.
    """
    drawn = outcomes.n_samples > 0
    mine = [
        i
        for i, estimate in enumerate(estimates)
        if estimate.name == "pass@k" and estimate.group is None and estimate.low is not None
    ]
    if not any(outcomes.clusters) or not mine:
        return list(estimates)
    noted = list(estimates)
    for i in dict.fromkeys((mine[0], mine[-1])):
        note = _note(noted[i], outcomes, drawn)
        if note is not None and (i == mine[0] or "widen" in note):
            noted[i] = msgspec.structs.replace(noted[i], note="; ".join(filter(None, (noted[i].note, note))))
    return noted


def _note(estimate: Estimate, outcomes: Outcomes, drawn: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str | None:
    number = len({name for name in outcomes.clusters if name})
    if clusters_of(outcomes, drawn) is None:
        fewest = f"fewer than {FEWEST_CLUSTERS}"
        return f"{number} clusters of problems, {fewest}: the interval takes problems as independent, and may be too narrow"
    if estimate.at_least is not None:  # bounds: their interval is wider than that of a mean
        return None
    values = Counts.of_outcomes(outcomes).bounds([estimate.k or 1]).low
    alone = stats.bootstrap_mean(values, rng=stats.fresh_rng())
    width = float(alone.high[0] - alone.low[0])
    ratio = ((estimate.high or 0.0) - (estimate.low or 0.0)) / width if width > 0 else 1.0
    if not ratio > MUCH_WIDER:
        return None
    return f"{number} clusters of problems that resemble one another widen the interval by {ratio - 1:.0%}"
