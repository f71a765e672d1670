"""Bayesian pass@k against scorio, numerical integration and published fits."""

from __future__ import annotations

import numpy as np
import pytest
import scorio.eval
from scipy.integrate import quad

from rlvr_bench.stats import JEFFREYS, UNIFORM, fit_beta_prior, pass_at_k_posterior
from tests.stats.reference import PYTHIA_COUNTS


def test_agrees_with_scorio() -> None:
    rng = np.random.default_rng(4)
    table = (rng.random((12, 16)) < rng.random((12, 1))).astype(int)
    for k in [1, 4, 16]:
        mean, sd, _, _ = scorio.eval.pass_at_k_ci(table, k)
        got = pass_at_k_posterior(table.sum(axis=1), 16, k, prior=UNIFORM)
        assert got.mean.mean() == pytest.approx(mean, abs=1e-13)
        assert np.sqrt((got.sd**2).sum()) / 12 == pytest.approx(sd, abs=1e-13)


@pytest.mark.parametrize(("c", "n", "k"), [(0, 8, 4), (3, 8, 4), (8, 8, 2), (1, 4, 40)])
def test_moments_by_integration_also_above_n(c: int, n: int, k: int) -> None:
    def integral(power: int) -> float:
        return float(quad(lambda p: p ** (c + 0.5) * (1 - p) ** (n - c + 1.5 + power), 0, 1, epsabs=1e-14)[0])

    got = pass_at_k_posterior(c, n, k, prior=(1.5, 2.5))
    once, twice = integral(k) / integral(0), integral(2 * k) / integral(0)
    assert got.mean.item() == pytest.approx(1 - once, abs=1e-9)
    assert got.sd.item() == pytest.approx(np.sqrt(twice - once**2), abs=1e-7)


def test_flat_prior_lifts_unsolved_problems() -> None:
    """Known trap: with n = 48 and a flat prior an unsolved problem contributes 0.246 to pass@16."""
    assert pass_at_k_posterior(0, 48, 16, prior=UNIFORM).mean.item() == pytest.approx(0.246, abs=5e-4)
    assert pass_at_k_posterior(0, 48, 16, prior=JEFFREYS).mean.item() < 0.14


def test_limits_hold_the_stated_mass() -> None:
    """The limits are those of p, carried through 1 - (1-p)^k: check their mass by drawing p."""
    got = pass_at_k_posterior([2], [10], [1, 5, 50], level=0.9)
    p = np.random.default_rng(5).beta(2.5, 8.5, 200_000)
    for column, k in enumerate([1, 5, 50]):
        draws = 1 - (1 - p) ** k
        assert np.mean(draws < got.low[0, column]) == pytest.approx(0.05, abs=3e-3)
        assert np.mean(draws > got.high[0, column]) == pytest.approx(0.05, abs=3e-3)


def test_average_over_problems() -> None:
    got = pass_at_k_posterior([0, 4, 8], 8, [1, 8])
    average = got.average()
    assert average.value == pytest.approx(got.mean.mean(axis=0))
    assert (average.low < average.value).all()
    assert (average.value < average.high).all()
    assert average.source == "rollouts"


# maximum-likelihood beta-binomial fits, unbounded, made independently
FITS = {
    "Pythia 70M": (0.06504, 100.08),
    "Pythia 160M": (0.17551, 65.575),
    "Pythia 410M": (0.18039, 28.748),
    "Pythia 1B": (0.21556, 25.489),
    "Pythia 2.8B": (0.24602, 11.704),
    "Pythia 6.9B": (0.26980, 14.163),
    "Pythia 12B": (0.29551, 12.365),
}


@pytest.mark.parametrize("model", FITS)
def test_fitted_prior(model: str) -> None:
    assert fit_beta_prior(PYTHIA_COUNTS[model], 10_000) == pytest.approx(FITS[model], rel=1e-4)


def test_fitted_prior_finds_the_truth() -> None:
    rng = np.random.default_rng(6)
    n = rng.integers(8, 64, 20_000)
    assert fit_beta_prior(rng.binomial(n, rng.beta(0.4, 1.5, n.size)), n) == pytest.approx((0.4, 1.5), rel=0.05)


def test_nothing_to_fit() -> None:
    for c in (0, 8):
        with pytest.raises(ValueError, match="to fit a model"):
            fit_beta_prior([c, c], 8)
