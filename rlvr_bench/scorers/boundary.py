"""The capability boundary: problems that none of the run's rollouts solved."""

from __future__ import annotations

import numpy as np

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, fresh_rng

__all__ = ["boundary"]


def boundary(outcomes: Outcomes) -> list[Estimate]:
    """How many problems are k-rollout unsolvable (arXiv 2508.07534 section 2) at the k that was drawn.

    The interval is for another problem set of the same size and kind. The note states what 0 correct of n rollouts leaves
    possible for a problem's solve rate: unsolved is not unsolvable.
    """
    n, c = outcomes.n_samples, outcomes.n_correct
    drawn = n > 0
    if not drawn.any():
        return []
    # Under a stopping rule the problems that stopped early are solved: those that are not were drawn to the end.
    fewest = outcomes.asked if outcomes.stopping else int(n[drawn].min())
    unsolved = (c[drawn] == 0).astype(np.float64)
    found = stats.bootstrap_mean(unsolved[:, None], rng=fresh_rng(), clusters=clusters_of(outcomes, drawn))
    size = int(drawn.sum())
    bound = float(stats.unsolved_upper_bound(fewest)[0])
    return [
        Estimate(
            name="unsolved",
            k=fewest,
            value=float(unsolved.sum()),
            low=float(found.low[0]) * size,
            high=float(found.high[0]) * size,
            level=found.level,
            method=f"count of problems; {found.method} over {found.source}",
            n_problems=size,
            n_samples=fewest,
            note=f"an unsolved problem may still have a solve rate of up to {bound:.2g} (95 % bound from 0 of {fewest})",
        )
    ]
