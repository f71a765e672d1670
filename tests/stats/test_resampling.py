"""Bootstrap intervals: what they hold, degenerate runs, clusters, pairs. Their coverage is in test_coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from rlvr_bench.stats import (
    Resampling,
    bootstrap,
    bootstrap_mean,
    fresh_rng,
    paired_bootstrap,
    paired_bootstrap_mean,
    pass_at_k,
    resampled_means,
    resampled_weights,
    rollout_interval,
)
from tests.stats.reference import PYTHIA_COUNTS, PYTHIA_NULL

QUICK = Resampling(replicates=400)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_value_is_the_mean_of_per_problem_estimates() -> None:
    n = np.array([4, 8, 16, 16])
    c = np.array([1, 0, 16, 3])
    got = bootstrap(c, n, [1, 4, 8, 16, 17], rng=rng())
    table = pass_at_k(c, n, [1, 4, 8, 16])
    assert got.value == pytest.approx([*np.nanmean(table, axis=0), np.nan], nan_ok=True)
    assert got.n_problems.tolist() == [4, 4, 3, 2, 0]
    assert np.isnan([got.low[4], got.high[4]]).all()
    assert got.source == "problems"


def test_width_on_pythia_is_that_of_the_published_standard_error() -> None:
    """Away from the limits the interval is about value +- 1.96 total standard errors; fixed problems: +- 1.96 fixed."""
    for model, published in PYTHIA_NULL.items():
        got = bootstrap(PYTHIA_COUNTS[model], 10_000, [1000], rng=rng(), options=Resampling(replicates=4000))
        fixed = rollout_interval(PYTHIA_COUNTS[model], 10_000, [1000])
        width, narrow = (got.high - got.low).item(), (fixed.high - fixed.low).item()
        assert width == pytest.approx(2 * 1.96 * published[1000][4], rel=0.05)
        assert narrow == pytest.approx(2 * 1.96 * published[1000][3], rel=0.06)
        assert got.value == pytest.approx(fixed.value)


def test_binary_values_give_the_wilson_interval() -> None:
    """n = k = 1 makes pass@1 a 0/1 value per problem; scipy's Wilson interval is the normal-theory counterpart."""
    c = np.array([1] * 60 + [0] * 140)
    got = bootstrap(c, 1, 1, rng=rng(), options=Resampling(replicates=20_000))
    wilson = scipy_stats.binomtest(60, 200).proportion_ci(method="wilson")
    assert (got.low.item(), got.high.item()) == pytest.approx((wilson.low, wilson.high), abs=6e-3)


@pytest.mark.parametrize("interval", ["problems", "rollouts"])
@pytest.mark.parametrize("c", [0, 8])
def test_all_alike_is_not_certain(interval: str, c: int) -> None:
    counts = [c] * 300
    got = bootstrap(counts, 8, [1, 8], rng=rng()) if interval == "problems" else rollout_interval(counts, 8, [1, 8])
    assert got.value == pytest.approx(c / 8)
    assert ((got.high - got.low) > 1e-4).all()
    if interval == "problems":
        exact = scipy_stats.binomtest(300 if c else 0, 300).proportion_ci(method="exact")
        assert (got.low[0], got.high[0]) == pytest.approx((exact.low, exact.high))


def test_one_problem_says_almost_nothing_about_new_ones() -> None:
    got = bootstrap([4], 8, 1, rng=rng())
    assert got.low.item() < 0.02
    assert got.high.item() > 0.98


def test_equal_pairs_are_resampled_as_problems() -> None:
    """Collapsing equal (n, c) pairs changes the draws, not the distribution: compare with one label per problem."""
    c = rng(1).binomial(16, 0.3, 400)
    options = Resampling(replicates=8000)
    together = bootstrap(c, 16, [1, 4], rng=rng(2), options=options)
    apart = bootstrap(c, 16, [1, 4], rng=rng(3), clusters=np.arange(400), options=options)
    assert together.low == pytest.approx(apart.low, abs=1.5e-3)
    assert together.high == pytest.approx(apart.high, abs=1.5e-3)


