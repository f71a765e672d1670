"""Bad input raises a ValueError that names the argument, its value and what is allowed; and the package's surface."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import pytest

from rlvr_bench import stats
from rlvr_bench.errors import BadArgument
from rlvr_bench.stats import solve_rate

COUNT_METRICS: list[Callable[..., Any]] = [
    stats.pass_at_k,
    stats.failure_at_k,
    stats.pass_at_k_variance,
    stats.pass_hat_k,
    stats.auc_at_k,
    stats.mg_pass_at_k,
    stats.pass_at_k_posterior,
    stats.rollout_interval,
    stats.expected_unsolved,
    stats.null_support_dynamics,
    stats.extrapolate_pass_at_k,
    stats.fit_power_law,
    lambda c, n, ks: stats.g_pass_at_k(c, n, ks, 0.5),
    lambda c, n, ks: stats.bootstrap(c, n, ks, rng=np.random.default_rng(0)),
    lambda c, n, ks: stats.paired_bootstrap((c, n), (c, n), ks, rng=np.random.default_rng(0)),
    lambda c, n, ks: stats.pass_at_k_stopped(c, n, ks, 9, 8),
]


@pytest.mark.parametrize("metric", COUNT_METRICS)
@pytest.mark.parametrize(
    ("c", "n", "ks", "message"),
    [
        ([1, 9], [8, 8], [1], r"n_correct is 9: must be at most n_samples, which is 8 for problem 1"),
        ([-1, 2], [8, 8], [1], r"n_correct is -1: must be a whole number of at least 0"),
        ([1.5, 2], [8, 8], [1], r"n_correct is 1.5: must be a whole number"),
        ([np.nan, 2], [8, 8], [1], r"n_correct is nan: must be a whole number"),
        ([1, 2], [-8, 8], [1], r"n_samples is -8: must be a whole number of at least 0"),
        ([1, 2], [8, 8, 8], [1], r"n_samples is \(3,\): must have the shape of n_correct, \(2,\)"),
        ([[1, 2]], [8, 8], [1], r"n_correct is \(1, 2\): must have one axis"),
        ([], [], [1], r"n_correct is \[\]: must hold at least one value"),
        (["a"], [8], [1], r"n_correct is \['a'\]: must be numbers"),
        ([1, 2], [8, 8], [0], r"ks is 0: must be a whole number of at least 1"),
        ([1, 2], [8, 8], [2, -1], r"ks is -1: must be a whole number of at least 1"),
        ([1, 2], [8, 8], [1.5], r"ks is 1.5: must be a whole number of at least 1"),
        ([1, 2], [8, 8], [], r"ks is \[\]: must hold at least one value"),
    ],
)
def test_counts_and_budgets(metric: Callable[..., Any], c: Any, n: Any, ks: Any, message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        metric(c, n, ks)


@pytest.mark.parametrize("tau", [0.0, -0.5, 1.0001, float("nan")])
def test_thresholds(tau: float) -> None:
    calls: list[Callable[[], object]] = [
        lambda: stats.g_pass_at_k([1], 8, 1, tau),
        lambda: stats.cover_at_tau([1], 8, [0.5, tau]),
        lambda: stats.cover_at_tau_posterior([1], 8, tau),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"taus? is .*: must be in \(0, 1\]"):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.maj_at_k([[1, 2]], [2], 1), r"correct is \[2\]: must be in \[-1, 1\]"),
        (lambda: stats.maj_at_k([[1, 2]], [0, 1], 1), r"correct is \(2,\)"),
        (lambda: stats.maj_at_k([[1, -2]], [0], 1), r"answer_counts is -2"),
        (lambda: stats.maj_at_k([[1, 2]], [0], 0), "ks is 0"),
        (lambda: stats.rarefied_distinct([[[1]]], 1), "answer_counts"),
        (lambda: stats.max_at_k([1.0, 2.0], 1), r"rewards is \(2,\): must have shape \(P, N\)"),
        (lambda: stats.max_at_k([[1.0, np.inf]], 1), "rewards is inf"),
        (lambda: stats.pass_at_k_stopped([1], 8, 1, 0, 8), "stop_after is 0"),
        (lambda: stats.pass_at_k_stopped([1], 8, 1, 2, 8, 0), "batch is 0"),
        (lambda: stats.pass_at_k_posterior([1], 8, 1, prior=(0.0, 1.0)), r"prior is \(0.0, 1.0\)"),
        (lambda: stats.pass_at_k_posterior([1], 8, 1, level=1.0), "level is 1.0"),
        (lambda: stats.unsolved_upper_bound(8, 95), "confidence is 95"),
        (lambda: stats.unsolved_upper_bound(-1), "n_samples is -1"),
        (lambda: stats.support_dynamics([True, False], [True]), r"solved_after is \(1,\)"),
        (lambda: stats.support_dynamics([2, 0], [1, 0]), "solved_before is 2"),
        (lambda: stats.mcnemar([True], [True, False]), "solved_second"),
        (lambda: stats.holm([0.5, 1.5]), "p_values"),
        (lambda: stats.token_entropy([1.0, 2.0]), "logits"),
        (lambda: stats.token_entropy([[np.nan, 0.0]]), "logits"),
        (lambda: stats.token_entropy([[0.0, 1.0]], temperature=0.0), "temperature is 0.0"),
        (lambda: stats.nucleus_size([[0.0, 1.0]], top_p=0.0), "top_p is 0.0"),
        (lambda: stats.perplexity([-1.0], [1, 2]), "logprob_sum"),
        (lambda: stats.positional_profile([1.0], [1], bins=0), "bins is 0"),
        (lambda: stats.high_entropy_threshold([1.0], share=0.0), "share is 0.0"),
        (lambda: stats.high_entropy_threshold([np.inf]), "entropy is inf"),
    ],
)
def test_other_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_unknown_correction() -> None:
    unchecked: Callable[..., Any] = inspect.unwrap(stats.answer_entropy)  # past the type check
    with pytest.raises(BadArgument, match="correction is 'jackknife'"):
        unchecked([[1]], "jackknife")


def test_shapes_are_checked_in_these_tests() -> None:
    """A wrong shape inside the package must not pass: proof that conftest's checking is on."""
    with pytest.raises(jaxtyping.TypeCheckError):
        solve_rate.distinct_counts(np.zeros((2, 2), np.int64), np.zeros(3, np.int64))


def test_public_names() -> None:
    assert len(set(stats.__all__)) == len(stats.__all__)
    for name in stats.__all__:
        value = getattr(stats, name)
        assert name.isupper() or (value.__doc__ or "").strip(), f"{name} has no docstring"


def test_core_install_is_enough() -> None:
    """Importing needs neither the annotations' library nor SciPy's slow parts."""
    code = "import sys, rlvr_bench.stats; print(*{'jaxtyping', 'beartype', 'scipy.stats', 'scipy.optimize'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
