"""Token statistics against closed forms, and bounds against the distributions they must hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlvr_bench.stats import (
    entropy_performance_fit,
    high_entropy_threshold,
    nucleus_size,
    perplexity,
    positional_profile,
    token_entropy,
)


def test_entropy_closed_forms() -> None:
    assert token_entropy(np.zeros((2, 50))) == pytest.approx(math.log(50))
    assert token_entropy(np.log([[0.5, 0.25, 0.25]])).item() == pytest.approx(1.5 * math.log(2))
    assert token_entropy([[0.0, -math.inf, -math.inf]]).item() == 0
    assert token_entropy([[3000.0, 0.0]]).item() == 0  # no overflow
    assert token_entropy([[1000.0, 1000.0]]).item() == pytest.approx(math.log(2))


def test_entropy_does_not_depend_on_the_offset_and_temperature_divides() -> None:
    logits = np.random.default_rng(12).normal(0, 3, (4, 30))
    assert token_entropy(logits + 17.0) == pytest.approx(token_entropy(logits))
    assert token_entropy(logits, temperature=0.6) == pytest.approx(token_entropy(logits / 0.6))
    assert (token_entropy(logits, temperature=0.6) < token_entropy(logits)).all()


def test_entropy_of_two_tokens_is_the_binary_entropy() -> None:
    p = np.array([0.001, 0.2, 0.5])
    got = token_entropy(np.stack([np.log(p), np.log(1 - p)], axis=1))
    assert got == pytest.approx(-p * np.log(p) - (1 - p) * np.log(1 - p))


def test_nucleus_counts_the_crossing_token() -> None:
    log_p = np.log([[0.6, 0.3, 0.06, 0.04]])
    assert [nucleus_size(log_p, top_p).item() for top_p in (0.5, 0.6, 0.61, 0.9, 0.95, 0.96, 1.0)] == [
        1,
        1,
        2,
        2,
        3,
        3,
        4,
    ]
    assert nucleus_size(np.zeros((1, 20)), 0.95).item() == 19  # 19 * 0.05 is below 0.95 in floats
    assert nucleus_size([[0.0, 0.0, -math.inf]], 1.0).item() == 2
    assert nucleus_size([[50.0, 0.0, 0.0]]).item() == 1


def test_perplexity() -> None:
    assert perplexity([-2.0, 0.0, -3.0], [2, 5, 0]) == pytest.approx([math.e, 1.0, np.nan], nan_ok=True)


def test_positional_profile() -> None:
    got = positional_profile([1, 2, 3, 4, 5, 6.0, 9], [2, 4, 1], bins=2)
    assert got == pytest.approx(np.array([[1, 2], [3.5, 5.5], [9, np.nan]]), nan_ok=True)
    longest = positional_profile(np.arange(100.0), [100], bins=20)
    assert longest[0] == pytest.approx(np.arange(20) * 5 + 2)
    assert positional_profile([1.0, np.nan, 5.0, 7.0], [4], bins=2)[0].tolist() == [1.0, 6.0]
    with pytest.raises(ValueError, match="values"):
        positional_profile([1.0, 2.0], [3])


def test_high_entropy_threshold() -> None:
    entropy = np.random.default_rng(13).exponential(size=10_001)
    tau = high_entropy_threshold(np.append(entropy, np.nan), 0.2)
    assert np.mean(entropy >= tau) == pytest.approx(0.2, abs=1e-3)
    assert math.isnan(high_entropy_threshold([np.nan]))


def test_entropy_performance_fit() -> None:
    """Cui et al. (arXiv 2505.22617): R = -a exp(H) + b, linear in exp(H)."""
    h = np.linspace(0.05, 1.2, 30)
    noise = np.random.default_rng(14).normal(0, 0.01, 30)
    exact = entropy_performance_fit(h, -0.12 * np.exp(h) + 0.6)
    assert (exact.a, exact.b, exact.ceiling) == pytest.approx((0.12, 0.6, 0.48))
    assert exact.rmse == pytest.approx(0, abs=1e-12)
    noisy = entropy_performance_fit(np.append(h, np.nan), np.append(-0.12 * np.exp(h) + 0.6 + noise, 0.5))
    slope, intercept = np.polyfit(np.exp(h), -0.12 * np.exp(h) + 0.6 + noise, 1)
    assert (noisy.a, noisy.b) == pytest.approx((-slope, intercept))
    assert noisy.rmse == pytest.approx(0.01, rel=0.3)
    with pytest.raises(ValueError, match="two distinct"):
        entropy_performance_fit([0.5, 0.5], [0.1, 0.2])
