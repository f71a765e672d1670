"""Copies among draws: the test's level by enumeration, repeats by a closed form, the share by simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from rlvr_bench.stats import copies

Floats = npt.NDArray[np.float64]


@pytest.mark.parametrize("law", [[0.5, 0.3, 0.2], [0.9, 0.09, 0.01], [0.001, 0.499, 0.5]])
def test_all_draws_of_four_by_enumeration(law: list[float]) -> None:
    """Mean of seen minus expected repeats is 0, and no level is exceeded, over all 3^4 outcomes of independent draws."""
    chances, tests = [], []
    for draws in product(range(3), repeat=4):
        chances.append(np.prod([law[x] for x in draws]))
        tests.append(copies(np.zeros(4), draws, np.log([law[x] for x in draws])))
    weights = np.array(chances)
    assert weights.sum() == pytest.approx(1)
    assert weights @ [test.seen - test.expected for test in tests] == pytest.approx(0, abs=1e-12)
    p_values = np.array([test.p_value for test in tests])
    for level in np.unique(p_values):
        assert weights[p_values <= level].sum() <= level + 1e-12
    assert p_values.min() < 1  # a test that never says anything would pass as well


def test_expected_repeats_have_the_closed_form_and_problems_are_apart() -> None:
    """n draws give n - sum of 1 - (1 - p)^n repeats; equal responses of two problems are none."""
    rng = np.random.default_rng(1)
    law = rng.dirichlet(np.full(40, 0.3))
    problem = np.repeat(np.arange(400), 24)
    draws = rng.choice(40, problem.size, p=law)
    test = copies(problem, draws, np.log(law[draws]))
    exact = 400 * (24 - np.sum(1 - (1 - law) ** 24))
    assert test.expected == pytest.approx(exact, rel=0.02)
    assert test.seen == pytest.approx(exact, rel=0.02)
    assert copies([0, 1, 2], [7, 7, 7], np.log([0.01] * 3)).seen == 0


LAW = 1.0 / np.arange(1, 200_001) ** 1.3
LAW /= LAW.sum()


def run(rng: np.random.Generator, share: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Forty problems of 64 rollouts: responses of probability 0.26 down to 3e-8; a share are copies of earlier ones."""
    draws = np.minimum(np.searchsorted(np.cumsum(LAW), rng.random((40, 64))), LAW.size - 1)
    for i, j in np.argwhere(rng.random(draws.shape) < share):
        draws[i, j] = draws[i, rng.integers(max(j, 1))]
    return np.repeat(np.arange(40), 64), draws.ravel(), np.log(LAW[draws.ravel()])


def test_independent_draws_pass_and_two_percent_of_copies_are_found() -> None:
    rng = np.random.default_rng(5)
    independent = [copies(*run(rng, 0.0)) for _ in range(100)]
    assert np.mean([test.low > 0 for test in independent]) <= 0.05
    assert np.mean([test.seen for test in independent]) > 100  # repeats that are none
    copied = [copies(*run(rng, 0.02)) for _ in range(60)]
    assert np.mean([test.low > 0 for test in copied]) >= 0.95
    assert np.mean([test.low <= 0.02 <= test.high for test in copied]) >= 0.95
    assert np.mean([test.share for test in copied]) == pytest.approx(0.02, abs=0.003)


def test_one_repeat_of_an_improbable_response_is_enough() -> None:
    test = copies(np.zeros(100), [*range(99), 5], np.full(100, -200.0))
    assert test.p_value < 1e-60
    assert test.low > 0
    assert test.share == pytest.approx(1 / 99, rel=1e-3)
    assert copies(np.zeros(100), range(100), np.full(100, -200.0)).p_value == 1.0
    assert copies(np.zeros(100), [0] * 100, np.zeros(100)).p_value == pytest.approx(
        1
    )  # the only response that the policy has


def test_the_interval_holds_zero_exactly_where_the_test_passes() -> None:
    rng = np.random.default_rng(6)
    for _ in range(60):
        law = rng.dirichlet(np.full(30, 0.5))
        draws = rng.choice(30, 40, p=law)
        if rng.random() < 0.5:
            draws[36:] = draws[:4]
        test = copies(np.zeros(40), draws, np.log(law[draws]))
        assert (test.low > 0) == (test.p_value < 0.05)
        assert test.low <= test.share <= test.high


@pytest.mark.parametrize(
    ("problem", "response", "log_p"),
    [([1, 0], [0, 1], [-1.0, -1.0]), ([0, 0], [0], [-1.0, -1.0]), ([0, 0], [0, 1], [-1.0, 0.1]), ([0], [0], [np.nan])],
)
def test_bad_input_is_refused(problem: list[int], response: list[int], log_p: list[float]) -> None:
    with pytest.raises(ValueError, match="problem|log_probability"):
        copies(problem, response, log_p)
