"""pass@k and its kin against exact enumeration, exact rationals, published numbers and scorio."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scorio.eval
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_bench.stats import auc_at_k, failure_at_k, mean_pass_at_k, pass_at_k, pass_at_k_variance, pass_hat_k
from tests.stats.reference import PYTHIA_COUNTS, PYTHIA_PASS_AT_K, binomial_weights, rho

SIZES = range(1, 13)


def subsets_with_a_correct_one(n: int, c: int, k: int) -> Fraction:
    """The share of k-subsets of n rollouts, the first c correct, that hold a correct one, by listing them all."""
    subsets = list(itertools.combinations(range(n), k))
    return Fraction(sum(min(subset) < c for subset in subsets), len(subsets))


@pytest.mark.parametrize("n", range(1, 9))
def test_every_subset_counted(n: int) -> None:
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        assert pass_at_k(c, n, k)[0, 0] == pytest.approx(float(subsets_with_a_correct_one(n, c, k)), abs=1e-15)


@pytest.mark.parametrize("n", SIZES)
def test_all_n_up_to_12_exactly(n: int) -> None:
    got = pass_at_k(np.arange(n + 1), n, np.arange(1, n + 2))
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        assert got[c, k - 1] == pytest.approx(float(rho(n, c, k)), abs=1e-15)
    assert np.isnan(got[:, n]).all()  # k = n + 1 is undefined, even where c = n


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("p", [0.0, 0.07, 0.5, 0.93, 1.0])
def test_unbiased(n: int, p: float) -> None:
    c, weight, ks = np.arange(n + 1), binomial_weights(n, p), np.arange(1, n + 1)
    assert weight @ pass_at_k(c, n, ks) == pytest.approx(1 - (1 - p) ** ks, abs=1e-14)
    assert weight @ failure_at_k(c, n, ks) == pytest.approx((1 - p) ** ks, abs=1e-14)
    assert weight @ pass_hat_k(c, n, ks) == pytest.approx(p**ks, abs=1e-14)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("p", [0.07, 0.5, 0.93])
def test_variance_is_unbiased_where_it_exists(n: int, p: float) -> None:
    c, weight, ks = np.arange(n + 1), binomial_weights(n, p), np.arange(1, n + 1)
    estimate = pass_at_k(c, n, ks)
    true_variance = weight @ (estimate - weight @ estimate) ** 2
    expected = weight @ pass_at_k_variance(c, n, ks)
    assert expected[: n // 2] == pytest.approx(true_variance[: n // 2], abs=1e-14)
    assert np.isnan(expected[n // 2 :]).all()


FIXTURES = [  # n, c, k, exact pass@k, pass^k, variance; from exact rational arithmetic
    (5, 3, 2, "9/10", 0.3, 0.01),
    (5, 4, 2, "1", 0.6, 0.0),
    (5, 3, 3, "1", 0.1, None),
    (16, 0, 4, "0", 0.0, 0.0),
    (16, 1, 4, "1/4", 0.0, 0.0625),
    (16, 1, 16, "1", 0.0, None),
    (16, 16, 4, "1", 1.0, 0.0),
    (48, 5, 16, "94433/107019", 0.0, 0.011280054173083474),
    (48, 24, 16, "3065856/3065857", 3.2617307330381033e-07, 1.0638887374845282e-13),
    (48, 47, 16, "1", 0.6666666666666666, 0.0),
    (200, 3, 10, "3137/21890", 0.0, 0.0061468916908976965),
    (200, 3, 100, "349/398", 0.0, 0.01515744551905255),
    (1024, 1, 1, "1/1024", 0.0009765625, 9.5367431640625e-07),
    (1024, 1, 512, "1/2", 0.0, 0.25),
    (1024, 2, 256, "0.437683284457478", 0.0, 0.06644446785516694),
    (8192, 1, 4096, "1/2", 0.0, 0.25),
    (10000, 1, 1000, "1/10", 0.0, 0.01),
    (10000, 122, 100, "0.7087746130620194", 1.4436595752148733e-218, 0.0010621299494249507),
    (10000, 9999, 5000, "1", 0.5, 0.0),
]


@pytest.mark.parametrize(("n", "c", "k", "exact", "hat", "variance"), FIXTURES)
def test_reference_values(n: int, c: int, k: int, exact: str, hat: float, variance: float | None) -> None:
    assert pass_at_k(c, n, k)[0, 0] == pytest.approx(float(Fraction(exact)), abs=1e-15)
    assert pass_hat_k(c, n, k)[0, 0] == pytest.approx(hat, rel=1e-11, abs=1e-300)
    got = pass_at_k_variance(c, n, k)[0, 0]
    assert np.isnan(got) if variance is None else got == pytest.approx(variance, rel=1e-9, abs=1e-16)


def test_accurate_at_ten_thousand_both_ways_of_summing() -> None:
    """One budget takes the product over c, all budgets at once the product over k: both within 1e-12 of rationals."""
    rng = np.random.default_rng(0)
    n = 10_000
    for c in [1, 2, 50, 122, 2227, 5000, 9999]:
        curve = pass_at_k(c, n, np.arange(1, n + 1))[0]
        for k in [1, n, *rng.integers(2, 3000, 6).tolist()]:
            exact = rho(n, c, k)
            assert abs(Fraction(float(curve[k - 1])) - exact) < Fraction(1, 10**12)
            assert abs(Fraction(float(pass_at_k(c, n, k)[0, 0])) - exact) < Fraction(1, 10**12)


def test_the_mean_curve_is_as_accurate_as_its_problems() -> None:
    rng = np.random.default_rng(6)
    n = 10_000
    c = np.concatenate([[0, 1, 1, 2, 3, n], rng.integers(0, n, 10), (n * rng.beta(0.3, 3, 14)).astype(int)])
    curve = mean_pass_at_k(c, n, np.arange(1, n + 1))
    budgets = [1, 7, 300, 3000, 5000, n - 1, n]
    for k, alone in zip(budgets, mean_pass_at_k(c, n, budgets), strict=True):
        exact = sum((rho(n, int(one), k) for one in c), Fraction(0)) / c.size
        assert abs(Fraction(float(curve[k - 1])) - exact) < Fraction(1, 10**12)
        assert abs(Fraction(float(alone)) - exact) < Fraction(1, 10**12)


def test_budgets_in_any_order_and_repeated() -> None:
    c, n, ks = np.array([3, 0, 5, 70]), np.array([9, 9, 6, 200]), [4, 200, 1, 4, 9]
    expected = [[float(rho(int(b), int(a), k)) if k <= b else np.nan for k in ks] for a, b in zip(c, n, strict=True)]
    table = pass_at_k(c, n, ks)
    assert table == pytest.approx(np.array(expected), abs=1e-15, nan_ok=True)
    assert mean_pass_at_k(c, n, ks) == pytest.approx(np.nanmean(expected, axis=0), abs=1e-15)


@pytest.mark.parametrize("model", PYTHIA_COUNTS)
def test_published_pythia_curves(model: str) -> None:
    """7 Pythia models on 128 MATH problems, n = 10,000 (arXiv 2502.17578): published mean pass@k, good to 5e-11."""
    ks = list(PYTHIA_PASS_AT_K[model])
    got = pass_at_k(PYTHIA_COUNTS[model], 10_000, ks).mean(axis=0)
    assert got == pytest.approx(list(PYTHIA_PASS_AT_K[model].values()), abs=5e-11)


def test_agrees_with_scorio() -> None:
    rng = np.random.default_rng(1)
    table = rng.random((20, 24)) < rng.beta(0.5, 1, (20, 1))
    c = table.sum(axis=1)
    for k in [1, 2, 7, 24]:
        assert pass_at_k(c, 24, k).mean() == pytest.approx(scorio.eval.pass_at_k(table.astype(int), k), abs=1e-13)
        assert pass_hat_k(c, 24, k).mean() == pytest.approx(scorio.eval.pass_hat_k(table.astype(int), k), abs=1e-13)


def test_area_under_the_curve() -> None:
    assert auc_at_k([3, 4], 5, 3).mean() == pytest.approx(0.9)  # scorio's documented example
    bank = auc_at_k([0, 1, 2, 5, 12, 24, 36, 47, 48], 48, 16).mean()
    assert bank == pytest.approx(0.65171123, abs=5e-9)
    assert auc_at_k([3], 5, [1, 6])[0, 0] == pytest.approx(0.6)
    assert np.isnan(auc_at_k([3], 5, [1, 6])[0, 1])


def test_unequal_sizes_and_no_rollouts() -> None:
    got = pass_at_k([1, 2, 0], [2, 8, 0], [1, 4])
    assert got == pytest.approx(np.array([[0.5, np.nan], [0.25, float(rho(8, 2, 4))], [np.nan, np.nan]]), nan_ok=True)


def test_mean_leaves_out_problems_that_are_too_small() -> None:
    n, c, ks = np.array([2, 8, 0, 8]), np.array([1, 2, 0, 8]), [1, 2, 4, 9]
    table = pass_at_k(c, n, ks)
    expected = [table[[0, 1, 3], 0].mean(), table[[0, 1, 3], 1].mean(), table[[1, 3], 2].mean(), np.nan]
    assert mean_pass_at_k(c, n, ks) == pytest.approx(expected, nan_ok=True)


def test_many_large_distinct_sizes() -> None:
    """Pairs too far apart to be tallied by key take the sorting path; results do not depend on the path."""
    n = np.array([3_000_000, 7, 250_000, 7])
    c = np.array([1_500_000, 3, 1, 3])
    assert pass_at_k(c, n, 2)[:, 0] == pytest.approx([float(rho(int(a), int(b), 2)) for a, b in zip(n, c, strict=True)])


counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@settings(max_examples=60, deadline=None)
@given(counts)
def test_curve_is_nondecreasing_and_concave(state: tuple[int, int]) -> None:
    n, c = state
    curve = pass_at_k(c, n, np.arange(1, n + 1))[0]
    assert ((curve >= 0) & (curve <= 1)).all()
    assert (np.diff(curve) >= -1e-13).all()
    assert (np.diff(curve, 2) <= 1e-13).all()
    assert curve[0] == pytest.approx(c / n, abs=1e-15)
    assert curve[0] == pytest.approx(pass_hat_k(c, n, 1)[0, 0], abs=1e-15)
    assert (np.diff(pass_hat_k(c, n, np.arange(1, n + 1))[0]) <= 1e-13).all()


@settings(max_examples=60, deadline=None)
@given(counts)
def test_recurrence(state: tuple[int, int]) -> None:
    """1 - rho(k + 1) = (1 - rho(k)) (n - c - k) / (n - k)."""
    n, c = state
    fail = failure_at_k(c, n, np.arange(1, n + 1))[0]
    k = np.arange(1, n)
    assert fail[1:] == pytest.approx(fail[:-1] * np.maximum(n - c - k, 0) / (n - k), rel=1e-11, abs=1e-290)


@settings(max_examples=40, deadline=None)
@given(st.lists(counts, min_size=1, max_size=40), st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_problems_do_not_influence_each_other(states: list[tuple[int, int]], ks: list[int]) -> None:
    n, c = zip(*states, strict=True)
    together = pass_at_k(c, n, ks)
    for row, (size, correct) in zip(together, states, strict=True):
        for value, k in zip(row, ks, strict=True):
            alone = pass_at_k(correct, size, k)[0, 0]
            assert value == pytest.approx(alone, abs=1e-13, nan_ok=True)
            assert math.isnan(value) == (k > size)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(2, 40))
def test_bound_of_dang_et_al(rates: list[float], k: int) -> None:
    """ProRL (arXiv 2505.24864), eq. 5: E[pass@k] <= 1 - ((1 - E[p])^2 + Var(p))^(k/2)."""
    n = 60
    c = np.round(np.array(rates) * n).astype(int)
    p = c / n
    plug_in = np.mean(1 - (1 - p) ** k)
    assert plug_in <= 1 - ((1 - p.mean()) ** 2 + p.var()) ** (k / 2) + 1e-12
    assert pass_at_k(c, n, k).mean() >= plug_in - 1e-12  # the plug-in estimate is biased low
