"""How much more data a finding of "cannot tell" needs, and how many rollouts to draw before the next look."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from rlvr_bench.checking.results import Finding, NextLook
from rlvr_bench.comparison.cards import RunCounts
from rlvr_bench.stats.sequential import Looks

__all__ = ["needed", "next_look"]

POWER = 0.8
MOST_NEEDED = 1_000_000
GROWTH = 2  # from look to look
ROUNDS = 30


def needed(finding: Finding, looks: Looks, level: float, tests: int) -> int | None:
    """Rollouts (or problems) for 80 % power to distinguish a change of the estimated size from the tolerance.

    The variance of an unbiased estimate of a budget k falls at least as fast as 1/n (Hoeffding 1948, theorem 5.2), so
    for rollouts this number is an upper bound. Anytime-valid limits become slowly wider in standard errors as n grows;
    the number includes this. None if it is above a million.
    """
    distance = abs(finding.worse_by - finding.tolerance)
    above = finding.worse_by > finding.tolerance
    half = finding.worse_by - finding.low if above else finding.high - finding.worse_by
    if not distance > 0:
        return None
    error = half / looks.quantile(level)
    present = finding.n_problems if finding.source == "problems" else finding.n_samples
    corrected = 1 - (1 - level) / (tests if above else 1)
    factor = 1.0
    for _ in range(ROUNDS):
        then = looks if finding.source == "problems" else looks.after(factor)
        factor = min(((then.quantile(corrected) + float(ndtri(POWER))) * error / distance) ** 2, float(MOST_NEEDED))
    number = math.ceil(present * factor)
    return max(present + 1, number) if number <= MOST_NEEDED else None


def next_look(finding: Finding, enough: int | None, runs: Sequence[RunCounts]) -> NextLook | None:
    """The next look, if more rollouts would settle the finding; None if not, or if there is only one look."""
    if finding.source != "rollouts" or finding.looks == "one" or enough is None:
        return None
    n = min(enough, GROWTH * finding.n_samples)
    new = [np.maximum(n - run.n, 0) for run in runs]
    lengths = [
        np.nanmean(column) if not np.isnan(column := run.column("tokens_mean")).all() else np.nan for run in runs
    ]
    tokens = sum(float(size.sum()) * float(length) for size, length in zip(new, lengths, strict=True) if size.any())
    rollouts = sum(int(size.sum()) for size in new)
    return NextLook(n=n, rollouts=rollouts, tokens=None if math.isnan(tokens) else round(tokens))
