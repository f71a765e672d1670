"""G-Pass@k, mG-Pass@k, Cover@tau and max@k against enumeration, published values, scorio and identities."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scorio.eval
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from rlvr_bench.stats import (
    cover_at_tau,
    cover_at_tau_posterior,
    g_pass_at_k,
    max_at_k,
    mg_pass_at_k,
    pass_at_k,
    pass_hat_k,
)
from tests.stats.reference import PYTHIA_COUNTS, binomial_weights

TAUS = [0.25, 0.5, 0.75, 1.0]
BANK = [0, 1, 2, 5, 12, 24, 36, 47, 48]


def at_least(n: int, c: int, k: int, m: int) -> Fraction:
    """P(at least m of k drawn without replacement are correct), in exact rational arithmetic."""
    ways = sum(math.comb(c, j) * math.comb(n - c, k - j) for j in range(m, min(c, k) + 1))
    return Fraction(ways, math.comb(n, k))


@pytest.mark.parametrize("n", range(1, 13))
def test_g_pass_exactly(n: int) -> None:
    ks = np.arange(1, n + 2)
    for tau in [Fraction(1, 10), Fraction(1, 3), Fraction(1, 2), Fraction(1)]:
        got = g_pass_at_k(np.arange(n + 1), n, ks, float(tau))
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            assert got[c, k - 1] == pytest.approx(float(at_least(n, c, k, max(math.ceil(tau * k), 1))), abs=1e-13)
        assert np.isnan(got[:, n]).all()


@pytest.mark.parametrize("n", [5, 12])
@pytest.mark.parametrize("p", [0.2, 0.7])
def test_g_pass_is_unbiased(n: int, p: float) -> None:
    for k in range(1, n + 1):
        tail = binomial_weights(k, p)[math.ceil(0.5 * k) :].sum()
        assert binomial_weights(n, p) @ g_pass_at_k(np.arange(n + 1), n, k, 0.5)[:, 0] == pytest.approx(tail, abs=1e-13)


def test_g_pass_ends_are_pass_at_k_and_pass_hat_k() -> None:
    ks = [1, 4, 16, 48]
    assert g_pass_at_k(BANK, 48, ks, 1 / 48) == pytest.approx(pass_at_k(BANK, 48, ks), abs=1e-12)
    assert g_pass_at_k(BANK, 48, ks, 1.0) == pytest.approx(pass_hat_k(BANK, 48, ks), abs=1e-12)


def test_tau_times_k_is_not_rounded_up_by_floating_point() -> None:
    assert math.ceil(0.07 * 100) == 8  # the trap
    assert g_pass_at_k(7, 100, 100, 0.07)[0, 0] == 1.0
    assert g_pass_at_k(6, 100, 100, 0.07)[0, 0] == 0.0


FIXTURES = [  # n, c, k, G-Pass at tau = .25 .5 .75 1, mG-Pass
    (5, 3, 2, 0.9, 0.9, 0.3, 0.3, 0.3),
    (5, 4, 2, 1.0, 1.0, 0.6, 0.6, 0.6),
    (5, 3, 3, 1.0, 0.7, 0.1, 0.1, 0.06666666666666667),
    (16, 1, 4, 0.25, 0.0, 0.0, 0.0, 0.0),
    (48, 5, 16, 0.03656360085592278, 0.0, 0.0, 0.0, 0.0),
    (
        48,
        24,
        16,
        0.9975051021622992,
        0.6199454181979134,
        0.015238262362965178,
        3.2617307330381033e-07,
        0.0799636121319422,
    ),
    (48, 47, 16, 1.0, 1.0, 1.0, 0.6666666666666666, 0.9583333333333334),
    (200, 3, 10, 9.136592051164915e-05, 0.0, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("n", "c", "k", "quarter", "half", "most", "whole", "mean"), FIXTURES)
def test_reference_values(
    n: int, c: int, k: int, quarter: float, half: float, most: float, whole: float, mean: float
) -> None:
    got = [g_pass_at_k(c, n, k, tau)[0, 0] for tau in TAUS]
    assert got == pytest.approx([quarter, half, most, whole], rel=1e-11, abs=1e-14)
    assert mg_pass_at_k(c, n, k)[0, 0] == pytest.approx(mean, rel=1e-11, abs=1e-14)


def test_published_bank() -> None:
    got = [g_pass_at_k(BANK, 48, 16, tau).mean() for tau in TAUS]
    assert got == pytest.approx([0.51829106, 0.40295426, 0.29549604, 0.18554533], abs=5e-9)
    assert mg_pass_at_k(BANK, 48, 16).mean() == pytest.approx(0.28205896, abs=5e-9)
    assert pass_at_k(BANK, 48, 16).mean() == pytest.approx(0.75253005, abs=5e-9)
    assert mg_pass_at_k([3, 4], 5, [1, 2, 3]).mean(axis=0) == pytest.approx([0, 0.45, 1 / 6], abs=1e-12)


def test_agrees_with_scorio() -> None:
    rng = np.random.default_rng(2)
    table = (rng.random((15, 20)) < rng.random((15, 1))).astype(int)
    c = table.sum(axis=1)
    for k in [1, 3, 8, 20]:
        for tau in [0.3, 0.5, 1.0]:
            expected = scorio.eval.g_pass_at_k_tau(table, k, tau)
            assert g_pass_at_k(c, 20, k, tau).mean() == pytest.approx(expected, abs=1e-12)
        assert mg_pass_at_k(c, 20, k).mean() == pytest.approx(scorio.eval.mg_pass_at_k(table, k), abs=1e-12)


def test_accurate_at_ten_thousand() -> None:
    for c, k, tau in [(122, 100, 0.02), (5000, 1000, 0.5), (9000, 5000, 0.9), (3, 10_000, 0.0003)]:
        exact = at_least(10_000, c, k, max(math.ceil(Fraction(str(tau)) * k), 1))
        assert g_pass_at_k(c, 10_000, k, tau)[0, 0] == pytest.approx(float(exact), abs=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.data())
def test_g_pass_falls_with_tau(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    got = [g_pass_at_k(c, n, k, tau)[0, 0] for tau in np.linspace(0.01, 1, 12)]
    assert (np.diff(got) <= 1e-12).all()


def test_cover_on_pythia() -> None:
    """Derived from the released counts by hand-sized arithmetic: share of 128 problems with c/n at least tau."""
    expected = {
        "Pythia 12B": (57, 18, 8),
        "Pythia 6.9B": (45, 13, 4),
        "Pythia 410M": (18, 4, 0),
        "Pythia 70M": (2, 0, 0),
    }
    for model, problems in expected.items():
        got = cover_at_tau(PYTHIA_COUNTS[model], 10_000, [0.01, 0.05, 0.1]).sum(axis=0)
        assert got.tolist() == list(problems)


def test_cover_edges() -> None:
    assert cover_at_tau([7, 6], 100, 0.07)[:, 0].tolist() == [1.0, 0.0]  # 0.07 * 100 is above 7 in floats
    assert np.isnan(cover_at_tau(0, 0, 0.5)[0, 0])
    assert cover_at_tau([0], [8], [1e-9]).item() == 0.0


@pytest.mark.parametrize("n", [1, 5, 12])
def test_cover_identity(n: int) -> None:
    """pass@k = sum_j w_j Cover@(j/n) with w_j = C(n-j, k-1) / C(n, k), which sum to 1."""
    c, levels = np.arange(n + 1), np.arange(1, n + 1) / n
    for k in range(1, n + 1):
        weight = np.array([math.comb(n - j, k - 1) / math.comb(n, k) for j in range(1, n + 1)])
        assert weight.sum() == pytest.approx(1)
        assert cover_at_tau(c, n, levels) @ weight == pytest.approx(pass_at_k(c, n, k)[:, 0], abs=1e-14)


def test_cover_posterior_is_a_beta_tail() -> None:
    got = cover_at_tau_posterior([3], 10, [0.2, 0.5, 1.0], prior=(2.0, 1.5))
    norm = quad(lambda p: p**4 * (1 - p) ** 7.5, 0, 1)[0]
    for value, tau in zip(got[0], [0.2, 0.5, 1.0], strict=True):
        assert value == pytest.approx(quad(lambda p: p**4 * (1 - p) ** 7.5, tau, 1)[0] / norm, abs=1e-9)
    assert cover_at_tau_posterior([500], 1000, [0.4, 0.6])[0] == pytest.approx([1, 0], abs=1e-6)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_max_at_k_lists_all_subsets(n: int) -> None:
    rewards = np.round(np.random.default_rng(n).normal(size=n), 1)  # rounding makes ties
    for k in range(1, n + 1):
        expected = np.mean([max(subset) for subset in itertools.combinations(rewards, k)])
        assert max_at_k(rewards[None], k)[0, 0] == pytest.approx(expected, abs=1e-13)


def test_max_at_k_of_zeros_and_ones_is_pass_at_k() -> None:
    rewards = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 1, np.nan]])
    assert max_at_k(rewards, [1, 2, 5]) == pytest.approx(pass_at_k([3, 3], [5, 4], [1, 2, 5]), nan_ok=True, abs=1e-14)
    rng = np.random.default_rng(3)
    values, kinds = np.array([-1.5, 0.25, 3.0, 7.5]), rng.integers(0, 4, (6, 9))
    expected = scorio.eval.max_at_k(kinds, 4, values)
    assert max_at_k(values[kinds], 4).mean() == pytest.approx(expected, abs=1e-12)
