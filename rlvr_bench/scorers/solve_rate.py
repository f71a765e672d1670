"""pass@k over problems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.errors import RunError
from rlvr_bench.records import Estimate, Outcomes, StoppingRule
from rlvr_bench.scorers.common import clusters_of, left_out, with_intervals

__all__ = ["default_ks", "largest_k", "pass_at_k", "pass_table", "pass_under_rule"]


def default_ks(n: int) -> list[int]:
    """Powers of two up to n, and n."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def largest_k(outcomes: Outcomes) -> int:
    """Largest budget with an estimate: the most rollouts of a problem, or what a stopping rule would have drawn."""
    return outcomes.asked if outcomes.stopping else int(outcomes.n_samples.max(initial=0))


def pass_at_k(outcomes: Outcomes, ks: Sequence[int] | None = None) -> list[Estimate]:
    """Unbiased pass@k (Chen et al. 2021, arXiv 2107.03374), averaged over problems, with a bootstrap interval.

    A problem with fewer than k rollouts has no pass@k: it is left out of that k and the note says so; where none is left,
    the value is None. A run under a stopping rule gets the unbiased estimator for that rule (``stats.pass_at_k_stopped``);
    raises RunError where it has not been drawn to its end, since what is missing are the hardest problems.
    """
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    grid = list(ks) if ks is not None else default_ks(largest_k(outcomes))
    found, estimator = _interval(outcomes, drawn, grid)
    few = (
        outcomes.n_samples[:, None] < np.array(grid)
        if outcomes.stopping is None
        else np.array(grid)[None] > outcomes.asked
    )
    labels = [
        Estimate(
            name="pass@k",
            k=k,
            value=None,
            method=estimator,
            n_samples=int(outcomes.n_samples[drawn].min()),
            note=left_out(int(few[:, i].sum()), len(few), k),
        )
        for i, k in enumerate(grid)
    ]
    return with_intervals(labels, found)


def pass_table(
    outcomes: Outcomes, drawn: npt.NDArray[np.bool_], grid: Sequence[int]
) -> tuple[npt.NDArray[np.float64], str]:
    """Unbiased pass@k of each drawn problem, (D, K), NaN where it has fewer than k rollouts, and the estimator's name.

    Raises RunError where a run under a stopping rule has not been drawn to its end.
    """
    rule = outcomes.stopping
    if rule is None:
        return stats.pass_at_k(outcomes.n_correct[drawn], outcomes.n_samples[drawn], grid), "unbiased"
    values = pass_under_rule(outcomes.n_correct, outcomes.n_samples, grid, rule, outcomes.asked)
    return values, f"unbiased under stop-after {rule.stop_after}, batches of {rule.batch}"


def pass_under_rule(
    c: npt.NDArray[np.int64], n: npt.NDArray[np.int64], grid: Sequence[int], rule: StoppingRule, asked: int
) -> npt.NDArray[np.float64]:
    """Unbiased pass@k of each problem of a run under a stopping rule, (P, K), NaN where k > asked.

    Raises RunError where the run has not been drawn to the end of its rule.
    """
    unfinished = int(((n < asked) & (c < rule.stop_after)).sum())
    if unfinished:
        raise RunError(
            f"{unfinished} problems are not drawn to the end of the stopping rule, and they are the hard ones. "
            "Run the same evaluate again to finish."
        )
    return stats.pass_at_k_stopped(c, n, grid, rule.stop_after, asked, rule.batch)


def _interval(outcomes: Outcomes, drawn: npt.NDArray[np.bool_], grid: list[int]) -> tuple[stats.Interval, str]:
    clusters = clusters_of(outcomes, drawn)
    if outcomes.stopping is None:
        n, c = outcomes.n_samples[drawn], outcomes.n_correct[drawn]
        return stats.bootstrap(c, n, grid, rng=stats.fresh_rng(), clusters=clusters), "unbiased"
    values, name = pass_table(outcomes, drawn, grid)
    return stats.rising_limits(
        stats.bootstrap_mean(values, rng=stats.fresh_rng(), clusters=clusters), np.array(grid)
    ), name