def test_clusters_widen_by_the_design_effect() -> None:
    """40 clusters of 5 identical problems hold the information of 40 problems, not of 200."""
    c = rng(4).binomial(8, 0.4, 40)
    options = Resampling(replicates=4000)
    few = bootstrap(c, 8, 1, rng=rng(5), options=options)
    repeated = np.repeat(c, 5)
    clustered = bootstrap(repeated, 8, 1, rng=rng(5), clusters=np.repeat(np.arange(40), 5), options=options)
    naive = bootstrap(repeated, 8, 1, rng=rng(5), options=options)
    assert clustered.high - clustered.low == pytest.approx(few.high - few.low, rel=0.03)
    assert naive.high - naive.low == pytest.approx((few.high - few.low) / np.sqrt(5), rel=0.06)
    assert clustered.n_problems.item() == 200


def test_same_generator_state_same_interval() -> None:
    c = rng(6).binomial(8, 0.4, 30)
    first, second = (bootstrap(c, 8, [1, 2], rng=rng(7), options=QUICK) for _ in range(2))
    assert first.low.tolist() == second.low.tolist()
    assert bootstrap(c, 8, [1, 2], rng=rng(8), options=QUICK).low.tolist() != first.low.tolist()


def test_nan_problems_are_left_out_and_counted() -> None:
    values = np.array([[0.2, np.nan], [0.4, np.nan], [np.nan, np.nan], [0.9, 0.5]])
    got = bootstrap_mean(values, rng=rng())
    assert got.value == pytest.approx([0.5, 0.5])
    assert got.n_problems.tolist() == [3, 1]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_interval_holds_its_value_and_stays_in_range(data: st.DataObject) -> None:
    problems = data.draw(st.integers(1, 12))
    n = np.array(data.draw(st.lists(st.integers(1, 20), min_size=problems, max_size=problems)))
    c = np.array([data.draw(st.integers(0, int(size))) for size in n])
    labels = data.draw(st.none() | st.lists(st.integers(0, 3), min_size=problems, max_size=problems))
    for got in (
        bootstrap(c, n, [1, 2, 9], rng=rng(), clusters=labels, options=Resampling(replicates=100)),
        rollout_interval(c, n, [1, 2, 9]),
    ):
        known = got.n_problems > 0
        assert np.isnan(got.value[~known]).all()
        assert (got.low[known] >= 0).all()
        assert (got.high[known] <= 1).all()
        assert (got.low[known] <= got.value[known] + 1e-12).all()
        assert (got.value[known] <= got.high[known] + 1e-12).all()
        assert (got.high[known] - got.low[known] > 0).all()


def test_pairing_takes_the_problems_out_of_the_error() -> None:
    p = rng(11).beta(0.3, 1, 200)
    first, second = rng(12).binomial(64, p), rng(13).binomial(64, np.minimum(p * 1.05, 1))
    got = paired_bootstrap((first, 64), (second, 64), [1, 8], rng=rng(14))
    alone = bootstrap(first, 64, [1, 8], rng=rng(14))
    assert got.difference.value == pytest.approx(
        (pass_at_k(first, 64, [1, 8]) - pass_at_k(second, 64, [1, 8])).mean(axis=0)
    )
    assert ((got.difference.high - got.difference.low) < 0.4 * (alone.high - alone.low)).all()


def test_difference_changes_sign_with_the_order() -> None:
    first, second = rng(15).binomial(8, 0.3, 50), rng(16).binomial(8, 0.5, 50)
    one = paired_bootstrap((first, 8), (second, 8), [1, 4], rng=rng(17))
    other = paired_bootstrap((second, 8), (first, 8), [1, 4], rng=rng(17))
    assert one.difference.low == pytest.approx(-other.difference.high)
    assert one.p_value == pytest.approx(other.p_value)


def test_p_value_agrees_with_the_interval_and_the_t_test() -> None:
    first, second = rng(18).binomial(16, 0.40, 150), rng(19).binomial(16, 0.44, 150)
    got = paired_bootstrap((first, 16), (second, 16), 1, rng=rng(20), options=Resampling(replicates=20_000))
    expected = scipy_stats.ttest_rel(first / 16, second / 16).pvalue
    assert got.p_value.item() == pytest.approx(expected, abs=0.02)
    outside = got.difference.high.item() < 0 or got.difference.low.item() > 0
    assert outside == (got.p_value.item() < 0.05)


def test_no_difference_seen_is_not_no_difference() -> None:
    got = paired_bootstrap(([8] * 100, 8), ([8] * 100, 8), [1, 9], rng=rng())
    assert got.difference.value[0] == 0
    bound = 1 - 0.025 ** (1 / 100)
    assert (got.difference.low[0], got.difference.high[0]) == pytest.approx((-bound, bound))
    assert got.p_value[0] == 1
    assert np.isnan(got.p_value[1])


