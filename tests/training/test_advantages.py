"""Advantages against enumeration, closed forms, hand-worked groups and the published values; NumPy and torch alike."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_bench.errors import BadArgument
from rlvr_bench.training import advantages

torch = pytest.importorskip("torch", reason="needs the torch extra")
torch.set_num_threads(1)

Floats = npt.NDArray[np.float64]


def group(correct: int, size: int = 8) -> npt.NDArray[np.bool_]:
    return np.arange(size)[None] < correct


# Group-normalised


def test_group_normalised_is_verls_loop() -> None:
    rewards = np.random.default_rng(0).normal(size=(5, 8))
    expected = [
        [(float(r) - statistics.mean(row)) / (statistics.stdev(row) + 1e-6) for r in row] for row in rewards.tolist()
    ]
    np.testing.assert_allclose(advantages.group_normalised(rewards), expected, rtol=1e-12)


def test_a_group_of_one_has_mean_zero_and_deviation_one() -> None:
    np.testing.assert_allclose(
        advantages.group_normalised(np.array([[3.0], [-1.0]])), [[3 / (1 + 1e-6)], [-1 / (1 + 1e-6)]]
    )


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.1, 1.0]), min_size=2, max_size=12), st.floats(0.1, 100), st.floats(-9, 9))
@settings(max_examples=60, deadline=None)
def test_group_normalised_ignores_scale_and_shift(rewards: list[float], scale: float, shift: float) -> None:
    row = np.array([rewards])
    result = advantages.group_normalised(row)
    assert abs(result.sum()) < 1e-9
    if len(set(rewards)) == 1:
        assert (result == 0).all()
    else:
        np.testing.assert_allclose(advantages.group_normalised(scale * row + shift), result, rtol=1e-3, atol=1e-9)


# Pass@k Training


@pytest.mark.parametrize(
    ("correct", "right", "wrong"), [(1, 1.0, -0.142857), (2, 0.522233, -0.174078), (4, 0.120386, -0.120386)]
)
def test_pass_at_k_published_values(correct: int, right: float, wrong: float) -> None:
    result = advantages.pass_at_k(group(correct), 4)
    np.testing.assert_allclose(result[0, [0, -1]], [right, wrong], atol=1e-6)


@pytest.mark.parametrize(("size", "k"), [(5, 1), (5, 2), (6, 3), (6, 6), (7, 4)])
def test_pass_at_k_is_the_mean_over_all_subsets(size: int, k: int) -> None:
    """The paper's definition: every k-subset is a group rewarded by its best; a rollout gets the mean of its groups."""
    for outcomes in itertools.product((0, 1), repeat=size):
        subsets = list(itertools.combinations(range(size), k))
        rewards = np.array([max(outcomes[i] for i in subset) for subset in subsets], dtype=float)
        spread = rewards.std()
        expected = [
            np.mean([(r - rewards.mean()) / spread for r, subset in zip(rewards, subsets, strict=True) if i in subset])
            if spread
            else 0.0
            for i in range(size)
        ]
        np.testing.assert_allclose(advantages.pass_at_k(np.array([outcomes]), k)[0], expected, atol=1e-12)


def test_pass_at_1_is_group_normalised_with_the_population_deviation() -> None:
    correct = group(3)
    np.testing.assert_allclose(
        advantages.pass_at_k(correct, 1)[0], (correct[0] - 3 / 8) / np.std(correct[0].astype(float)), rtol=1e-12
    )


def test_pass_at_k_of_a_large_group_is_finite() -> None:
    result = advantages.pass_at_k(np.arange(1024)[None] < np.array([[0], [1], [512], [1023], [1024]]), 256)
    assert np.isfinite(result).all()
    assert (result[[0, 4]] == 0).all()


# PKPO


def test_pkpo_published_values() -> None:
    for correct, wrong in ((0, 0), (1, 3 / 28), (4, 9 / 28)):
        result = advantages.pkpo(group(correct), 3)
        assert result[0, -1] == pytest.approx(wrong, abs=1e-15)
        assert result[0, 0] == pytest.approx(3 / 8 if correct else 0)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (3, 2), (4, 3), (4, 4)])
