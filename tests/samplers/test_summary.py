"""Summaries of per-token statistics, against sums written out."""

from __future__ import annotations

import numpy as np
import pytest

from rlvr_bench.records import Rollout
from rlvr_bench.samplers.summary import HIGH_ENTROPY_NATS, PROFILE_BINS, TokenSummary, summarise


def test_sums_means_and_share() -> None:
    summary = summarise(np.array([-1.0, -0.5, -0.25]), np.array([0.672, 0.1, 2.0]), np.array([3, 1, 8]))
    assert summary.logprob_sum == -1.75
    assert summary.entropy_mean == pytest.approx(2.772 / 3)
    assert summary.branching_mean == 4.0
    assert summary.high_entropy_share == pytest.approx(2 / 3)  # the threshold itself counts as high


def test_a_bin_without_tokens_is_none() -> None:
    """Three tokens are at 0, 1/3 and 2/3: bins 0, 6 and 13 of 20."""
    profile = summarise(np.zeros(3), np.array([1.0, 2.0, 3.0]), np.ones(3)).entropy_profile
    assert len(profile) == PROFILE_BINS
    assert {b: v for b, v in enumerate(profile) if v is not None} == {0: 1.0, 6: 2.0, 13: 3.0}


def test_a_long_rollout_fills_every_bin_with_its_own_mean() -> None:
    entropy = np.repeat(np.arange(20.0), 50)
    assert summarise(entropy, entropy, entropy).entropy_profile == tuple(np.arange(20.0))


@pytest.mark.parametrize("n", [1, 7, 19, 20, 21, 999])
def test_the_profile_is_the_mean_by_relative_position(n: int) -> None:
    entropy = np.random.default_rng(n).random(n)
    expected: dict[int, list[float]] = {}
    for t in range(1, n + 1):
        expected.setdefault(int((t - 1) * 20 // n), []).append(float(entropy[t - 1]))
    profile = summarise(entropy, entropy, entropy).entropy_profile
    assert profile == tuple(pytest.approx(np.mean(expected[b])) if b in expected else None for b in range(20))


def test_threshold_and_bins_are_parameters() -> None:
    summary = summarise(np.zeros(4), np.array([0.1, 0.2, 0.3, 0.4]), np.ones(4), threshold=0.15, bins=2)
    assert summary.high_entropy_share == 0.75
    assert list(summary.entropy_profile) == pytest.approx([0.15, 0.35])
    assert HIGH_ENTROPY_NATS == 0.672


def test_float32_arrays_are_summed_in_float64() -> None:
    values = np.full(100_001, 0.1, dtype=np.float32)
    assert summarise(values, values, values).logprob_sum == pytest.approx(100_001 * float(np.float32(0.1)), rel=1e-12)


def test_no_tokens_means_no_means() -> None:
    empty = np.zeros(0)
    summary = summarise(empty, empty, empty)
    assert (summary.logprob_sum, summary.entropy_mean, summary.branching_mean, summary.high_entropy_share) == (
        0.0,
        None,
        None,
        None,
    )
    assert summary.entropy_profile == (None,) * PROFILE_BINS


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        summarise(np.zeros(2), np.zeros(3), np.zeros(3))


def test_the_fields_are_those_of_a_rollout() -> None:
    assert set(TokenSummary.__struct_fields__) <= set(Rollout.__struct_fields__)
