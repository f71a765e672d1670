"""Instructions followed: per instruction and per prompt, strictly and loosely, as IFEval reports them."""

from __future__ import annotations

import msgspec
import numpy as np

from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, fewest, mean_estimate, problem_means, rate_estimates

__all__ = ["instructions"]

MODES = ("strict", "loose")


def instructions(outcomes: Outcomes) -> list[Estimate]:
    """``instructions_followed`` and ``prompts_followed``, groups ``strict`` and ``loose``; none without instructions.

    ``instructions_followed``: of all instructions of all prompts, the share that one response follows (arXiv 2311.07911).
    It is a ratio of two means over prompts, so a prompt with three instructions counts three times; the interval is
    Student's t for the linearised ratio. ``prompts_followed``: the share of prompts of which one response follows every
    instruction. Responses without a verdict are left out.
    """
    if outcomes.followed is None or not any(outcomes.instructions):
        return []
    sizes, used = np.array(outcomes.instructions, dtype=np.float64), fewest(outcomes)
    estimates = []
    for column, mode in enumerate(MODES):
        counts = outcomes.followed[:, column]
        means = problem_means(outcomes, counts)
        known = ~np.isnan(means) & (sizes > 0)
        if not known.any():
            continue
        clusters = clusters_of(outcomes, known)
        ratio = means[known].sum() / sizes[known].sum()
        linear = ratio + (means[known] - ratio * sizes[known]) / sizes[known].mean()
        label = Estimate(
            name="instructions_followed", group=mode, value=None, method="share of instructions", n_samples=used
        )
        share = mean_estimate(label, linear, floor=0.0, clusters=clusters)
        estimates.append(msgspec.structs.replace(share, high=None if share.high is None else min(1.0, share.high)))
        whole = np.where(np.isnan(counts), np.nan, counts == sizes[outcomes.problem])
        label = Estimate(name="prompts_followed", group=mode, value=None, method="share of prompts", n_samples=used)
        estimates += rate_estimates([label], problem_means(outcomes, whole)[known][:, None], clusters)
    return estimates
