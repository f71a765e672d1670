"""Entropy by outcome and at equal length, perplexity, profiles, quality with intervals; all by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers import entropy, quality
from rlvr_bench.scorers.entropy import length_matched
from tests.scorers.made import outcomes, with_profiles


def by_group(estimates: list[Estimate], name: str) -> dict[str | None, Estimate]:
    return {e.group: e for e in estimates if e.name == name}


def test_length_matching_removes_what_length_alone_explains() -> None:
    """Entropy is 1 in short and 3 in long responses whatever the outcome; wrong ones are longer."""
    lengths = np.array([10, 10, 10, 1000, 10, 1000, 1000, 1000], dtype=np.int32)
    values = np.where(lengths == 10, 1.0, 3.0)
    run = outcomes(["ccccwwww"], n_tokens=lengths, entropy_mean=values)
    plain = by_group(entropy(run), "token_entropy")
    assert plain["correct"].value == pytest.approx(1.5)
    assert plain["wrong"].value == pytest.approx(2.5)
    assert plain["correct, length-matched"].value == pytest.approx(plain["wrong, length-matched"].value)
    assert plain["wrong less correct, length-matched"].value == pytest.approx(0.0)


MATCHED = ("token_entropy", "branching_factor", "perplexity", "high_entropy_share")


def confounded_run(effect: float) -> Outcomes:
    """200 problems; wrong responses twice as long as correct ones; every statistic rises by 0.3 per doubling of length.

    Beyond length, a wrong response has ``effect`` more. Logs are natural where a statistic is defined through one.
    """
    rng = np.random.default_rng(3)
    size = 200 * 64
    wrong = rng.random((200, 64)) > rng.beta(2, 2, (200, 1))
    length = np.exp(rng.normal(np.log(200 * (1 + wrong.ravel())), 0.5)).astype(np.int32)

    def statistic() -> npt.NDArray[np.float64]:
        return np.asarray(1.0 + 0.3 * np.log2(length) + effect * wrong.ravel() + rng.normal(0, 0.1, size))

    return outcomes(
        ["c" * 64] * 200,
        status=wrong.ravel().astype(np.int8),
        n_tokens=length,
        entropy_mean=statistic(),
        branching_mean=statistic(),
        high_entropy_share=statistic(),
        logprob_sum=-length * np.log(statistic()),
    )


@pytest.mark.parametrize("name", MATCHED)
@pytest.mark.parametrize("effect", [0.0, 0.2])
def test_matching_recovers_what_length_does_not_explain(name: str, effect: float) -> None:
    estimates = by_group(entropy(confounded_run(effect)), name)
    values = {group: estimate.value or 0.0 for group, estimate in estimates.items()}
    assert values["wrong"] - values["correct"] == pytest.approx(0.3 + effect, abs=0.03)
    # Within a bin, a quarter of a doubling wide, wrong responses are still a little longer: less than 0.3 / 40.
    difference = estimates["wrong less correct, length-matched"]
    assert difference.value == pytest.approx(effect, abs=0.0075)
    assert difference.n_problems > 190
    pair = values["wrong, length-matched"] - values["correct, length-matched"]
    assert difference.value == pytest.approx(pair, abs=1e-12)


def test_length_matching_keeps_a_difference_at_equal_length() -> None:
    """Short: correct 1, 2 against wrong 4; long: correct 3 against wrong 6, 8. Each bin weighs 1."""
    lengths = np.array([10, 10, 500, 10, 500, 500, 90], dtype=np.int32)
    values = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 99.0])
    correct, wrong = length_matched(
        outcomes(["cccwwww", "cw"], n_tokens=np.append(lengths, [5, 50]).astype(np.int32)),
        np.append(values, [1.0, 1.0]),
    )
    assert correct[0] == pytest.approx((1.5 + 3) / 2)
    assert wrong[0] == pytest.approx((4 + 7) / 2)
    assert np.isnan(correct[1])
    assert np.isnan(wrong[1])


def test_perplexity_is_per_token_and_per_rollout() -> None:
    run = outcomes(["cw"], logprob_sum=np.log([0.5, 0.25]) * 10)
    estimates = by_group(entropy(run), "perplexity")
    assert estimates[None].value == pytest.approx((2 + 4) / 2)
    assert estimates["correct"].value == pytest.approx(2.0)
    assert estimates["wrong"].value == pytest.approx(4.0)


def test_the_profile_has_a_mean_per_bin_of_position_for_each_outcome() -> None:
    profile = np.full((4, 20), np.nan, dtype=np.float32)
    profile[:, 0], profile[0, 19] = [1.0, 3.0, 7.0, 8.0], 5.0
    estimates = by_group(entropy(with_profiles(outcomes(["cwn", "w"]), profile)), "entropy_profile")
    assert sum(value.value is not None for value in estimates.values()) == 5
    assert estimates["0.00-0.05"].value == pytest.approx((11 / 3 + 8) / 2)
    assert estimates["correct, 0.00-0.05"].value == pytest.approx(1.0)
    assert estimates["wrong, 0.00-0.05"].value == pytest.approx((3 + 8) / 2)
    assert (estimates["0.95-1.00"].value, estimates["0.95-1.00"].n_problems) == (5.0, 1)
    assert (estimates["0.50-0.55"].value, estimates["0.50-0.55"].n_samples) == (None, 0)
    assert "wrong, 0.95-1.00" not in estimates


def test_bounds_stand_in_where_nothing_exact_was_measured() -> None:
    run = outcomes(["cw"], entropy_low=np.array([1.0, 2.0]), entropy_high=np.array([2.0, 5.0]))
    estimates = entropy(run)
    assert by_group(estimates, "token_entropy")[None].value is None
    assert by_group(estimates, "token_entropy_low")[None].value == pytest.approx(1.5)
    assert by_group(estimates, "token_entropy_high")["wrong"].value == pytest.approx(5.0)


def test_every_estimate_says_how_many_problems_and_rollouts_it_used() -> None:
    values = np.array([1.0, 2.0, np.nan, 3.0, 4.0, 5.0])
    estimates = by_group(entropy(outcomes(["ccw", "cww"], entropy_mean=values)), "token_entropy")
    assert (estimates[None].n_problems, estimates[None].n_samples) == (2, 2)
    assert (estimates["wrong"].n_problems, estimates["wrong"].n_samples) == (1, 2)
    assert "t interval" in estimates[None].method


def test_clusters_widen_the_interval_of_a_mean() -> None:
    values = np.repeat(np.arange(4.0), 5) + np.tile([0.0, 0.1, 0.2, 0.3, 0.4], 4)
    alone = by_group(entropy(outcomes(["w"] * 20, entropy_mean=values)), "token_entropy")[None]
    groups = tuple(f"c{i // 5}" for i in range(20))
    together = by_group(entropy(outcomes(["w"] * 20, entropy_mean=values, clusters=groups)), "token_entropy")[None]
    # Four equal clusters: the t interval of the four cluster means, 0.2 to 3.2, with three degrees of freedom.
    half = 3.18245 * np.std(np.arange(4), ddof=1) / 2
    assert together.high == pytest.approx(1.7 + half, abs=1e-4)
    assert alone.high is not None
    assert together.high is not None
    assert together.high > alone.high + 0.5


def test_rates_have_intervals_and_extra_flags_are_rates_too() -> None:
    run = outcomes(["cnew"] * 5 + ["cccc"] * 5)
    flags = {"repetition": np.arange(40) % 4 == 0}
    estimates = {(e.name, e.group): e for e in quality(run, flags)}
    rate = estimates["no_answer_rate", None]
    assert rate.value == pytest.approx(0.125)
    assert rate.low is not None
    assert rate.high is not None
    assert 0 <= rate.low < 0.125 < rate.high < 0.5
    assert estimates["repetition_rate", None].value == pytest.approx(0.25)
    assert estimates["tokens_per_response", "wrong"].n_problems == 5
    assert quality(outcomes([""])) == []
