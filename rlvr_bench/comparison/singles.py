"""Single problems that one run solves more or less often than the other, at a controlled false discovery rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlvr_bench import stats
from rlvr_bench.comparison.cards import RunCounts
from rlvr_bench.comparison.results import ChangedProblems, ProblemChange

__all__ = ["FALSE_DISCOVERIES", "changed_problems"]

FALSE_DISCOVERIES = 0.05
METHOD = "Fisher's exact test of each problem's solve rate; Benjamini and Hochberg's correction"


def changed_problems(ids: Sequence[str], first: RunCounts, second: RunCounts) -> ChangedProblems | None:
    """The problems whose solve rate differs between the runs, at a false discovery rate of at most 5 %.

    The tests are discrete. A problem whose smallest attainable p-value, given its pooled count, is not below 5 % could
    never be listed, so it is not tested. The tests stay valid, because this depends only on the pooled counts, and the
    correction is for fewer tests. None where a run stopped early or seems to have: its counts do not have the
    distribution that the test assumes.
    """
    if any(run.stopping is not None or run.counts.chosen for run in (first, second)):
        return None
    p_values, least = stats.fisher_exact((first.c, first.n), (second.c, second.n))
    tested = least < FALSE_DISCOVERIES
    adjusted = np.full(len(p_values), np.nan)
    if tested.any():
        adjusted[tested] = stats.benjamini_hochberg(p_values[tested])
    rates = [run.c / run.n for run in (first, second)]
    listed = [i for i in np.argsort(p_values, kind="stable").tolist() if adjusted[i] < FALSE_DISCOVERIES]
    changes = [
        ProblemChange(
            id=ids[i],
            first=float(rates[0][i]),
            second=float(rates[1][i]),
            p_value=float(p_values[i]),
            p_adjusted=float(adjusted[i]),
        )
        for i in listed
    ]
    return ChangedProblems(
        gained=tuple(change for change in changes if change.second > change.first),
        lost=tuple(change for change in changes if change.second < change.first),
        tested=int(tested.sum()),
        rate=FALSE_DISCOVERIES,
        method=METHOD,
    )
