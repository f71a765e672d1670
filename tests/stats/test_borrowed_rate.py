"""Solve rates from borrowed rollouts: against exact enumeration of small laws, and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.borrowed_rate import (
    BorrowedRate,
    KnownPart,
    balance_weights,
    binomial_limits,
    borrowed_rate,
    certain_bound,
    least_mean,
    pass_at_rate,
)

# Probabilities of three correct responses; the rest of a law is wrong.
TARGET, OTHER = np.array([0.05, 0.01, 0.002]), np.array([0.3, 0.0, 0.2])
RATE = float(TARGET.sum())


def estimate(
    drawn: list[tuple[int, int]],
    sizes: tuple[int, int],
    target: npt.NDArray[np.float64],
    other: npt.NDArray[np.float64],
) -> BorrowedRate:
    """From (sample, response) of each correct rollout; sample 0 is the target's."""
    sample, response = (np.array([pair[i] for pair in drawn], dtype=np.int64) for i in (0, 1))
    with np.errstate(divide="ignore"):
        laws = np.log(np.stack([target, other], axis=1))
    of_others = np.unique(response[sample == 1])
    known = KnownPart(
        certain=certain_bound(laws[np.unique(response), 0]),
        others=certain_bound(laws[of_others, 0]),
        drawn=sizes[0],
        rest=int(((sample == 0) & ~np.isin(response, of_others)).sum()),
    )
    assert known.certain <= target.sum() + 1e-12
    weights = weights_of(drawn, sizes, target, other)
    return borrowed_rate(weights, sample, np.array(sizes), known)


