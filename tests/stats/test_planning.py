"""Power of a paired comparison: its variances by enumeration, and what it promises by simulation of whole comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rlvr_bench.stats import Resampling, paired_bootstrap
from rlvr_bench.stats.planning import assumed_rates, change_of, comparison_power, problems_for, rollout_variance

SPREAD = ((1.0, 0.3, 1.0),)


def test_assumed_rates_are_the_quantiles_of_the_mixture() -> None:
    rates = assumed_rates([(0.25, 0.0, 1.0), (0.25, 1.0, 0.0), (0.5, 2.0, 5.0)])
    assert np.mean(rates == 0) == pytest.approx(0.25)
    assert np.mean(rates == 1) == pytest.approx(0.25)
    inside = rates[(rates > 0) & (rates < 1)]
    assert scipy_stats.kstest(inside, scipy_stats.beta(2, 5).cdf).statistic < 1e-3


@pytest.mark.parametrize(("n", "k"), [(8, 1), (8, 3), (8, 8), (64, 16)])
def test_rollout_variance_is_that_of_every_outcome(n: int, k: int) -> None:
    rates = np.array([0.0, 0.003, 0.2, 0.9, 1.0])
    got = rollout_variance(rates, n, k)
    for p, variance in zip(rates, got, strict=True):
        chance = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
        value = [1 - math.comb(n - c, k) / math.comb(n, k) for c in range(n + 1)]
        mean = sum(a * b for a, b in zip(chance, value, strict=True))
        expected = sum(a * (b - mean) ** 2 for a, b in zip(chance, value, strict=True))
        assert variance == pytest.approx(expected, rel=5e-3, abs=1e-6)


def test_the_change_is_the_difference_asked_for() -> None:
    for difference in (0.03, -0.05):
        change = change_of(assumed_rates(SPREAD), 16, difference, 0.5)
        passed = [np.mean(1 - (1 - rates) ** 16) for rates in (change.first, change.second)]
        assert passed[1] - passed[0] == pytest.approx(difference, abs=1e-6)


@pytest.mark.parametrize(("parts", "k", "n", "problems"), [(SPREAD, 1, 16, 60), (SPREAD, 16, 64, 150)])
def test_power_is_the_share_of_comparisons_that_show_it(
    parts: tuple[tuple[float, float, float], ...], k: int, n: int, problems: int
) -> None:
    """200 comparisons at a difference with a power near 0.6; three standard errors are 0.10."""
    rng = np.random.default_rng(k)
    difference = 0.03
    while comparison_power(change := change_of(assumed_rates(parts), k, difference, 0.5), problems, n) < 0.6:
        difference += 0.005
    promised = comparison_power(change, problems, n)
    shown = 0
    for _ in range(200):
        which = rng.integers(0, change.first.size, problems)
        runs = [(rng.binomial(n, rates[which]), n) for rates in (change.second, change.first)]
        got = paired_bootstrap(runs[0], runs[1], k, rng=rng, options=Resampling(replicates=300))
        shown += bool(got.p_value[0] < 0.05)
    assert shown / 200 == pytest.approx(promised, abs=0.11)


def test_problems_for_is_the_fewest() -> None:
    change = change_of(assumed_rates(SPREAD), 4, 0.04, 0.5)
    problems = problems_for(change, 16, power=0.8)
    assert problems is not None
    assert comparison_power(change, problems, 16) >= 0.8 > comparison_power(change, problems - 1, 16)


def test_clusters_cost_power() -> None:
    change = change_of(assumed_rates(SPREAD), 4, 0.04, 0.5)
    alone, together = (comparison_power(change, 60, 64, cluster=cluster) for cluster in ((1.0, 0.2), (10.0, 0.2)))
    assert together < alone - 0.03


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="difference is 60.*pass@16"):
        change_of(assumed_rates(SPREAD), 16, 0.6, 0.5)
    with pytest.raises(ValueError, match="k is 32"):
        comparison_power(change_of(assumed_rates(SPREAD), 32, 0.03, 0.5), 100, 16)
