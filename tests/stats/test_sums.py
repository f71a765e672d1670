"""Tails of sums against exact enumeration: by convolution, and of all signs."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import hypergeom

from rlvr_bench.comparison.sets import null_sizes
from rlvr_bench.stats import fresh_rng
from rlvr_bench.stats.sequential import Looks, anytime_p_value
from rlvr_bench.stats.significance import sign_flip_test
from rlvr_bench.stats.sums import DiscreteSum, upper_deviate

Floats = npt.NDArray[np.float64]


def coins(chances: Floats) -> DiscreteSum:
    row = np.repeat(np.arange(chances.size), 2)
    weights = np.log(np.stack([1 - chances, chances], axis=1)).ravel()
    return DiscreteSum(row, np.tile([0.0, 1.0], chances.size), weights)


def tail_of_coins(chances: Floats) -> Floats:
    """P(sum >= t) for t = 0, 1, ..., by convolution."""
    law = np.ones(1)
    for chance in chances:
        law = np.convolve(law, [1 - chance, chance])
    return np.cumsum(law[::-1])[::-1]


@pytest.mark.parametrize(("problems", "highest"), [(12, 0.3), (60, 0.05), (60, 0.9), (400, 0.2)])
def test_the_tail_of_coins_is_met_from_above(problems: int, highest: float) -> None:
    chances = np.random.default_rng(problems).uniform(0.001, highest, problems)
    exact = tail_of_coins(chances)
    mean = chances.sum()
    compared = 0
    for t in range(int(mean) + 1, problems + 1):
        if 1e-40 < exact[t] < 0.05:
            p = ndtr(-upper_deviate(coins(chances), t))
            assert exact[t] * (1 - 1e-9) <= p <= 3 * exact[t]
            compared += 1
    assert compared >= 2


def test_values_of_many_sizes_are_met_from_above() -> None:
    """Eight variables with three values of any size: all 6,561 sums."""
    rng = np.random.default_rng(4)
    values, chances = rng.random((8, 3)), rng.dirichlet([1, 1, 1], 8)
    terms = DiscreteSum(np.repeat(np.arange(8), 3), values.ravel(), np.log(chances).ravel())
    sums = np.array([sum(way) for way in product(*values)])
    weights = np.array([np.prod(way) for way in product(*chances)])
    for t in np.quantile(sums, [0.9, 0.97, 0.995, 0.9995]):
        exact = weights[sums >= t].sum()
        assert exact <= ndtr(-upper_deviate(terms, t)) <= 8 * exact


def test_the_ends_of_a_sum() -> None:
    terms = coins(np.array([0.1, 0.01, 0.2]))
    assert ndtr(-upper_deviate(terms, 3.0)) == pytest.approx(0.1 * 0.01 * 0.2, rel=1e-6)
    assert upper_deviate(terms, 0.31) == 0.0  # the mean
    assert upper_deviate(DiscreteSum(np.array([0]), np.array([1.0]), np.array([0.0])), 2.0) == 0.0
    empty = np.zeros(0)
    assert upper_deviate(DiscreteSum(np.zeros(0, np.int64), empty, empty), 1.0) == 0.0


def test_signs_beyond_all_replicates_have_the_tail_of_all_signs() -> None:
    values = np.random.default_rng(1).uniform(0.2, 1.0, 14)
    values[0] *= -1
    sums = np.abs(np.array(list(product((-1, 1), repeat=14))) @ np.abs(values))
    exact = np.mean(sums >= values.sum() - 1e-12)
    test = sign_flip_test(values, fresh_rng(), replicates=100)
    assert test.p_value == pytest.approx(1 / 101)
    assert exact <= 2 * ndtr(-test.z) <= 6 * exact


def test_a_set_far_beyond_chance_has_a_small_p_value_at_every_look() -> None:
    """25 problems that only the first run solves: by chance there are about 4.5. n = k, so each is lost or not."""
    n = np.full(60, 64)
    first = np.array([4] * 25 + [2] * 35)
    second = np.array([0] * 25 + [2] * 35)
    pooled = first + second
    chances = hypergeom.pmf(0, 128, pooled, 64)
    exact = tail_of_coins(chances)[25]
    gains, losses = null_sizes((first, n), (second, n), 64, fresh_rng(), 200, Looks(16.0))
    best = anytime_p_value(-ndtri(exact), 16.0)
    assert best <= losses.p_value < 10 * best < 1e-6
    assert gains.p_value == 1.0
    assert null_sizes((first, n), (second, n), 64, fresh_rng(), 200)[1].p_value == 1 / 201  # one look: by simulation


@pytest.mark.parametrize(("n1", "n2", "k"), [(16, 16, 16), (48, 16, 8)])
def test_tails_raise_no_more_false_alarms_than_the_level(n1: int, n2: int, k: int) -> None:
    """19 replicates end at 5 %, so at 1 % the exact tail alone decides; 600 tests of both sets, three standard errors."""
    rng = np.random.default_rng(2)
    rates = rng.beta(0.3, 2.0, 30)
    p_values = []
    for _ in range(300):
        first, second = ((rng.binomial(n, rates), np.full(30, n)) for n in (n1, n2))
        p_values += [size.p_value for size in null_sizes(first, second, k, rng, 19, Looks(16.0))]
    rate = np.mean(np.array(p_values) <= anytime_p_value(-ndtri(0.01), 16.0))
    assert 0 < rate <= 0.01 + 3 * np.sqrt(0.01 / 600)