def test_a_problem_too_small_in_one_run_is_left_out() -> None:
    got = paired_bootstrap(([2, 3, 1], [4, 8, 8]), ([1, 1, 1], [8, 8, 2]), [1, 4], rng=rng())
    assert got.difference.n_problems.tolist() == [3, 2]


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="replicates is 10"):
        Resampling(replicates=10)
    with pytest.raises(ValueError, match=r"level is 95"):
        Resampling(level=95)
    with pytest.raises(ValueError, match="clusters"):
        bootstrap([1, 2], 8, 1, rng=rng(), clusters=[1])
    with pytest.raises(ValueError, match="values"):
        bootstrap_mean([0.5, 1.5], rng=rng())
    with pytest.raises(ValueError, match="second"):
        paired_bootstrap(([1, 2], 8), ([1], 8), 1, rng=rng())
    with pytest.raises(ValueError, match=r"outside \[-1, 1\]"):
        paired_bootstrap_mean([0.5, 2.0], [0.1, 0.2], rng=rng())


@pytest.mark.parametrize("flipped", [False, True])
def test_one_value_that_carries_the_mean_does_not_make_the_interval_everything(flipped: bool) -> None:
    values = np.full((300, 1), 1e-40)
    values[7] = 1e-9
    got = bootstrap_mean(1 - values if flipped else values, rng=rng())
    # Clopper and Pearson's bound for 0 of 300 is 0.012; the bound that holds for any values in [0, 1] is 0.034.
    width = float((got.high - got.low)[0])
    assert 0 < width < 0.05
    assert got.low[0] <= got.value[0] <= got.high[0]


def test_resampled_means_are_those_of_the_problems_drawn_written_out() -> None:
    """Each replicate as a list of problems, in which every drawn cluster is there as often as it was drawn."""
    values = rng(1).random((7, 2, 3))
    labels = np.array(["a", "b", "a", "c", "b", "a", "d"])
    means = resampled_means(values, rng=rng(2), clusters=labels, replicates=50)
    drawn = rng(2).multinomial(4, [0.25] * 4, size=50)
    for times, mean in zip(drawn, means, strict=True):
        rows = np.concatenate([np.flatnonzero(labels == "abcd"[i]) for i in np.repeat(np.arange(4), times)])
        np.testing.assert_allclose(mean, values[rows].mean(axis=0), rtol=1e-12)


def test_resampled_weights_give_the_resampled_means() -> None:
    values = rng(1).random((9, 4))
    for labels in (None, np.array([0, 0, 1, 1, 1, 2, 3, 4, 4])):
        weights = resampled_weights(9, rng=rng(5), clusters=labels, replicates=30)
        np.testing.assert_allclose(weights.sum(axis=0), 1.0)
        means = resampled_means(values, rng=rng(5), clusters=labels, replicates=30)
        np.testing.assert_allclose(weights.T @ values, means, rtol=1e-12)


def test_a_fresh_stream_repeats_itself_and_no_other() -> None:
    assert fresh_rng().random() == fresh_rng().random() != fresh_rng(1).random()


def test_the_deviate_beyond_all_replicates_keeps_the_level_and_grows_with_the_difference() -> None:
    """200 replicates end at p = 1/201; of pairs without a difference no more than 0.2 % have a deviate that says 0.2 %."""
    rng, n = np.random.default_rng(3), 64
    false = []
    for _ in range(20):
        rate = rng.beta(0.5, 1.5, (100, 400))
        first, second = (rng.binomial(n, rate) / n for _ in range(2))
        z = paired_bootstrap_mean(first, second, rng=rng, options=Resampling(200)).z
        false += (2 * scipy_stats.norm.sf(z) <= 0.002).tolist()
    assert len(false) == 8000
    assert scipy_stats.binom.sf(sum(false) - 1, 8000, 0.002) > 0.01
    rates = np.linspace(0.2, 0.6, 100)[:, None]
    near, far = (
        paired_bootstrap_mean(rng.binomial(n, rates + gap) / n, rng.binomial(n, rates) / n, rng=rng)
        for gap in (0.1, 0.3)
    )
    assert near.p_value[0] == far.p_value[0] == pytest.approx(1 / 2001)
    assert 3.29 < near.z[0] < far.z[0] < 60
