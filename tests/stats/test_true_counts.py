"""True counts behind the verdicts of a verifier that errs: exact without error, right on average and covered with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rlvr_bench import stats
from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.true_counts import Cell, ErrorRates, draw_rates, draw_true_counts, mixture_quantile, point_rates

N, P = 32, 400


def seen_of(c: np.ndarray, n: int = N) -> np.ndarray:
    """Counts of one class without labels."""
    seen = np.zeros((len(c), 1, 6), dtype=np.int64)
    seen[:, 0, 0], seen[:, 0, 1] = c, n - c
    return seen


def observed(rates: np.ndarray, phi: float, psi: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True and observed numbers of correct rollouts."""
    true = rng.binomial(N, rates)
    return true, rng.binomial(true, 1 - psi) + rng.binomial(N - true, phi)


def test_without_error_every_imputation_is_what_was_seen() -> None:
    c = np.arange(N + 1)
    draws = draw_true_counts(seen_of(c), ErrorRates.fixed(0.0, 0.0, 1, 5), np.random.default_rng(0))
    assert (draws == c).all()


def test_labels_are_kept_whatever_the_rates() -> None:
    seen = np.zeros((3, 2, 6), dtype=np.int64)
    seen[:, 0, 2:] = [[4, 1, 2, 5], [0, 7, 0, 3], [6, 0, 0, 0]]
    draws = draw_true_counts(seen, ErrorRates.fixed(0.3, 0.3, 2, 4), np.random.default_rng(0))
    assert (draws == [6, 0, 6]).all()


@pytest.mark.parametrize(("phi", "psi"), [(0.05, 0.0), (0.0, 0.05), (0.05, 0.05)])
def test_pass_at_k_of_the_imputed_counts_is_that_of_the_true_ones(phi: float, psi: float) -> None:
    """A third of the problems is unsolvable: without the correction pass@16 would be wrong by more than 0.1."""
    rng, ks = np.random.default_rng(3), [1, 4, 16]
    rates = rng.beta(0.5, 3, P) * (rng.random(P) < 2 / 3)
    true, c = observed(rates, phi, psi, rng)
    n = np.full(P, N)
    draws = draw_true_counts(seen_of(c), ErrorRates.fixed(phi, psi, 1, 60), rng)
    corrected = np.mean([stats.pass_at_k(t, n, ks).mean(axis=0) for t in draws], axis=0)
    assert corrected == pytest.approx(stats.pass_at_k(true, n, ks).mean(axis=0), abs=0.025)
    plain = stats.pass_at_k(c, n, ks).mean(axis=0)
    assert phi == 0 or abs(plain[2] - stats.pass_at_k(true, n, ks).mean(axis=0)[2]) > 0.1


def test_a_labelled_rollout_decides_its_problem() -> None:
    """Two problems with one correct rollout among 32 at 5 % false positives; of one it is labelled right."""
    seen = seen_of(np.array([1, 1] + [0] * 50 + [1] * 50))
    seen[0, 0, 0], seen[0, 0, 2] = 0, 1
    draws = draw_true_counts(seen, ErrorRates.fixed(0.05, 0.0, 1, 50), np.random.default_rng(0))
    assert (draws[:, 0] == 1).all()
    assert (draws[:, 1] == 0).mean() > 0.8


def test_rates_that_no_verifier_has_are_refused() -> None:
    for phi, psi in ((-0.1, 0.0), (0.6, 0.5), (float("nan"), 0.0)):
        with pytest.raises(BadArgument, match="verifier error"):
            ErrorRates.fixed(phi, psi, 1, 1)


def test_point_rates_by_hand() -> None:
    """100 called correct, 20 of 50 labels say wrong; 300 called wrong, 15 of 150 labels say right: 40 and 30 errors."""
    cells = [Cell(0, True, 100, 50, 20, 50.0, 0.4), Cell(0, False, 300, 150, 15, 150.0, 0.1)]
    rates = point_rates(cells, 1, 1)
    assert rates.phi[0, 0] == pytest.approx(40 / (40 + 270))
    assert rates.psi[0, 0] == pytest.approx(30 / (30 + 60))
    assert rates.phi_all == pytest.approx(rates.phi[:, 0])


def test_the_two_sides_are_clopper_pearson_limits() -> None:
    """With as many rollouts as one likes, only the labels are uncertain: no wrong rollout is called correct here."""
    cells = [Cell(0, True, 10**9, 80, 3, 80.0, 3 / 80), Cell(0, False, 10**9, 200, 0, 200.0, 0.0)]
    draws = {side: draw_rates(cells, 1, side, 40_000, np.random.default_rng(1)) for side in ("most", "least")}
    share = {side: rates.phi[:, 0] / (1 - rates.phi[:, 0] + rates.phi[:, 0]) for side, rates in draws.items()}
    low, high = scipy_stats.binomtest(3, 80).proportion_ci(0.95, "exact")
    # phi = x / (x + 1 - y) with x the share of wrong among called correct, y that of right among called wrong: 0 for most
    assert np.quantile(share["most"], 0.975) == pytest.approx(high / (1 + high), rel=0.02)
    assert (draws["most"].psi == 0).all()
    assert np.quantile(share["least"], 0.025) == pytest.approx(low / (low + 1), rel=0.05)


def test_the_mixture_of_one_interval_is_that_interval_and_of_two_lies_between() -> None:
    value, low, high = (np.full((1, 1), x) for x in (0.5, 0.3, 0.6))
    assert mixture_quantile(value, low, high, 0.025, 0.95) == pytest.approx(0.3, abs=1e-3)
    assert mixture_quantile(value, low, high, 0.975, 0.95) == pytest.approx(0.6, abs=1e-3)
    twice = tuple(np.vstack([x, x + 0.2]) for x in (value, low, high))
    rng = np.random.default_rng(0)
    z = rng.standard_normal(400_000)
    reach = np.where(z < 0, 0.2, 0.1) / scipy_stats.norm.ppf(0.975)
    drawn = 0.5 + z * reach + 0.2 * (rng.random(400_000) < 0.5)
    assert mixture_quantile(twice[0], twice[1], twice[2], 0.975, 0.95) == pytest.approx(
        np.quantile(drawn, 0.975), abs=2e-3
    )
