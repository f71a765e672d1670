"""The share of never-solved problems: limits, coverage by simulation, and the posterior under the fitted model."""

from __future__ import annotations

import numpy as np
import pytest

from rlvr_bench.stats import cover_at_tau_posterior, cover_under, fit_zero_inflated, never_solved


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4])
def test_interval_of_the_share_covers(share: float) -> None:
    """40 runs of 200 problems, n = 64; at a coverage of 0.95 fewer than 34 of 40 have a chance of 0.014."""
    rng = np.random.default_rng(int(100 * share))
    held = 0
    for _ in range(40):
        p = rng.beta(1, 3, 200) * (rng.random(200) >= share)
        got = never_solved(rng.binomial(64, p), 64)
        held += bool(got.low[0] <= share <= got.high[0])
        assert got.low[0] <= got.value[0] <= got.high[0]
    assert held >= 34


def test_with_enough_rollouts_the_share_is_that_of_the_unsolved() -> None:
    """Rates of Beta(4, 4): after 256 rollouts whoever is unsolved is never solved, and the interval is a binomial one."""
    rng = np.random.default_rng(1)
    p = rng.beta(4, 4, 300) * (rng.random(300) >= 0.1)
    c = rng.binomial(256, p)
    got = never_solved(c, 256)
    unsolved = float(np.mean(c == 0))
    error = np.sqrt(unsolved * (1 - unsolved) / 300)
    assert got.value[0] == pytest.approx(unsolved, abs=1e-3)
    assert got.high[0] - got.low[0] == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_rates_near_zero_leave_the_share_open() -> None:
    rng = np.random.default_rng(2)
    got = never_solved(rng.binomial(64, rng.beta(0.2, 2, 200)), 64)
    assert got.low[0] == 0
    assert got.high[0] > 0.15


def test_cover_is_that_of_the_population_where_jeffreys_prior_is_not() -> None:
    """Half of the problems at 0, n = 16: the share with a rate of at least 0.01 is near a half."""
    rng = np.random.default_rng(3)
    held = []
    for _ in range(30):
        c = rng.binomial(16, rng.beta(2, 3, 300) * (rng.random(300) < 0.5))
        values, got = cover_under(c, 16, [0.01, 0.5])
        assert values.mean(axis=0) == pytest.approx(got.value)
        held.append((got.low[0] <= 0.5 <= got.high[0]) and got.value[0] == pytest.approx(0.5, abs=0.1))
    assert np.mean(held) > 0.8
    assert cover_at_tau_posterior(c, 16, [0.01]).mean() > 0.7


def test_a_solved_problem_has_its_beta_posterior() -> None:
    rng = np.random.default_rng(4)
    c = rng.binomial(32, rng.beta(1, 2, 100) * (rng.random(100) < 0.6))
    fit = fit_zero_inflated(c, 32)
    values, _ = cover_under(c, 32, [0.3])
    under = cover_at_tau_posterior(c, 32, [0.3], (fit.alpha, fit.beta))
    assert values[c > 0] == pytest.approx(under[c > 0])
    assert (values[c == 0] < under[c == 0]).all()


@pytest.mark.parametrize("c", [[0] * 20, [8] * 20])
def test_equal_rollouts_cannot_be_fitted(c: list[int]) -> None:
    with pytest.raises(ValueError, match="to fit a model"):
        never_solved(c, 8)
