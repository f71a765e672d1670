"""CoT-Pass@K: pass@k, where a rollout counts only if its answer is right and its reasoning was judged valid."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import (
    clusters_of,
    fewest,
    left_out,
    problem_means,
    rate_estimates,
    with_intervals,
)
from rlvr_bench.scorers.solve_rate import default_ks

__all__ = ["cot_pass_at_k"]


def cot_pass_at_k(
    outcomes: Outcomes,
    valid: npt.NDArray[np.bool_],
    undecided: npt.NDArray[np.bool_],
    ks: Sequence[int] | None = None,
) -> list[Estimate]:
    """``cot_pass@k`` (arXiv 2506.14245) and ``valid_reasoning``, the share of correct rollouts judged valid.

    ``valid`` (R,): correct and judged valid. ``undecided`` (R,): correct, but the judge gave no verdict. Undecided rollouts
    do not count as valid, and the note gives their number. A problem with d valid ones among n rollouts has the unbiased
    pass@k of (n, d); the estimate is the mean over problems. A stopping rule looks at answers and not at reasoning, so of a
    run under one only each problem's first draw batch is used.
    """
    if outcomes.stopping is not None:
        valid, undecided, outcomes = valid[outcomes.is_fair], undecided[outcomes.is_fair], outcomes.fair()
    n = outcomes.n_samples
    drawn = n > 0
    if not drawn.any():
        return []
    grid = list(ks) if ks is not None else default_ks(int(n.max()))
    counts = np.bincount(outcomes.problem[valid], minlength=len(outcomes.problem_ids))[drawn]
    clusters = clusters_of(outcomes, drawn)
    interval = stats.bootstrap(counts, n[drawn], grid, rng=stats.fresh_rng(), clusters=clusters)
    few = n[drawn][:, None] < np.array(grid)
    doubt = (
        f"{int(undecided.sum())} correct rollouts without a judgement count as not valid" if undecided.any() else None
    )
    labels = [
        Estimate(
            name="cot_pass@k",
            k=k,
            value=None,
            method="unbiased, answer correct and reasoning judged valid",
            n_samples=int(n[drawn].min()),
            note="; ".join(filter(None, [left_out(int(few[:, i].sum()), len(few), k), doubt])) or None,
        )
        for i, k in enumerate(grid)
    ]
    return [*with_intervals(labels, interval), *_valid_share(outcomes, valid, undecided)]


def _valid_share(outcomes: Outcomes, valid: npt.NDArray[np.bool_], undecided: npt.NDArray[np.bool_]) -> list[Estimate]:
    """Mean over problems with a judged correct rollout of the share of those that are valid."""
    judged = outcomes.is_correct & ~undecided
    means = problem_means(outcomes, np.where(judged, valid, np.nan))
    if np.isnan(means).all():
        return []
    label = Estimate(name="valid_reasoning", value=None, n_samples=fewest(outcomes, judged), method="share of correct")
    (share,) = rate_estimates([label], means[:, None], clusters_of(outcomes))
    return [msgspec.structs.replace(share, n_problems=int((~np.isnan(means)).sum()))]
