"""How the policy spreads its probability: token entropy and rollout branching factor."""

from __future__ import annotations

import numpy as np

from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import mean_estimate, problem_means

__all__ = ["entropy"]

_STATISTICS = (
    # (estimate, column, smallest possible value)
    ("token_entropy", "entropy_mean", 0.0),
    ("branching_factor", "branching_mean", 1.0),
    ("high_entropy_share", "high_entropy_share", 0.0),
)


def entropy(outcomes: Outcomes) -> list[Estimate]:
    """Token entropy (nats), branching factor (tokens in the 0.95 nucleus) and high-entropy share.

    Means over a rollout's tokens, then over rollouts, then over problems (arXiv 2507.14843 eq. for H; arXiv 2508.07534
    section 2 for the branching factor), over all rollouts and over the correct and the wrong ones apart. Exact statistics
    of the model's own distribution at temperature 1; an engine without them gives None.
    """
    groups = {
        None: np.ones(len(outcomes.status), dtype=bool),
        "correct": outcomes.status == 0,
        "wrong": outcomes.status == 1,
    }
    estimates = []
    for name, column, floor in _STATISTICS:
        values = getattr(outcomes, column)
        for group, mask in groups.items():
            means = problem_means(outcomes, np.where(mask, values, np.nan))
            if group is None or not np.isnan(means).all():
                estimates.append(mean_estimate(name, means, floor=floor, group=group))
    return estimates
