"""Extrapolated pass@k against published fits, closed forms and, in test_coverage, simulation."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from rlvr_bench.stats import extrapolate_pass_at_k, fit_power_law, pass_at_k
from rlvr_bench.stats.extrapolation import SolveRateModel
from tests.stats.reference import PYTHIA_BUDGETS, PYTHIA_COUNTS

BETA_LOSS = {  # mean negative log likelihood of the published-data fits
    "Pythia 70M": 1.51334,
    "Pythia 160M": 3.36615,
    "Pythia 410M": 4.00426,
    "Pythia 1B": 4.45524,
    "Pythia 2.8B": 5.45809,
    "Pythia 6.9B": 5.48608,
    "Pythia 12B": 5.79954,
}
POWER_LAWS = {
    "Pythia 70M": (8.026, 0.1943),
    "Pythia 160M": (6.592, 0.2797),
    "Pythia 410M": (5.524, 0.2863),
    "Pythia 1B": (5.452, 0.3146),
    "Pythia 2.8B": (4.104, 0.3355),
    "Pythia 6.9B": (4.255, 0.3484),
    "Pythia 12B": (4.113, 0.3702),
}
MODELS: tuple[SolveRateModel, ...] = ("beta", "scaled-beta", "zero-inflated-beta")


@pytest.mark.parametrize("model", BETA_LOSS)
def test_published_fits(model: str) -> None:
    got = extrapolate_pass_at_k(PYTHIA_COUNTS[model], 10_000, 1)
    assert got.mean_loss == pytest.approx(BETA_LOSS[model], abs=6e-6)


@pytest.mark.parametrize("model", POWER_LAWS)
def test_published_power_laws(model: str) -> None:
    got = fit_power_law(PYTHIA_COUNTS[model], 10_000, PYTHIA_BUDGETS)
    assert (got.amplitude, got.exponent) == pytest.approx(POWER_LAWS[model], abs=6e-4)


def test_power_law_predicts_its_own_line() -> None:
    law = fit_power_law([1, 3, 0, 9, 20], 64, [1, 2, 4, 8, 16])
    assert law.predict([1]).item() == pytest.approx(math.exp(-law.amplitude))
    with pytest.raises(ValueError, match="at least two budgets"):
        fit_power_law([1, 3], 8, [4])


def test_scaled_beta_failure_has_the_closed_form() -> None:
    """E[(1-p)^k] = 2F1(-k, a; a+b; s), which is sum_j Binomial(j; k, s) B(a, b+j) / B(a, b): all terms positive."""
    got = extrapolate_pass_at_k(PYTHIA_COUNTS["Pythia 12B"], 10_000, [1, 7, 100, 20_000], model="scaled-beta")
    a, b, s = (got.parameters[name] for name in ("alpha", "beta", "scale"))
    for k, value in zip([1, 7, 100, 20_000], got.interval.value, strict=True):
        terms = [
            math.lgamma(k + 1) - math.lgamma(j + 1) - math.lgamma(k - j + 1)
            + j * math.log(s) + (k - j) * math.log1p(-s)
            + math.lgamma(b + j) - math.lgamma(a + b + j) + math.lgamma(a + b) - math.lgamma(b)
            for j in range(k + 1)
        ]  # fmt: skip
        assert 1 - value == pytest.approx(math.fsum(map(math.exp, terms)), abs=1e-9)
    best = PYTHIA_COUNTS["Pythia 12B"].max() / 10_000
    assert s == pytest.approx(129 / 128 * best)


def test_scaled_beta_reference_value() -> None:
    from rlvr_bench.stats import extrapolation

    weights = extrapolation._logit_grid_density()(np.log([0.2, 3.0]))
    grid = extrapolation._log_binomial_grid(np.array([0]), np.array([100]), 0.3)
    assert np.exp(extrapolation._log_mean(grid, weights)).item() == pytest.approx(0.605209507265885, abs=1e-12)


def test_zero_inflation_is_found() -> None:
    rng = np.random.default_rng(7)
    p = rng.beta(1.0, 3.0, 4000) * (rng.random(4000) < 0.6)
    got = extrapolate_pass_at_k(rng.binomial(64, p), 64, [1, 10_000], model="zero-inflated-beta")
    assert got.parameters["unsolvable"] == pytest.approx(0.4, abs=0.05)
    assert got.parameters["alpha"] == pytest.approx(1.0, rel=0.2)
    assert got.interval.value[1] == pytest.approx(0.6, abs=0.05)  # never above the share that can be solved
    worse = extrapolate_pass_at_k(rng.binomial(64, p), 64, 1, model="beta")
    assert got.mean_loss < worse.mean_loss


@pytest.mark.parametrize("model", MODELS)
def test_always_marked_as_extrapolation(model: SolveRateModel) -> None:
    rng = np.random.default_rng(8)
    n = rng.integers(16, 65, 300)
    c = rng.binomial(n, rng.beta(0.5, 2, 300))
    got = extrapolate_pass_at_k(c, n, [1, 4, 16, 4096], model)
    assert got.interval.source == "model"
    assert got.interval.method == f"extrapolated ({model})"
    assert (np.diff(got.interval.value) > 0).all()
    assert ((got.interval.low < got.interval.value) & (got.interval.value < got.interval.high)).all()
    assert got.tail_exponent == got.parameters["alpha"]
    observed = np.nanmean(pass_at_k(c, n, [1, 4, 16]), axis=0)  # where it can be counted, the fit must agree
    assert got.interval.value[:3] == pytest.approx(observed, abs=0.02)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("c", [[3, 3], [1] + [0] * 99, [31] * 20])
def test_too_little_spread_to_fit_is_no_certainty(model: SolveRateModel, c: list[int]) -> None:
    """Equal counts drive the Beta parameters to their bounds: pass@1 keeps at least the binomial error of all rollouts."""
    got = extrapolate_pass_at_k(c, 64, [1, 1000], model).interval
    p, draws = sum(c) / (64 * len(c)), 64 * len(c)
    assert got.value[0] == pytest.approx(p, rel=0.02)
    assert got.high[0] - got.low[0] > 1.7 * 1.96 * math.sqrt(p * (1 - p) / draws)
    assert (got.low <= got.value).all()
    assert (got.value <= got.high).all()


def test_unknown_model() -> None:
    with pytest.raises(ValueError, match=r"model is 'gamma'.*beta"):
        inspect.unwrap(extrapolate_pass_at_k)([1], 2, 1, model="gamma")  # past the type check
