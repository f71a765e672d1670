"""Limits from few problems and from problems that are all alike, against SciPy, enumeration and simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from rlvr_bench.stats import Resampling, bootstrap, bootstrap_mean, paired_bootstrap
from rlvr_bench.stats.few_units import dirichlet_limits, rising

QUICK = Resampling(replicates=400)


@pytest.mark.parametrize(("solved", "total"), [(0, 6), (2, 6), (13, 25), (25, 25)])
def test_of_zeros_and_ones_it_is_clopper_and_pearsons_interval(solved: int, total: int) -> None:
    got = bootstrap([1] * solved + [0] * (total - solved), 1, 1, rng=np.random.default_rng(0))
    exact = scipy_stats.binomtest(solved, total).proportion_ci(method="exact")
    assert (got.low[0], got.high[0]) == pytest.approx((exact.low, exact.high), abs=0.012)


@pytest.mark.parametrize("problems", [4, 8, 15])
def test_few_problems_are_covered_in_every_regime(problems: int) -> None:
    rng = np.random.default_rng(problems)
    regimes: dict[str, Callable[[int], npt.NDArray[np.float64]]] = {
        "easy": lambda m: rng.beta(5, 0.5, m) * (rng.random(m) >= 0.1),
        "hard": lambda m: rng.beta(0.3, 20, m),
        "two groups": lambda m: np.where(rng.random(m) < 0.5, 0.02, 0.95),
    }
    for name, draw in regimes.items():
        truth = np.mean(1 - (1 - draw(200_000)[:, None]) ** [1, 16], axis=0)
        runs = [bootstrap(rng.binomial(16, draw(problems)), 16, [1, 16], rng=rng, options=QUICK) for _ in range(100)]
        held = np.mean([(got.low <= truth) & (truth <= got.high) for got in runs], axis=0)
        assert (held > 0.9).all(), (name, held)


def test_the_other_problems_bound_a_stopped_run() -> None:
    """Four problems near 22 %: at most a share of 0.6 of such problems can be unlike all of them."""
    got = bootstrap_mean(np.array([0.12, 0.2, 0.25, 0.31]), rng=np.random.default_rng(0))
    share = 1 - 0.025 ** (1 / 4)
    assert got.value[0] == pytest.approx(0.22)
    assert got.low[0] == pytest.approx(0.22 * (1 - share), abs=0.03)
    assert got.high[0] == pytest.approx(0.22 + 0.78 * share, abs=0.03)


def test_an_easy_set_allows_for_problems_that_it_holds_none_of() -> None:
    """30 problems near 1: of a set with 3 % at 0, 30 hold none with chance 0.4, so 0.97 must be inside."""
    values = np.random.default_rng(0).uniform(0.995, 1.0, 30)
    got = bootstrap_mean(values, rng=np.random.default_rng(0))
    assert got.low[0] == pytest.approx(values.mean() * 0.025 ** (1 / 30))
    assert got.high[0] <= 1


def test_rising_is_isotonic_least_squares() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = rng.random(9)
        expected = scipy_stats_isotonic(values)
        order = rng.permutation(9)
        assert rising(values[order], (np.arange(9) + 1)[order])[np.argsort(order)] == pytest.approx(expected)
    assert rising(np.array([0.5, np.nan, 0.1]), np.array([1, 2, 3])) == pytest.approx([0.3, np.nan, 0.3], nan_ok=True)


def scipy_stats_isotonic(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(values).x)


def test_limits_of_pass_at_k_rise_with_k() -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        c = rng.binomial(64, rng.beta(5, 0.5, 35) * (rng.random(35) >= 0.03))
        got = bootstrap(c, 64, [64, 1, 2, 4, 8, 16, 32], rng=rng, options=QUICK)
        order = np.argsort([64, 1, 2, 4, 8, 16, 32])
        assert (np.diff(got.low[order]) >= 0).all()
        assert (np.diff(got.high[order]) >= 0).all()
        assert (got.low <= got.value + 1e-12).all()
        assert (got.value <= got.high + 1e-12).all()


def test_p_value_and_interval_are_one_pivot() -> None:
    """Few and many problems, equal and unequal runs: p below 0.05 exactly where the interval does not hold 0."""
    rng = np.random.default_rng(3)
    outside = 0
    for problems in (5, 12, 30, 60):
        for shift in (0.0, 0.05, 0.2):
            for _ in range(30):
                p = rng.beta(0.5, 2, problems)
                first, second = rng.binomial(16, p), rng.binomial(16, np.minimum(p + shift, 1))
                got = paired_bootstrap((first, 16), (second, 16), [1, 4, 16], rng=rng, options=QUICK)
                excludes = (got.difference.low > 0) | (got.difference.high < 0)
                assert (excludes == (got.p_value < 0.05)).all(), (first, second)
                outside += int(excludes.sum())
    assert outside > 100


def test_equal_differences_have_the_p_value_of_their_bound() -> None:
    for size in (5, 40, 150):
        got = paired_bootstrap(([2] * size, 8), ([1] * size, 8), 1, rng=np.random.default_rng(0))
        assert (got.difference.low[0] > 0) == (got.p_value[0] < 0.05)


def test_the_unit_more_has_the_mean_size_of_clusters() -> None:
    sums, sizes = np.array([[3.0], [1.0]]), np.array([[4.0], [2.0]])
    low, high = dirichlet_limits(sums, sizes, np.ones(2, np.int64), np.random.default_rng(0), 0.95)
    rng = np.random.default_rng(1)
    weight = rng.dirichlet([1, 1, 1], 200_000)
    ratio = (weight[:, 0] * 3 + weight[:, 1]) / (weight @ [4, 2, 3])
    assert low[0] == pytest.approx(np.quantile(ratio, 0.025), abs=0.01)
    assert high[0] == pytest.approx(np.quantile(ratio + weight[:, 2] * 3 / (weight @ [4, 2, 3]), 0.975), abs=0.01)