@pytest.mark.parametrize("solutions", [(0,), (1, 3)])
def test_pkpo_gradient_is_unbiased_by_enumeration(n: int, k: int, solutions: tuple[int, ...]) -> None:
    """All 4^n samples of a softmax policy, each with its probability: the mean estimate is the gradient of pass@k."""
    logits = np.array([0.3, -0.7, 1.1, 0.2])
    policy = np.exp(logits) / np.exp(logits).sum()
    score = np.eye(4) - policy  # row a: the gradient of log pi(a)
    mean = np.zeros(4)
    for sample in itertools.product(range(4), repeat=n):
        reward = advantages.pkpo(np.isin([sample], solutions), k)[0]
        mean += policy[list(sample)].prod() * (reward[:, None] * score[list(sample)]).sum(axis=0)
    p = policy[list(solutions)].sum()
    gradient = k * (1 - p) ** (k - 1) * policy * (np.isin(np.arange(4), solutions) - p)
    np.testing.assert_allclose(mean, gradient, atol=1e-13)


# Perplexity


def test_perplexity_weights_of_a_group_worked_by_hand() -> None:
    """Log-perplexities 1, 2, 3, 4, 100: fence [-1, 7], so mean 2.5 and deviation sqrt(1.25) of the first four."""
    result = advantages.perplexity_weights(-np.array([[1.0, 2, 3, 4, 100]]))
    step = 0.01 / math.sqrt(1.25)
    np.testing.assert_allclose(
        result[0], [1 + 1.5 * step, 1 + 0.5 * step, 1 - 0.5 * step, 1 - 1.5 * step, 0.8], rtol=1e-12
    )
    assert advantages.perplexity_weights(np.array([[-100.0, -4, -3, -2, -1]]), alpha=-0.01)[0, 0] == 1.2


def test_equal_perplexities_leave_the_advantages() -> None:
    given_ = np.array([[1.0, -2.0, 0.5]])
    assert (advantages.perplexity_shaped(given_, np.full((1, 3), -0.4)) == given_).all()


@given(st.lists(st.floats(-5, -0.01), min_size=2, max_size=16), st.sampled_from(["low", "high"]))
@settings(max_examples=60, deadline=None)
def test_the_perplexity_weight_is_applied_and_favours_what_it_says(mean_logprob: list[float], favour: Any) -> None:
    """The fault of the released script, advantages that come back as they went in, cannot pass here."""
    logprob = np.array([mean_logprob])
    signs = np.where(np.arange(len(mean_logprob)) % 2, -1.0, 1.0)[None]
    shaped = advantages.perplexity_shaped(signs, logprob, 0.05, favour)
    assert (np.sign(shaped) == signs).all()
    size = np.abs(shaped)[0]
    if np.ptp(logprob) > 1e-3:
        assert not np.allclose(shaped, signs, rtol=0, atol=1e-9)
    by_perplexity = size[np.argsort(-logprob[0])]  # lowest perplexity first
    steps = np.diff(by_perplexity)
    assert (steps <= 1e-12).all() if favour == "low" else (steps >= -1e-12).all()


# Position


def test_position_shaping_worked_by_hand() -> None:
    result = advantages.position_shaped(np.array([2.0, -2.0, 0.0, 0.01]), np.array([4, 4, 4, 2]), 6)
    first, middle = 0.1 / (1 + math.exp(7.5)), 0.05  # sigmoid(-7.5) at the first token, sigmoid(0) at r = 0.5
    np.testing.assert_allclose(result[0, [0, 2]], [2 + first, 2 + middle], rtol=1e-12)
    np.testing.assert_allclose(result[1], -result[0])
    assert (result[2] == 0).all()
    assert result[3, 1] == pytest.approx(0.015)  # never more than half the advantage
    assert (result[:3, 4:] == 0).all()
    assert (result[3, 2:] == 0).all()


