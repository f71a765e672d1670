"""CoT-Pass@K: pass@k, where a rollout counts only if its answer is right and its reasoning was judged valid."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.records import STATUSES, Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, fewest, problem_means, rate_estimates
from rlvr_bench.scorers.counts import Counts
from rlvr_bench.scorers.solve_rate import budgets, gaps, values_or_bounds

__all__ = ["cot_pass_at_k"]

_ERROR = STATUSES.index("error")


def cot_pass_at_k(
    outcomes: Outcomes,
    valid: npt.NDArray[np.bool_],
    undecided: npt.NDArray[np.bool_],
    ks: Sequence[int] | None = None,
) -> list[Estimate]:
    """``cot_pass@k`` (arXiv 2506.14245) and ``valid_reasoning``, the share of correct rollouts judged valid.

    ``valid`` (R,): correct and judged valid. ``undecided`` (R,): correct, but the judge gave no verdict. Undecided
    rollouts do not count as valid; the note gives their number, and they lead to bounds like rollouts without a
    verdict. A problem with d valid ones among n rollouts has the unbiased pass@k of (n, d); the estimate is the mean
    over problems. A stopping rule depends on answers and not on reasoning, so of a run under such a rule only each
    problem's first batch is used.
    """
    if outcomes.stopping is not None:
        valid, undecided, outcomes = valid[outcomes.is_fair], undecided[outcomes.is_fair], outcomes.fair()
    n = outcomes.n_samples
    drawn = n > 0
    if not drawn.any():
        return []
    counts = Counts.fixed(
        n[drawn],
        _per_problem(outcomes, valid)[drawn],
        _per_problem(outcomes, undecided | (outcomes.status == _ERROR))[drawn],
    )
    grid = list(ks) if ks is not None else budgets(counts)
    labels = [
        Estimate(
            name="cot_pass@k",
            k=k,
            value=None,
            method="unbiased, answer correct and reasoning judged valid",
            n_samples=int(counts.n.min()),
            note=note,
        )
        for k, note in zip(grid, gaps(counts, grid), strict=True)
    ]
    doubt = (
        f"{int(undecided.sum())} correct rollouts without a judgement count as not valid" if undecided.any() else None
    )
    curve = [
        msgspec.structs.replace(estimate, note="; ".join(filter(None, [estimate.note, doubt])) or None)
        for estimate in values_or_bounds(labels, counts, clusters_of(outcomes, drawn))
    ]
    return [*curve, *_valid_share(outcomes, valid, undecided)]


def _per_problem(outcomes: Outcomes, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.bincount(outcomes.problem[mask], minlength=len(outcomes.problem_ids))


def _valid_share(outcomes: Outcomes, valid: npt.NDArray[np.bool_], undecided: npt.NDArray[np.bool_]) -> list[Estimate]:
    """Mean over problems of the share of judged correct rollouts that are valid; problems without any are left out."""
    judged = outcomes.is_correct & ~undecided
    means = problem_means(outcomes, np.where(judged, valid, np.nan))
    if np.isnan(means).all():
        return []
    label = Estimate(name="valid_reasoning", value=None, n_samples=fewest(outcomes, judged), method="share of correct")
    (share,) = rate_estimates([label], means[:, None], clusters_of(outcomes))
    return [msgspec.structs.replace(share, n_problems=int((~np.isnan(means)).sum()))]
