"""The capability boundary: problems that none of the run's rollouts solved, and how solve rates are spread."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec
import numpy as np

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, fewest, left_out, rate_estimates, with_intervals
from rlvr_bench.scorers.solve_rate import default_ks, largest_k, pass_table

__all__ = ["HISTOGRAM_BINS", "UnsolvedSet", "accuracy_histogram", "boundary", "unsolved_set", "unsolved_sizes"]

# Figure 4 of arXiv 2504.13837: none, ten tenths, all.
HISTOGRAM_BINS = ("0", *(f"({i / 10:g}, {(i + 1) / 10:g}{')' if i == 9 else ']'}" for i in range(10)), "1")


@dataclasses.dataclass(frozen=True)
class UnsolvedSet:
    """The problems that none of the rollouts solved: ids, rollouts each had, and the largest solve rate still possible.

    ``bounds`` are exact one-sided limits at 95 % from 0 correct of n (``stats.unsolved_upper_bound``).
    """

    ids: tuple[str, ...]
    n_samples: tuple[int, ...]
    bounds: tuple[float, ...]


def unsolved_set(outcomes: Outcomes) -> UnsolvedSet:
    """The n-rollout unsolvable set (arXiv 2508.07534 section 2) of a run; problems without rollouts are not in it."""
    where = np.flatnonzero((outcomes.n_samples > 0) & (outcomes.n_correct == 0))
    if not len(where):
        return UnsolvedSet((), (), ())
    n = outcomes.n_samples[where]
    bounds = stats.unsolved_upper_bound(n)
    return UnsolvedSet(tuple(outcomes.problem_ids[i] for i in where), tuple(n.tolist()), tuple(bounds.tolist()))


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
    fewest_drawn = outcomes.asked if outcomes.stopping else int(n[drawn].min())
    bound = float(stats.unsolved_upper_bound(fewest_drawn)[0])
    label = Estimate(
        name="unsolved",
        k=fewest_drawn,
        value=None,
        method="count of problems",
        n_samples=fewest_drawn,
        note=f"an unsolved problem may still have a solve rate of up to {bound:.2g} (95 % bound from 0 of {fewest_drawn})",
    )
    unsolved = (c[drawn] == 0).astype(np.float64)[:, None]
    return rate_estimates([label], unsolved, clusters_of(outcomes, drawn), as_count=True)


def unsolved_sizes(outcomes: Outcomes, ks: Sequence[int] | None = None) -> list[Estimate]:
    """Expected number of problems that k fresh rollouts leave unsolved, at every k: sum of C(n-c, k) / C(n, k).

    Free of the noise of one particular set of k rollouts (``stats.expected_unsolved``). Budgets, errors and what is left
    out as in ``pass_at_k``.
    """
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    grid = list(ks) if ks is not None else default_ks(largest_k(outcomes))
    values, method = pass_table(outcomes, drawn, grid)
    few = np.isnan(values).sum(axis=0)
    labels = [
        Estimate(
            name="unsolved@k",
            k=k,
            value=None,
            method=f"expected count of problems, {method}",
            n_samples=fewest(outcomes),
            note=left_out(int(few[i]), len(values), k),
        )
        for i, k in enumerate(grid)
    ]
    solved = stats.bootstrap_mean(
        np.clip(values, 0.0, 1.0), rng=stats.fresh_rng(), clusters=clusters_of(outcomes, drawn)
    )
    solved = stats.rising_limits(solved, np.array(grid))
    unsolved = dataclasses.replace(solved, value=1 - solved.value, low=1 - solved.high, high=1 - solved.low)
    return with_intervals(labels, unsolved, as_count=True)


def accuracy_histogram(outcomes: Outcomes) -> list[Estimate]:
    """Number of problems by observed solve rate c/n in the 12 bins of arXiv 2504.13837 section 4.1.

    ``group`` names the bin: 0, ten tenths open on the left, and 1. The counts depend on n: with more rollouts fewer
    problems are at 0 and at 1. Under a stopping rule c/n is biased: give the first batch (``Outcomes.fair``).
    """
    n, c = outcomes.n_samples, outcomes.n_correct
    drawn = n > 0
    if not drawn.any():
        return []
    c, n = c[drawn], n[drawn]
    tenth = -(-10 * c // n)  # whole numbers: 3 of 10 is in (0.2, 0.3] and not above it
    place = np.where(c == n, 11, tenth)
    member = (place[:, None] == np.arange(12)).astype(np.float64)
    label = Estimate(name="accuracy_histogram", value=None, method="count of problems", n_samples=int(n.min()))
    labels = [msgspec.structs.replace(label, group=name) for name in HISTOGRAM_BINS]
    return rate_estimates(labels, member, clusters_of(outcomes, drawn), as_count=True)
