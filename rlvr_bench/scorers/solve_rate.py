"""pass@k over problems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, with_bounds, with_intervals
from rlvr_bench.scorers.counts import Counts

__all__ = ["budgets", "default_ks", "gaps", "largest_k", "pass_at_k", "pass_of_counts", "values_or_bounds"]


def default_ks(n: int) -> list[int]:
    """Powers of two up to n, and n."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def largest_k(outcomes: Outcomes) -> int:
    """The largest number of rollouts of a problem; under a stopping rule its maximum."""
    return outcomes.asked if outcomes.stopping else int(outcomes.n_samples.max(initial=0))


def budgets(counts: Counts) -> list[int]:
    """Powers of two up to the largest n, that n, and the largest budget that every problem has."""
    return sorted({*default_ks(counts.most), *([counts.largest_k] if counts.largest_k else [])})


def pass_at_k(outcomes: Outcomes, ks: Sequence[int] | None = None) -> list[Estimate]:
    """Unbiased pass@k (Chen et al. 2021, arXiv 2107.03374), averaged over problems, with a bootstrap interval.

    Where a problem has fewer than k rollouts, the mean over problems has bounds and no value (``stats.pass_bounds``).
    If n seems to depend on the verdicts, this is so at every k (``stats.pass_bounds_any_rule``). Rollouts without a
    verdict are not correct in the value, and lead to bounds. For a run under a stopping rule the estimator is unbiased
    under that rule (``stats.pass_at_k_stopped``, or ``stats.pass_at_k_relabelled`` if it stopped on verdicts other than
    the present ones). Raises RunError where such a run is not finished, because the hardest problems are then missing.
    """
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    return pass_of_counts(Counts.of_outcomes(outcomes), ks, clusters_of(outcomes, drawn))


def pass_of_counts(
    counts: Counts, ks: Sequence[int] | None = None, clusters: npt.NDArray[np.str_] | None = None
) -> list[Estimate]:
    """``pass_at_k`` from the counts of the problems that have rollouts; ``clusters``: a label for each of them."""
    grid = list(ks) if ks is not None else budgets(counts)
    labels = [
        Estimate(name="pass@k", k=k, value=None, method=counts.method, n_samples=int(counts.n.min()), note=note)
        for k, note in zip(grid, gaps(counts, grid), strict=True)
    ]
    return values_or_bounds(labels, counts, clusters)


def gaps(counts: Counts, ks: Sequence[int]) -> list[str | None]:
    """The reason why pass@k has bounds, for each budget; None where it has a value."""
    if counts.chosen:
        return ["n seems to depend on what was found: bounds that hold under any stopping rule"] * len(ks)
    short = counts.n[:, None] < np.array(ks)
    if counts.stopping is not None:
        stopped = short & (counts.c[:, None] == 0)
        return [
            f"{few} of {len(counts.n)} problems stopped before {k} rollouts without a correct one: bounds"
            if few
            else None
            for few, k in zip(stopped.sum(axis=0).tolist(), ks, strict=True)
        ]
    return [
        f"{few} of {len(counts.n)} problems have fewer than {k} rollouts: bounds from pass@n to 1 for these"
        if few
        else None
        for few, k in zip(short.sum(axis=0).tolist(), ks, strict=True)
    ]


def values_or_bounds(
    labels: Sequence[Estimate], counts: Counts, clusters: npt.NDArray[np.str_] | None
) -> list[Estimate]:
    """The labels with the mean pass@k at their budgets: a value where it is known, else bounds."""
    grid = [label.k or 1 for label in labels]
    if counts.has_all(max(grid)):
        interval = stats.bootstrap(counts.c, counts.n, grid, rng=stats.fresh_rng(), clusters=clusters)
        return with_intervals(labels, interval)
    bounds = counts.bounds(grid)
    exact = (bounds.low == bounds.high).all(axis=0) & np.array([label.note is None for label in labels])
    done: dict[int, Estimate] = {}
    if len(known := np.flatnonzero(exact)):
        if counts.stopping is None:
            interval = stats.bootstrap(
                counts.c, counts.n, [grid[i] for i in known], rng=stats.fresh_rng(), clusters=clusters
            )
        else:
            interval = stats.bootstrap_mean(bounds.low[:, known], rng=stats.fresh_rng(), clusters=clusters)
            interval = stats.rising_limits(interval, np.array(grid)[known])
        done |= dict(zip(known.tolist(), with_intervals([labels[i] for i in known], interval), strict=True))
    if len(open_ := np.flatnonzero(~exact)):
        some = stats.PassBounds(bounds.low[:, open_], bounds.high[:, open_])
        done |= dict(zip(open_.tolist(), with_bounds([labels[i] for i in open_], some, clusters), strict=True))
    return [done[i] for i in range(len(labels))]