def weights_of(
    drawn: list[tuple[int, int]],
    sizes: tuple[int, int],
    target: npt.NDArray[np.float64],
    other: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    response = np.array([y for _, y in drawn], dtype=np.int64)
    with np.errstate(divide="ignore"):
        laws = np.log(np.stack([target, other], axis=1))[response]
    return balance_weights(laws[:, 0], laws, np.array(sizes))


def outcomes(sizes: tuple[int, int]) -> list[tuple[float, list[tuple[int, int]]]]:
    """Every outcome of drawing these numbers of rollouts: its probability, and the correct rollouts in it."""
    rows = []
    for drawn in itertools.product(range(4), repeat=sum(sizes)):
        samples = [0] * sizes[0] + [1] * sizes[1]
        laws = [np.append(law, 1 - law.sum()) for law in (TARGET, OTHER)]
        chance = math.prod(float(laws[s][y]) for s, y in zip(samples, drawn, strict=True))
        rows.append((chance, [(s, y) for s, y in zip(samples, drawn, strict=True) if y < 3]))
    return [row for row in rows if row[0] > 0]


@pytest.mark.parametrize("sizes", [(2, 3), (3, 1), (4, 0)])
def test_the_mean_over_all_outcomes_is_the_rate_and_the_bound_always_holds(sizes: tuple[int, int]) -> None:
    total = mean = missed = 0.0
    for chance, drawn in outcomes(sizes):
        result = estimate(drawn, sizes, TARGET, OTHER)
        missed += chance * (not result.low - 1e-12 <= RATE <= result.high)
        total, mean = total + chance, mean + chance * weights_of(drawn, sizes, TARGET, OTHER).sum() / sum(sizes)
        assert result.low <= result.rate <= result.high
    assert total == pytest.approx(1)
    assert missed <= 0.05
    assert mean == pytest.approx(RATE, rel=1e-9)


def test_without_the_targets_rollouts_the_mean_is_the_part_that_the_others_can_draw() -> None:
    mean = sum(c * weights_of(drawn, (0, 4), TARGET, OTHER).sum() / 4 for c, drawn in outcomes((0, 4)))
    assert mean == pytest.approx(TARGET[[0, 2]].sum(), rel=1e-9)


def test_no_weight_exceeds_the_share_of_the_targets_rollouts() -> None:
    rng = np.random.default_rng(0)
    laws = rng.normal(-20, 15, (500, 3))
    assert balance_weights(laws[:, 0], laws, np.array([8, 64, 128])).max() <= 200 / 8 + 1e-9


def test_a_response_that_no_law_can_draw_is_refused() -> None:
    with pytest.raises(BadArgument, match="log_drawn"):
        balance_weights(np.zeros(1), np.full((1, 2), -np.inf), np.array([1, 1]))
    with pytest.raises(BadArgument, match="n_drawn"):
        borrowed_rate(np.zeros(0), np.zeros(0, np.int64), np.array([0]), KnownPart())


def test_the_betting_bound_exceeds_the_mean_no_more_often_than_allowed() -> None:
    """Over all outcomes of 60 draws of a value that is 4, 0.5 or 0: a lucky draw can double the mean."""
    heavy, light = 0.03, 0.2
    mean, alpha = 4 * heavy + 0.5 * light, 0.05
    missed = 0.0
    for a in range(61):
        for b in range(61 - a):
            ways = math.lgamma(61) - math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(61 - a - b)
            rest = (60 - a - b) * math.log(1 - heavy - light)
            chance = math.exp(ways + a * math.log(heavy) + b * math.log(light) + rest)
            if chance > 1e-12:
                missed += chance * (least_mean(np.repeat([4.0, 0.5], [a, b]), 60, alpha) > mean)
    assert 0 < missed <= alpha


def test_the_betting_bound_approaches_the_mean() -> None:
    assert least_mean(np.full(500, 0.1), 1000, 0.05) == pytest.approx(0.05, rel=0.12)
    assert least_mean(np.zeros(0), 1000, 0.05) == 0
    assert least_mean(np.full(1, 0.5), 1000, 0.05) < 0.0005


@pytest.mark.parametrize(
    ("rate", "responses", "tilt"), [(0.001, 12, 0.7), (0.05, 12, 0.7), (0.2, 30, 0.7), (0.03, 3, 8.0), (0.05, 60, 4.0)]
)
def test_coverage_also_where_the_other_law_hardly_draws_what_the_target_draws(
    rate: float, responses: int, tilt: float
) -> None:
    """64 rollouts of the target and 64 of a checkpoint that solves half, with the target's responses at other odds.

    At a tilt of 4 or 8 most of the rate is in responses that the other checkpoint draws never, so that the estimate is
    often far too low and its standard error says nothing of it: a normal interval covers less than 90 %.
    """
    rng = np.random.default_rng(int(rate * 1000) + responses)
    covered = normal = 0
    for _ in range(200):
        target = rng.dirichlet(np.ones(responses)) * rate
        other = target * rng.lognormal(0, tilt, responses)
        other *= 0.5 / other.sum()
        counts = [rng.multinomial(64, np.append(law, 1 - law.sum()))[:-1] for law in (target, other)]
        drawn = [(s, y) for s in (0, 1) for y in np.repeat(np.arange(responses), counts[s]).tolist()]
        result = estimate(drawn, (64, 64), target, other)
        covered += result.low - 1e-12 <= rate <= result.high + 1e-12
        normal += abs(result.rate - rate) <= 1.96 * result.error * result.rate + 1e-12
        assert result.low <= result.rate
    assert covered >= 0.95 * 200
    assert tilt < 1 or normal < 0.9 * 200


def test_limits_are_the_known_sum_and_those_of_the_rest() -> None:
    result = estimate([(0, 1), (1, 0), (1, 0)], (20, 20), TARGET, OTHER)
    assert not result.is_sound
    assert result.low == pytest.approx(0.06)  # the certain bound
    assert result.high == pytest.approx(0.05 + binomtest(1, 20).proportion_ci(0.95, "exact").high)
    nothing = estimate([], (20, 20), TARGET, OTHER)
    assert (nothing.rate, nothing.low, nothing.is_sound) == (0, 0, False)
    assert nothing.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_an_estimate_that_one_rollout_decides_is_not_sound() -> None:
    sample, n = np.zeros(31, np.int64), np.array([64, 64])
    result = borrowed_rate(np.array([1.0, *[0.01] * 30]), sample, n, KnownPart(drawn=64))
    assert not result.is_sound
    assert result.largest == pytest.approx(1 / 1.3)
    assert borrowed_rate(np.full(31, 0.1), sample, n, KnownPart(drawn=64)).is_sound


def test_rollouts_without_a_verdict_widen_the_high_end() -> None:
    weights, sample, n = np.full(10, 0.1), np.ones(10, np.int64), np.array([50, 50])
    sure, unsure = (borrowed_rate(weights, sample, n, KnownPart(drawn=50, undecided=lost)) for lost in (0, 4))
    assert sure.low == unsure.low
    assert unsure.high == pytest.approx(binomtest(4, 50).proportion_ci(0.95, "exact").high)
    assert sure.high < unsure.high


def test_limits_of_counts_alone() -> None:
    low, high = binomial_limits(3, 3, 50, 0.025, 0.025)
    interval = binomtest(3, 50).proportion_ci(0.95, "exact")
    assert low == pytest.approx(interval.low)
    assert high == pytest.approx(interval.high)
    assert binomial_limits(0, 5, 5, 0.025, 0.025) == (0, 1)


def test_pass_at_rate_keeps_its_precision_for_small_rates() -> None:
    values = pass_at_rate(np.array([0.0, 1e-12, 0.5, 1.0]), np.array([1, 1000]))
    np.testing.assert_allclose(values, np.array([[0, 0], [1e-12, 1e-9], [0.5, 1], [1, 1]]), rtol=1e-6)
