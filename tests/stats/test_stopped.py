"""pass@k under early stopping: exact enumeration of every path of every rule with at most 12 rollouts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from rlvr_bench.stats import pass_at_k, pass_at_k_stopped, pass_at_k_stopped_variance

State = tuple[int, int]


def outcomes(p: float, stop_after: int, max_samples: int, batch: int) -> dict[State, float]:
    """Probability of each final (correct, drawn) under the rule, walking batch by batch."""
    final: dict[State, float] = {}
    running: dict[State, float] = {(0, 0): 1.0}
    while running:
        following: dict[State, float] = {}
        for (c, n), weight in running.items():
            size = min(batch, max_samples - n)
            for x in range(size + 1):
                state = (c + x, n + size)
                target = final if state[0] >= stop_after or state[1] == max_samples else following
                chance = weight * math.comb(size, x) * p**x * (1 - p) ** (size - x)
                target[state] = target.get(state, 0.0) + chance
        running = following
    return final


def unpack(final: dict[State, float]) -> tuple[list[int], list[int], npt.NDArray[np.float64]]:
    return [c for c, _ in final], [n for _, n in final], np.array(list(final.values()))


RULES = [
    (stop_after, max_samples, batch)
    for max_samples in (1, 5, 8, 12)
    for batch in (1, 3, 4, 5, 12)
    for stop_after in (1, 2, 3, 6)
]


@pytest.mark.parametrize(("stop_after", "max_samples", "batch"), RULES)
def test_unbiased_and_so_is_its_variance(stop_after: int, max_samples: int, batch: int) -> None:
    ks = np.arange(1, max_samples + 1)
    for p in (0.0, 0.2, 0.6):
        c, n, weight = unpack(outcomes(p, stop_after, max_samples, batch))
        estimate = pass_at_k_stopped(c, n, ks, stop_after, max_samples, batch)
        assert weight @ estimate == pytest.approx(1 - (1 - p) ** ks, abs=1e-13)
        half = max_samples // 2
        variance = pass_at_k_stopped_variance(c, n, ks, stop_after, max_samples, batch)
        assert weight @ variance[:, :half] == pytest.approx(
            weight @ (estimate - weight @ estimate)[:, :half] ** 2, abs=1e-13
        )
        assert np.isnan(variance[:, half:]).all()


REFERENCE = [  # correct, drawn, stop after, maximum, k, pass@k
    (1, 1, 1, 12, 5, 1.0),
    (1, 4, 1, 12, 5, 1.0),
    (1, 7, 1, 12, 5, 0.0),
    (0, 12, 1, 12, 5, 0.0),
    (2, 9, 2, 12, 5, 5 / 8),
    (2, 3, 2, 12, 5, 1.0),
    (1, 12, 2, 12, 5, 5 / 12),
    (2, 40, 2, 64, 16, 16 / 39),
    (1, 64, 2, 64, 16, 1 / 4),
    (3, 50, 3, 64, 16, 27 / 49),
]


@pytest.mark.parametrize(("c", "n", "stop_after", "max_samples", "k", "expected"), REFERENCE)
def test_reference_values(c: int, n: int, stop_after: int, max_samples: int, k: int, expected: float) -> None:
    assert pass_at_k_stopped(c, n, k, stop_after, max_samples).item() == pytest.approx(expected, abs=1e-12)


def test_never_stopping_is_the_ordinary_estimator() -> None:
    c, ks = np.arange(33), [1, 4, 16, 32]
    assert pass_at_k_stopped(c, 32, ks, 40, 32, 8) == pytest.approx(pass_at_k(c, 32, ks), abs=1e-12)


@pytest.mark.parametrize(("stop_after", "biased"), [(1, 0.8396), (2, 0.7451)])
def test_ordinary_estimator_is_biased_here(stop_after: int, biased: float) -> None:
    """p = 0.2, k = 5, at most 12: the truth is 0.6723, the naive mean far above. Where n < k it says 1, as peers do."""
    c, n, weight = unpack(outcomes(0.2, stop_after, 12, 1))
    naive = np.nan_to_num(pass_at_k(c, n, 5)[:, 0], nan=1.0)
    assert weight @ naive == pytest.approx(biased, abs=5e-5)


def test_budget_above_the_maximum_is_undefined() -> None:
    assert np.isnan(pass_at_k_stopped(0, 12, 13, 2, 12)).all()


@pytest.mark.parametrize(("c", "n"), [(1, 7), (0, 4), (2, 13), (9, 12), (0, 0)])
def test_impossible_ends_are_refused(c: int, n: int) -> None:
    """Rule: batches of 4, stop at 2, at most 12. (9, 12) would have stopped earlier: 5 of the first 8 are correct."""
    with pytest.raises(ValueError, match="is no end of the rule"):
        pass_at_k_stopped(c, n, 1, 2, 12, 4)
