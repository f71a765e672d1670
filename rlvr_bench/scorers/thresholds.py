"""How reliably problems are solved: G-Pass@k, which asks for a share of k rollouts, and Cover@tau."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, fewest, rate_estimates, rates_or_bounds, too_few
from rlvr_bench.scorers.counts import n_chosen

__all__ = ["COVER_TAUS", "G_PASS_KS", "G_PASS_TAUS", "cover", "g_pass"]

G_PASS_KS = (4, 8, 16)  # the budgets of arXiv 2412.13147
G_PASS_TAUS = (0.25, 0.5, 0.75, 1.0)
COVER_TAUS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def g_pass(outcomes: Outcomes, ks: Sequence[int] = G_PASS_KS, taus: Sequence[float] = G_PASS_TAUS) -> list[Estimate]:
    """G-Pass@k_tau (at least the share tau of k rollouts is correct; ``group`` names tau) and mG-Pass@k.

    Liu et al. 2024 (arXiv 2412.13147), eq. 5 and 7, unbiased, averaged over problems. tau = 1 is pass^k. Budgets that no
    problem has rollouts for are left out; where some have fewer than k the mean has bounds, with 0 and 1 for these.
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

    ``cover`` applies tau to the observed rate c/n, as the paper does, which is noisy near tau; ``cover_posterior`` is
    the mean posterior probability of a solve rate of at least tau under Jeffreys' prior. A posterior does not depend on
    when sampling stopped, so the second also serves runs under a stopping rule, on record or by all signs, for which c/n is
    biased: they get no ``cover``.
    """
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    n, c = outcomes.n_samples[drawn], outcomes.n_correct[drawn]
    kinds = [("cover_posterior", "Jeffreys posterior", stats.cover_at_tau_posterior(c, n, taus))]
    if outcomes.stopping is None and n_chosen(outcomes) is None:
        kinds.insert(0, ("cover", "observed rate c/n", stats.cover_at_tau(c, n, taus)))
    labels = [
        Estimate(name=name, value=None, group=f"tau={tau:g}", method=method, n_samples=fewest(outcomes))
        for name, method, _ in kinds
        for tau in taus
    ]
    return rate_estimates(labels, np.concatenate([table for *_, table in kinds], axis=1), clusters_of(outcomes, drawn))
