"""pass@k on an axis of total tokens, against recomputed bootstraps and known policies; best splits against the truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from rlvr_bench import stats
from rlvr_bench.errors import BadArgument

P, N = 60, 64


@pytest.fixture(scope="module")
def run() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """pass@k at k = 1 to 64, (60, 64), and mean tokens, (60,): hard problems have long responses."""
    rng = np.random.default_rng(1)
    rates = rng.beta(0.5, 3, P)
    passes = stats.pass_at_k(rng.binomial(N, rates), N, np.arange(1, N + 1))
    return passes, 100 + 400 * (1 - rates) ** 8 + rng.uniform(0, 50, P)


def test_the_mean_is_that_of_a_policy_which_draws_one_rollout_more_at_random(
    run: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> None:
    passes, cost = run
    for tokens in (cost.mean(), 3.25 * cost.mean(), 64 * cost.mean()):
        k = tokens / cost.mean()
        low = min(int(k + 1e-9), N - 1)
        mixture = (1 - (k - low)) * passes[:, low - 1].mean() + (k - low) * passes[:, low].mean()
        assert stats.pass_at_cost(passes, np.arange(1, N + 1), cost, [tokens]).mean() == pytest.approx(mixture)


def test_resampled_means_vary_as_the_estimate_that_is_recomputed_on_resampled_problems(
    run: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> None:
    passes, cost = run
    tokens = np.array([2.0, 10.0, 30.0]) * cost.mean()
    values = stats.pass_at_cost(passes, np.arange(1, N + 1), cost, tokens)
    rng = np.random.default_rng(2)
    linear, whole = [], []
    for _ in range(1500):
        rows = rng.integers(P, size=P)
        linear.append(values[rows].mean(axis=0))
        whole.append([np.interp(t / cost[rows].mean(), np.arange(1, N + 1), passes[rows].mean(axis=0)) for t in tokens])
    assert np.corrcoef(np.array(linear)[:, 1], np.array(whole)[:, 1])[0, 1] > 0.995
    np.testing.assert_allclose(np.std(linear, axis=0), np.std(whole, axis=0), rtol=0.03)
    plain = passes[:, [1, 9, 29]]  # as if the mean number of tokens were known: too narrow here
    assert (np.std(values, axis=0) > 1.03 * np.std(plain, axis=0)).any()


def test_outside_of_the_budgets_there_is_no_value_and_no_cost_may_be_zero(
    run: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> None:
    passes, cost = run
    values = stats.pass_at_cost(passes, np.arange(1, N + 1), cost, np.array([0.5, 65]) * cost.mean())
    assert np.isnan(values).all()
    with pytest.raises(BadArgument, match="cost"):
        stats.pass_at_cost(passes, np.arange(1, N + 1), cost * 0, [1.0])


def _drawn(
    rng: np.random.Generator, rates: npt.NDArray[np.float64], cost: npt.NDArray[np.float64], n: int, problems: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Rollouts of one solve rate and one cost for each cap."""
    problem = np.repeat(np.arange(problems), n)
    correct = rng.random((len(problem), len(rates))) < rates
    return correct, np.tile(cost, (len(problem), 1)), problem


def test_equally_good_caps_get_the_fresh_value_that_they_have_and_a_better_naive_one() -> None:
    """At one solve rate and one cost, the best of six caps is luck: the value on the choosing rollouts is too high."""
    rng = np.random.default_rng(3)
    fresh, naive = [], []
    for _ in range(60):
        splits = stats.best_splits(*_drawn(rng, np.full(6, 0.1), np.full(6, 10.0), 16, 20), [40.0], rng=rng, splits=4)
        fresh.append(splits.fresh.mean())
        naive.append(splits.naive[0])
    truth = 1 - 0.9**4
    error = np.std(fresh) / np.sqrt(len(fresh))
    assert abs(np.mean(fresh) - truth) < 3 * error
    assert np.mean(naive) > truth + 6 * error


def test_a_clearly_better_cap_is_always_chosen_and_the_budget_decides_which() -> None:
    """Short responses are cheap and solve half as much: many of them beat few long ones, if there is room for them."""
    rng = np.random.default_rng(4)
    problems = 200
    hard = rng.random(problems) < 0.5  # solved by long responses only
    problem = np.repeat(np.arange(problems), 32)
    short, whole = ~hard[problem] & (rng.random(len(problem)) < 0.2), rng.random(len(problem)) < 0.2
    correct, cost = np.stack([short, whole], axis=1), np.tile([10.0, 40.0], (len(problem), 1))
    splits = stats.best_splits(correct, cost, problem, [40.0, 640.0], rng=rng, splits=5)
    assert splits.cap.tolist() == [0, 1]
    np.testing.assert_allclose(splits.chosen, [[1, 0], [0, 1]])
    assert splits.k.tolist() == [4, 16]
    assert splits.fresh[:, 0].mean() == pytest.approx(0.5 * (1 - 0.8**4), abs=0.05)
    assert splits.largest[:, 0].mean() == pytest.approx(0.2, abs=0.02)


def test_a_budget_that_no_cap_fits_has_no_value() -> None:
    rng = np.random.default_rng(5)
    rollouts = _drawn(rng, np.array([0.5, 0.5]), np.array([10.0, 20.0]), 8, 5)
    splits = stats.best_splits(*rollouts, [5.0, 60.0, 500.0], rng=rng, splits=2)
    assert splits.cap.tolist()[::2] == [-1, -1]
    assert np.isnan(splits.k[[0, 2]]).all()
    assert np.isnan(splits.fresh[:, [0, 2]]).all()
    assert np.isfinite(splits.fresh[:, 1]).all()
    with pytest.raises(BadArgument, match="two rollouts"):
        stats.best_splits(*_drawn(rng, np.array([0.5]), np.array([1.0]), 1, 5), [1.0], rng=rng)