@given(st.floats(-3, 3), st.integers(0, 40), st.floats(0, 2), st.floats(0, 2000))
@settings(max_examples=100, deadline=None)
def test_position_shaping_grows_along_the_rollout_and_keeps_the_sign(
    advantage: float, length: int, alpha: float, slope: float
) -> None:
    result = advantages.position_shaped(np.array([advantage]), np.array([length]), 40, alpha, slope)[0]
    inside = np.abs(result[:length])
    assert (np.sign(result[:length]) == np.sign(advantage)).all()
    assert (np.diff(inside) >= 0).all()
    assert (inside >= abs(advantage)).all()
    assert (inside <= 1.5 * abs(advantage) * (1 + 1e-12)).all()
    assert (result[length:] == 0).all()


# Covariance masks


def batch(seed: int = 0, shape: tuple[int, int] = (20, 30)) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, shape[1] + 1, shape[0])
    return -rng.exponential(size=shape), rng.normal(size=shape), np.arange(shape[1]) < lengths[:, None]


def terms(logprob: Floats, advantage: Floats, mask: npt.NDArray[np.bool_]) -> dict[tuple[int, int], float]:
    cells = [(int(i), int(j)) for i, j in np.argwhere(mask)]
    mean = [statistics.fmean(array[cell] for cell in cells) for array in (logprob, advantage)]
    return {cell: (logprob[cell] - mean[0]) * (advantage[cell] - mean[1]) for cell in cells}


@pytest.mark.parametrize("fraction", [1e-6, 0.05, 0.3, 1.0])
def test_kl_cov_takes_the_largest_terms_of_the_valid_tokens(fraction: float) -> None:
    logprob, advantage, mask = batch()
    worth = terms(logprob, advantage, mask)
    logprob[~mask], advantage[~mask] = np.nan, np.inf
    chosen = advantages.covariance_mask(logprob, advantage, mask, fraction)
    best = sorted(worth, key=lambda cell: -worth[cell])[: max(1, int(fraction * len(worth)))]
    assert {(int(i), int(j)) for i, j in np.argwhere(chosen)} == set(best)


def test_clip_cov_draws_inside_its_band() -> None:
    logprob, advantage, mask = batch(1)
    worth = terms(logprob, advantage, mask)
    band = {cell for cell, value in worth.items() if 0.5 <= value <= 2}
    seen: set[tuple[int, int]] = set()
    for seed in range(60):
        chosen = advantages.clip_covariance_mask(
            logprob, advantage, mask, fraction=0.1, low=0.5, high=2, rng=np.random.default_rng(seed)
        )
        cells = {(int(i), int(j)) for i, j in np.argwhere(chosen)}
        assert len(cells) == min(len(band), int(0.1 * len(worth)))
        seen |= cells
    assert seen == band  # every token of the band has its chance: 60 draws of about a third or more
    none = advantages.clip_covariance_mask(
        logprob, advantage, mask, fraction=0.1, low=1e6, high=2e6, rng=np.random.default_rng(0)
    )
    assert not none.any()


def test_equal_terms_go_to_the_earlier_token_and_no_valid_token_to_none() -> None:
    flat = np.zeros((2, 3))
    chosen = advantages.covariance_mask(flat, flat, np.ones((2, 3), dtype=bool), 0.5)
    assert chosen.ravel().tolist() == [True] * 3 + [False] * 3
    assert not advantages.covariance_mask(flat, flat, np.zeros((2, 3), dtype=bool), 0.5).any()


# Both kinds of array

RNG = np.random.default_rng(5)
REWARD, CORRECT, LOGPROB = RNG.normal(size=(3, 6)), RNG.random((3, 6)) < 0.5, -RNG.exponential(size=(3, 6))
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "group_normalised": (advantages.group_normalised, (REWARD,)),
    "pass_at_k": (lambda a: advantages.pass_at_k(a, 2), (CORRECT,)),
    "pkpo": (lambda a: advantages.pkpo(a, 2), (CORRECT,)),
    "perplexity_weights": (advantages.perplexity_weights, (LOGPROB,)),
    "perplexity_shaped": (advantages.perplexity_shaped, (REWARD, LOGPROB)),
    "position_shaped": (lambda a, n: advantages.position_shaped(a, n, 9), (REWARD[0], np.array([1, 9, 0, 4, 5, 6]))),
    "covariance_mask": (lambda p, a, m: advantages.covariance_mask(p, a, m, 0.2), (LOGPROB, REWARD, CORRECT)),
    "clip_covariance_mask": (
        lambda *a: advantages.clip_covariance_mask(*a, fraction=0.2, low=0.0, high=9.0, rng=np.random.default_rng(1)),
        (LOGPROB, REWARD, CORRECT),
    ),
}


