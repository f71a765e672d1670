"""pass@k over problems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.errors import RunError
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, fresh_rng, optional

__all__ = ["default_ks", "pass_at_k"]


def default_ks(n: int) -> list[int]:
    """Powers of two up to n, and n."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def pass_at_k(outcomes: Outcomes, ks: Sequence[int] | None = None) -> list[Estimate]:
    """Unbiased pass@k (Chen et al. 2021, arXiv 2107.03374), averaged over problems, with a bootstrap interval.

    A problem with fewer than k rollouts has no pass@k: it is left out of that k and the note says so; where none is left,
    the value is None. A run under a stopping rule gets the unbiased estimator for that rule (``stats.pass_at_k_stopped``);
    raises RunError where it has not been drawn to its end, since what is missing are the hardest problems.
    """
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    grid = (
        list(ks)
        if ks is not None
        else default_ks(outcomes.asked if outcomes.stopping else int(outcomes.n_samples.max()))
    )
    found, estimator = _interval(outcomes, drawn, grid)
    few = (
        outcomes.n_samples[:, None] < np.array(grid)
        if outcomes.stopping is None
        else np.array(grid)[None] > outcomes.asked
    )
    return [
        Estimate(
            name="pass@k",
            k=k,
            value=optional(found.value[i]),
            low=optional(found.low[i]),
            high=optional(found.high[i]),
            level=found.level,
            method=f"{estimator}; {found.method} over {found.source}",
            n_problems=int(found.n_problems[i]),
            n_samples=int(outcomes.n_samples[drawn].min()),
            note=_left_out(int(few[:, i].sum()), len(few), k),
        )
        for i, k in enumerate(grid)
    ]


def _interval(outcomes: Outcomes, drawn: npt.NDArray[np.bool_], grid: list[int]) -> tuple[stats.Interval, str]:
    n, c, clusters = outcomes.n_samples[drawn], outcomes.n_correct[drawn], clusters_of(outcomes, drawn)
    rule = outcomes.stopping
    if rule is None:
        return stats.bootstrap(c, n, grid, rng=fresh_rng(), clusters=clusters), "unbiased"
    unfinished = int(((n < outcomes.asked) & (c < rule.stop_after)).sum() + (~drawn).sum())
    if unfinished:
        raise RunError(
            f"{unfinished} problems are not drawn to the end of the stopping rule, and they are the hard ones. "
            "Run the same evaluate again to finish."
        )
    values = stats.pass_at_k_stopped(c, n, grid, rule.stop_after, outcomes.asked, rule.batch)
    name = f"unbiased under stop-after {rule.stop_after}, batches of {rule.batch}"
    return stats.bootstrap_mean(values, rng=fresh_rng(), clusters=clusters), name


def _left_out(few: int, problems: int, k: int) -> str | None:
    if not few:
        return None
    return f"{few} of {problems} problems have fewer than {k} rollouts and are left out"
