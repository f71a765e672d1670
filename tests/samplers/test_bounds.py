"""Bounds from truncated log-probabilities: they hold for random laws and are attained by the extreme ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_bench.samplers.bounds import law_bounds


def entropy_and_nucleus(p: np.ndarray, top_p: float = 0.95) -> tuple[float, int]:
    p = np.sort(p)[::-1]
    return float(-(p[p > 0] * np.log(p[p > 0])).sum()), int((p.cumsum() < top_p).sum() + 1)


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 500), st.integers(1, 20), st.floats(0.05, 8), st.integers(0, 2**32 - 1))
def test_every_law_lies_within(vocabulary: int, k: int, spread: float, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=vocabulary) * spread
    p = np.exp(logits - logits.max())
    p /= p.sum()
    bounds = law_bounds(np.log(np.sort(p)[::-1][: min(k, vocabulary)]), vocabulary)
    entropy, nucleus = entropy_and_nucleus(p)
    assert bounds.entropy[0] - 1e-9 <= entropy <= bounds.entropy[1] + 1e-9
    assert bounds.nucleus[0] - 1 <= nucleus <= bounds.nucleus[1] + 1  # one for rounding at a tie with 0.95


def test_both_ends_are_attained() -> None:
    vocabulary, head = 104, np.array([0.4, 0.1])
    even = np.concatenate([head, np.full(102, 0.5 / 102)])
    packed = np.concatenate([head, np.full(5, 0.1), np.zeros(97)])
    bounds = law_bounds(np.log(head), vocabulary, top_p=0.9)
    assert bounds.entropy == pytest.approx((entropy_and_nucleus(packed)[0], entropy_and_nucleus(even)[0]))
    assert bounds.nucleus == (entropy_and_nucleus(packed, 0.899)[1], entropy_and_nucleus(even, 0.9)[1])


def test_all_of_the_law_is_exact() -> None:
    p = np.array([0.7, 0.2, 0.1])
    bounds = law_bounds(np.log(p), 3)
    assert bounds.entropy[0] == bounds.entropy[1] == pytest.approx(entropy_and_nucleus(p)[0])
    assert bounds.nucleus == (3, 3)


def test_rounding_above_one_is_clipped() -> None:
    bounds = law_bounds(np.log(np.array([0.9, 0.1000001])), 50)
    assert bounds.entropy[0] == bounds.entropy[1]
    assert bounds.nucleus == (2, 2)
