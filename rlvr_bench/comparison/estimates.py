"""Solve rates of scorecards; means that older versions took over only some of the problems are recomputed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rlvr_bench.comparison.cards import RunCounts, clusters
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.scorers.boundary import unsolved_in
from rlvr_bench.scorers.solve_rate import gaps, values_or_bounds

__all__ = ["pass_estimates", "sound_estimates", "unsolved_estimate"]

_OF_PASS = ("pass@k", "unsolved@k")


def sound_estimates(card: Scorecard, run: RunCounts) -> list[Estimate]:
    """The estimates of a scorecard; pass@k and unsolved problems have bounds where rollouts or verdicts are missing.

    ``run``: the counts of all its problems. In a scorecard of an earlier version, pass@k is the mean over the problems
    with at least k rollouts, and there are no bounds for rollouts without a verdict.
    """
    return [_sound(item, run) if item.name in (*_OF_PASS, "unsolved") else item for item in card.estimates]


def pass_estimates(run: RunCounts, ks: Sequence[int]) -> list[Estimate]:
    """pass@k of a run at these budgets, from its counts."""
    labels = [
        Estimate(name="pass@k", k=k, value=None, method=run.counts.method, n_samples=int(run.n.min()), note=note)
        for k, note in zip(ks, gaps(run.counts, ks), strict=True)
    ]
    return values_or_bounds(labels, run.counts, clusters(run))


def unsolved_estimate(run: RunCounts, k: int) -> Estimate:
    """Expected number of the run's problems that k rollouts leave unsolved."""
    (estimate,) = unsolved_in(run.counts, [k], "unsolved", "expected count of problems", clusters(run))
    return msgspec.structs.replace(estimate, n_samples=k)


def _sound(item: Estimate, run: RunCounts) -> Estimate:
    if item.k is None or item.at_least is not None:
        return item
    if item.name == "unsolved":
        uneven = run.stopping is None and bool((run.n != item.k).any())
        return unsolved_estimate(run, run.largest_k) if uneven or run.counts.errors.any() else item
    if gaps(run.counts, [item.k])[0] is None and not run.counts.errors.any():
        return item
    if item.name == "pass@k":
        return pass_estimates(run, [item.k])[0]
    return unsolved_in(run.counts, [item.k], "unsolved@k", item.method, clusters(run))[0]