def test_every_function_is_tried_with_both_kinds_of_array() -> None:
    assert set(CALLS) == set(advantages.__all__)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_tensors_give_what_arrays_give_and_stay_tensors(name: str) -> None:
    function, arguments = CALLS[name]
    expected = function(*arguments)
    tensors = [torch.tensor(argument) for argument in arguments]
    result = function(*tensors)
    assert isinstance(result, torch.Tensor)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6, atol=1e-7)
    if tensors[0].is_floating_point():
        assert result.dtype in (tensors[0].dtype, torch.bool)
        half = [tensor.bfloat16() if tensor.is_floating_point() else tensor for tensor in tensors]
        assert function(*half).dtype in (torch.bfloat16, torch.bool)
        assert not function(*[t.requires_grad_() if t.is_floating_point() else t for t in tensors]).requires_grad
        single = [argument.astype(np.float32) if argument.dtype.kind == "f" else argument for argument in arguments]
        assert function(*single).dtype in (np.float32, np.bool_)


# Bad input

ZEROS = np.zeros((1, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: advantages.group_normalised(np.zeros(3)), r"rewards is \(3,\): must have 2 axes"),
        (lambda: advantages.group_normalised(np.zeros((0, 3))), "none of them empty"),
        (lambda: advantages.group_normalised(np.array([[1.0, np.nan]])), "rewards is nan: must be finite"),
        (lambda: advantages.group_normalised(np.zeros((1, 2)), eps=0), "eps is 0: must be positive"),
        (lambda: advantages.pass_at_k(np.array([[0.0, 0.5]]), 1), "correct is 0.5: must hold only 0 and 1"),
        (lambda: advantages.pass_at_k(group(1), 9), "k is 9: must be at most the 8 rollouts"),
        (lambda: advantages.pass_at_k(group(1), 0), "k is 0: must be a whole number of at least 1"),
        (lambda: advantages.pkpo(group(1), 9), "k is 9"),
        (lambda: advantages.perplexity_weights(np.zeros((1, 2)), low=1.1), r"\(low, high\) is \(1.1, 1.2\)"),
        (lambda: advantages.perplexity_weights(np.zeros((1, 2)), alpha=math.nan), "alpha is nan: must be finite"),
        (lambda: advantages.perplexity_shaped(np.zeros((1, 2)), np.zeros((2, 1))), r"mean_logprob is \(2, 1\)"),
        (lambda: advantages.perplexity_shaped(np.zeros((1, 2)), np.zeros((1, 2)), alpha=-1), "alpha is -1"),
        (lambda: advantages.perplexity_shaped(ZEROS, ZEROS, favour="mid"), "favour is 'mid'"),  # type: ignore[arg-type]
        (lambda: advantages.position_shaped(np.zeros(2), np.zeros(3), 4), r"lengths is \(3,\)"),
        (lambda: advantages.position_shaped(np.zeros(2), np.array([1, 5]), 4), "lengths is 5.0: .* 0 to max_tokens, 4"),
        (lambda: advantages.position_shaped(np.zeros(1), np.array([1]), 4, alpha=-1), "alpha is -1"),
        (lambda: advantages.covariance_mask(ZEROS, ZEROS, np.ones((2, 3)), 0.1), r"logprob is \(1, 2\)"),
        (lambda: advantages.covariance_mask(ZEROS, ZEROS, ZEROS, 0), "fraction is 0"),
        (
            lambda: advantages.covariance_mask(np.full((1, 2), -np.inf), np.ones((1, 2)), np.ones((1, 2)), 1),
            "logprob is -inf",
        ),
    ],
)
def test_bad_input_names_argument_value_and_what_is_allowed(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        call()


def test_a_band_upside_down_is_refused() -> None:
    with pytest.raises(BadArgument, match=r"\(low, high\) is \(5, 1\): low must be below high"):
        advantages.clip_covariance_mask(*batch(), fraction=0.1, low=5, high=1, rng=np.random.default_rng(0))
