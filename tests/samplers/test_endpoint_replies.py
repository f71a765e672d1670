"""Bounds from what servers list of each token: they hold whatever the server leaves out, rounds or puts in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_bench.samplers.endpoint_client import Failed
from rlvr_bench.samplers.endpoint_replies import Position, mean_bounds, positions, read_choices
from tests.samplers.scripted_server import hooked

V = 300


def law(seed: int, spread: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    logits = np.random.default_rng(seed).normal(size=V) * spread
    return np.asarray(np.exp(logits) / np.exp(logits).sum())


def truth(p: np.ndarray[Any, Any]) -> tuple[float, int]:
    return float(-(p * np.log(p)).sum()), int((np.sort(p)[::-1].cumsum() < 0.95).sum() + 1)


def listed(p: np.ndarray[Any, Any], sampled: int, k: int, way: str) -> Position:
    """What a server of this kind says of one token."""
    logprobs = np.log(p)
    order = np.argsort(-p)[:k].tolist()
    if way == "vllm chat":  # the sampled token first, then the largest, cut at k entries
        names = list(dict.fromkeys([sampled, *order]))[:k]
    elif way == "openai chat":
        names = order
    else:  # a table; by text, tokens written alike are one entry
        names = list(dict.fromkeys([*order, sampled]))
    if way == "table by text":
        by_text = {name // 2: float(logprobs[name]) for name in names}
        return Position(float(logprobs[sampled]), list(by_text.values()), False)
    return Position(float(logprobs[sampled]), [float(logprobs[name]) for name in names], True)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.2, 8),
    st.integers(1, 20),
    st.sampled_from(["vllm chat", "openai chat", "table by id", "table by text"]),
    st.booleans(),
)
def test_bounds_hold_for_every_way_of_listing(seed: int, spread: float, k: int, way: str, rounded: bool) -> None:
    rng = np.random.default_rng(seed)
    laws = [law(seed + i, spread) for i in range(3)]
    noise = rng.uniform(-5e-5, 5e-5, V) if rounded else np.zeros(V)  # as off as float32 logits make them
    at_positions = [listed(p * np.exp(noise), int(rng.choice(V, p=p)), k, way) for p in laws]
    bounds = mean_bounds(at_positions, 3, k, V)
    entropy, nucleus = np.mean([truth(p) for p in laws], axis=0)
    assert bounds.entropy_low <= entropy <= bounds.entropy_high
    assert bounds.branching_low <= nucleus <= bounds.branching_high


def test_bounds_are_narrow_where_the_list_holds_most_of_the_law() -> None:
    p = law(0, 6.0)
    bounds = mean_bounds([listed(p, int(p.argmax()), 20, "table by id")] * 5, 5, 20, 2**19)
    assert bounds.entropy_high - bounds.entropy_low < 0.1
    assert bounds.branching_low == bounds.branching_high == truth(p)[1]


def test_a_larger_vocabulary_moves_upper_bounds_only() -> None:
    position = [listed(law(0, 2.0), 0, 20, "openai chat")]
    small, large = mean_bounds(position, 1, 20, V), mean_bounds(position, 1, 20, 2**19)
    assert (small.entropy_low, small.branching_low) == pytest.approx((large.entropy_low, large.branching_low), abs=2e-3)
    assert small.entropy_high < large.entropy_high
    assert small.branching_high < large.branching_high


def test_tokens_of_which_nothing_is_known_widen_the_bounds() -> None:
    position = listed(law(0, 6.0), 0, 20, "table by id")
    known, half = mean_bounds([position], 1, 20, V), mean_bounds([position], 2, 20, V)
    assert half.entropy_low == pytest.approx(known.entropy_low / 2)
    assert half.entropy_high == pytest.approx((known.entropy_high + np.log(V)) / 2)
    assert half.branching_high == pytest.approx((known.branching_high + V) / 2)
    assert mean_bounds([], 0, 20, V) == pytest.approx((0, np.log(V), 1, V))


def test_impossible_tokens_are_no_trouble() -> None:
    position = Position(0.0, [0.0, -9999.0, float("-inf")], True)
    assert mean_bounds([position], 1, 3, V).entropy_low == 0
    odd = Position(-40.0, [-40.0, -41.0, -42.0], True)  # no law looks like this; nothing may overflow
    assert mean_bounds([odd], 1, 3, V).branching_high <= V


def test_our_columns_are_never_taken_for_log_probabilities() -> None:
    table = {f"token_id:{i}": value for i, value in hooked(3).items()}
    assert positions({"token_logprobs": [-1.0], "top_logprobs": [table]}) is None
    assert positions({"token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]}) is not None
    assert positions({"content": None}) is positions({}) is positions({"content": [{"logprob": "x"}]}) is None


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"choices": []},
        {"choices": ["x"]},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": [{"text": "x", "finish_reason": None}]},
    ],
)
def test_replies_that_are_none(reply: Any) -> None:
    with pytest.raises(Failed):
        read_choices(reply)


def test_lengths_come_from_ids_then_usage_then_log_probabilities() -> None:
    def length(**fields: Any) -> int | None:
        usage = fields.pop("usage", None)
        return read_choices({"choices": [{"text": "x", "finish_reason": "stop", **fields}], "usage": usage})[0].n_tokens

    logprobs = {"content": [{"logprob": -1.0, "top_logprobs": []}] * 4}
    assert length(token_ids=[1, 2], usage={"completion_tokens": 3}, logprobs=logprobs) == 2
    assert length(usage={"completion_tokens": 3}, logprobs=logprobs) == 3
    assert length(logprobs=logprobs) == 4
    assert length() is None
