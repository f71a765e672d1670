"""pass@k over problems."""

from __future__ import annotations

from collections.abc import Sequence

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, fresh_rng, optional

__all__ = ["default_ks", "pass_at_k"]


def default_ks(n: int) -> list[int]:
    """Powers of two up to n, and n."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def pass_at_k(outcomes: Outcomes, ks: Sequence[int] | None = None) -> list[Estimate]:
    """Unbiased pass@k (Chen et al. 2021, arXiv 2107.03374), averaged over problems, with a bootstrap interval.

    A problem with fewer than k rollouts has no pass@k: it is left out of that k and the note says so; where none is left,
    the value is None.
    """
    n, c = outcomes.n_samples, outcomes.n_correct
    drawn = n > 0
    if not drawn.any():
        return []
    grid = list(ks) if ks is not None else default_ks(int(n.max()))
    found = stats.bootstrap(c[drawn], n[drawn], grid, rng=fresh_rng(), clusters=clusters_of(outcomes, drawn))
    return [
        Estimate(
            name="pass@k",
            k=k,
            value=optional(found.value[i]),
            low=optional(found.low[i]),
            high=optional(found.high[i]),
            level=found.level,
            method=f"unbiased; {found.method} over {found.source}",
            n_problems=int(found.n_problems[i]),
            n_samples=int(n[drawn].min()),
            note=_left_out(int((n < k).sum()), len(n), k),
        )
        for i, k in enumerate(grid)
    ]


def _left_out(few: int, problems: int, k: int) -> str | None:
    if not few:
        return None
    return f"{few} of {problems} problems have fewer than {k} rollouts and are left out"
