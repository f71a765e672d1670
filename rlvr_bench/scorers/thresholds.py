"""Reliability: G-Pass@k (a share of k rollouts is correct), Cover@tau, and the share of never solved problems."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.records import STATUSES, Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, fewest, rate_estimates, rates_or_bounds, too_few, with_intervals
from rlvr_bench.scorers.counts import n_chosen

__all__ = ["COVER_TAUS", "G_PASS_KS", "G_PASS_TAUS", "cover", "g_pass", "never_solved"]

FEW_PROBLEMS = 10  # fewer are not enough for a fit of three parameters

G_PASS_KS = (4, 8, 16)  # the budgets of arXiv 2412.13147
G_PASS_TAUS = (0.25, 0.5, 0.75, 1.0)
COVER_TAUS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def g_pass(outcomes: Outcomes, ks: Sequence[int] = G_PASS_KS, taus: Sequence[float] = G_PASS_TAUS) -> list[Estimate]:
    """G-Pass@k_tau (at least the share tau of k rollouts is correct; ``group`` names tau) and mG-Pass@k.

    Liu et al. 2024 (arXiv 2412.13147), eq. 5 and 7, unbiased, averaged over problems. tau = 1 is pass^k. Budgets above
    every problem's n are left out. Where some problems have fewer than k rollouts, the mean has bounds, with 0 and 1
    for these problems.
    """
    drawn = outcomes.n_samples > 0
    n, c = outcomes.n_samples[drawn], outcomes.n_correct[drawn]
    grid = [k for k in ks if k <= n.max(initial=0)]
    if not grid:
        return []
    tables = [stats.g_pass_at_k(c, n, grid, tau) for tau in taus]
    names = [("g_pass@k", f"tau={tau:g}") for tau in taus] + [("mg_pass@k", None)]
    labels = [
        Estimate(
            name=name,
            k=k,
            value=None,
            group=group,
            method="unbiased",
            n_samples=fewest(outcomes),
            note=too_few(int((n < k).sum()), len(n), k),
        )
        for name, group in names
        for k in grid
    ]
    values = np.concatenate([*tables, stats.mg_pass_at_k(c, n, grid)], axis=1)
    return rates_or_bounds(labels, np.clip(values, 0.0, 1.0), clusters_of(outcomes, drawn))


def cover(outcomes: Outcomes, taus: Sequence[float] = COVER_TAUS) -> list[Estimate]:
    """Cover@tau, the share of problems whose solve rate is at least tau (Dragoi et al. 2025, arXiv 2510.08325).

    ``cover`` applies tau to the observed rate c/n, as the paper does, which is noisy near tau. ``cover_posterior`` is
    the mean posterior probability of a solve rate of at least tau. Its prior is fitted to the run, a Beta distribution
    and a share of problems at 0 (``stats.cover_under``); it is Jeffreys' prior where the fit is not possible (fewer
    than 10 problems, or all rollouts correct or all wrong). A posterior does not depend on when sampling stopped, so
    runs under a stopping rule (recorded or probable) have ``cover_posterior`` only: their c/n is biased.
    """
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    n, c = outcomes.n_samples[drawn], outcomes.n_correct[drawn]
    clusters = clusters_of(outcomes, drawn)
    label = Estimate(name="cover", value=None, method="observed rate c/n", n_samples=fewest(outcomes))
    estimates: list[Estimate] = []
    if outcomes.stopping is None and n_chosen(outcomes) is None:
        estimates += rate_estimates(_by_tau(label, taus), stats.cover_at_tau(c, n, taus), clusters)
    label = msgspec.structs.replace(label, name="cover_posterior", method="")
    if not _is_fittable(c, n):
        label = msgspec.structs.replace(label, method="Jeffreys posterior")
        return estimates + rate_estimates(_by_tau(label, taus), stats.cover_at_tau_posterior(c, n, taus), clusters)
    values, interval = stats.cover_under(c, n, taus)
    if clusters is None:
        return estimates + with_intervals(_by_tau(label, taus), interval)
    label = msgspec.structs.replace(label, method=f"{interval.method}, the prior taken as known")
    return estimates + rate_estimates(_by_tau(label, taus), values, clusters)


def never_solved(outcomes: Outcomes) -> list[Estimate]:
    """``never_solved``: the share of problems that no number of rollouts would solve (``stats.never_solved``).

    The note gives it as a number of problems. No value for fewer than 10 problems, or where all rollouts are correct or
    all wrong. Verifier errors count as wrong in the value; the interval includes the case that all are correct.
    """
    drawn = outcomes.n_samples > 0
    n, c = outcomes.n_samples[drawn], outcomes.n_correct[drawn]
    if not drawn.any():
        return []
    if not _is_fittable(c, n):
        note = f"needs {FEW_PROBLEMS} problems, and both correct and wrong rollouts"
        return [Estimate(name="never_solved", value=None, n_problems=len(n), n_samples=fewest(outcomes), note=note)]
    interval = stats.never_solved(c, n)
    low, high = float(interval.low[0]), float(interval.high[0])
    in_error = outcomes.problem[outcomes.status == STATUSES.index("error")]
    perhaps = c + np.bincount(in_error, minlength=len(drawn))[drawn]
    if len(in_error):
        low = min(low, float(stats.never_solved(perhaps, n).low[0])) if _is_fittable(perhaps, n) else 0.0
    size = len(n)
    label = Estimate(
        name="never_solved",
        value=float(interval.value[0]),
        low=low,
        high=high,
        level=interval.level,
        method=interval.method,
        n_problems=size,
        n_samples=fewest(outcomes),
        note=f"of {size:,} such problems between {math.floor(low * size):,} and {math.ceil(high * size):,} would never be "
        "solved by any number of rollouts, if solve rates are Beta-distributed apart from those at 0",
    )
    return [label]


def _is_fittable(c: npt.NDArray[np.int64], n: npt.NDArray[np.int64]) -> bool:
    return len(n) >= FEW_PROBLEMS and 0 < int(c.sum()) < int(n.sum())


def _by_tau(label: Estimate, taus: Sequence[float]) -> list[Estimate]:
    return [msgspec.structs.replace(label, group=f"tau={tau:g}") for tau in taus]
