"""The capability boundary: problems that none of the run's rollouts solved, and how solve rates are spread."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, rate_estimates, with_bounds, with_intervals
from rlvr_bench.scorers.counts import Counts
from rlvr_bench.scorers.solve_rate import budgets, gaps

__all__ = [
    "HISTOGRAM_BINS",
    "UnsolvedSet",
    "accuracy_histogram",
    "boundary",
    "unsolved_in",
    "unsolved_set",
    "unsolved_sizes",
]

# Figure 4 of arXiv 2504.13837: none, ten tenths, all.
HISTOGRAM_BINS = ("0", *(f"({i / 10:g}, {(i + 1) / 10:g}{')' if i == 9 else ']'}" for i in range(10)), "1")


@dataclasses.dataclass(frozen=True)
class UnsolvedSet:
    """The problems that no rollout solved: ids, their numbers of rollouts, and upper limits of their solve rates.

    ``bounds`` are exact one-sided 95 % limits for 0 correct of n (``stats.unsolved_upper_bound``).
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
    """Number of problems unsolved by k rollouts (arXiv 2508.07534 section 2), at the largest k that every problem has.

    Where problems have more than k rollouts it is the expected number among k of them, sum of C(n-c, k) / C(n, k). The
    interval is for another problem set of the same size and kind. The note states the upper limit of a problem's solve
    rate after 0 correct of k rollouts: unsolved is not unsolvable.
    """
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    counts = Counts.of_outcomes(outcomes)
    k = counts.largest_k
    bound = float(stats.unsolved_upper_bound(k)[0])
    even = k == counts.asked if counts.stopping else bool((counts.n == k).all())
    method = "count of problems" if even else "expected count of problems"
    (unsolved,) = unsolved_in(counts, [k], "unsolved", method, clusters_of(outcomes, drawn))
    notes = [f"an unsolved problem may still have a solve rate of up to {bound:.2g} (95 % bound from 0 of {k})"]
    notes += [unsolved.note] if unsolved.note else []
    return [msgspec.structs.replace(unsolved, n_samples=k, note="; ".join(notes))]


def unsolved_sizes(outcomes: Outcomes, ks: Sequence[int] | None = None) -> list[Estimate]:
    """Expected number of problems that k fresh rollouts leave unsolved, at every k: sum of C(n-c, k) / C(n, k).

    An expectation over sets of k rollouts, so without the noise of a single set (``stats.expected_unsolved``). Budgets,
    bounds and errors as in ``pass_at_k``.
    """
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    counts = Counts.of_outcomes(outcomes)
    grid = list(ks) if ks is not None else budgets(counts)
    method = f"expected count of problems, {counts.method}"
    return unsolved_in(counts, grid, "unsolved@k", method, clusters_of(outcomes, drawn))


def unsolved_in(
    counts: Counts, ks: Sequence[int], name: str, method: str, clusters: npt.NDArray[np.str_] | None
) -> list[Estimate]:
    """Expected numbers of problems that k rollouts leave unsolved, called ``name``: values, or bounds."""
    labels = [
        Estimate(name=name, k=k, value=None, method=method, n_samples=int(counts.n.min()), note=note)
        for k, note in zip(ks, gaps(counts, ks), strict=True)
    ]
    pass_bounds = counts.bounds(ks)
    exact = (pass_bounds.low == pass_bounds.high).all(axis=0) & np.array([label.note is None for label in labels])
    solved = stats.bootstrap_mean(np.clip(pass_bounds.low, 0.0, 1.0), rng=stats.fresh_rng(), clusters=clusters)
    solved = stats.rising_limits(solved, np.array(ks))
    unsolved = dataclasses.replace(solved, value=1 - solved.value, low=1 - solved.high, high=1 - solved.low)
    values = with_intervals(labels, unsolved, as_count=True)
    bounds = with_bounds(labels, pass_bounds, clusters, as_count=True)
    return [value if known else both for value, both, known in zip(values, bounds, exact, strict=True)]


def accuracy_histogram(outcomes: Outcomes) -> list[Estimate]:
    """Number of problems by observed solve rate c/n in the 12 bins of arXiv 2504.13837 section 4.1.

    ``group`` names the bin: 0, ten tenths open on the left, and 1. The counts depend on n: with more rollouts fewer
    problems are at 0 and at 1. Under a stopping rule c/n is biased: pass the outcomes of the first batch only
    (``Outcomes.fair``).
    """
    n, c = outcomes.n_samples, outcomes.n_correct
    drawn = n > 0
    if not drawn.any():
        return []
    c, n = c[drawn], n[drawn]
    tenth = -(-10 * c // n)  # in whole numbers, so that 3 of 10 is in (0.2, 0.3] in spite of rounding
    bin_index = np.where(c == n, 11, tenth)
    member = (bin_index[:, None] == np.arange(12)).astype(np.float64)
    label = Estimate(name="accuracy_histogram", value=None, method="count of problems", n_samples=int(n.min()))
    labels = [msgspec.structs.replace(label, group=name) for name in HISTOGRAM_BINS]
    return rate_estimates(labels, member, clusters_of(outcomes, drawn), as_count=True)
