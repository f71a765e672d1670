"""Bounds of pass@k where rollouts are missing, and the test that n depends on what was found, by simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from rlvr_bench.stats import n_rises_as_rate_falls, pass_bounds, pass_bounds_any_rule

Rule = Callable[[tuple[int, ...]], bool]
RULES: dict[str, Rule] = {
    "after a success": lambda seen: sum(seen) >= 1,
    "after two": lambda seen: sum(seen) >= 2,
    "batches of two, after a success": lambda seen: len(seen) % 2 == 0 and sum(seen) >= 1,
    "after a failure": lambda seen: 0 in seen,
    "given up after three failures": lambda seen: len(seen) == 3 and sum(seen) == 0,
    "while ahead": lambda seen: 2 * sum(seen) < len(seen),
    "never": lambda seen: False,
}


def ended(rule: Rule, fewest: int, most: int) -> list[tuple[int, ...]]:
    """Every sequence of verdicts that the rule ends with, at least ``fewest`` long."""
    runs: list[tuple[int, ...]] = []
    running: list[tuple[int, ...]] = [(0,), (1,)]
    while running:
        over = [path for path in running if len(path) == most or (len(path) >= fewest and rule(path))]
        runs += over
        running = [(*path, more) for path in running if path not in over for more in (0, 1)]
    return runs


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
@pytest.mark.parametrize("fewest", [1, 2, 3])
def test_bounds_under_any_rule_hold_for_every_solve_rate(rule: Rule, fewest: int) -> None:
    paths = ended(rule, fewest, 6)
    ks = np.arange(1, 9)
    n, c = np.array([len(path) for path in paths]), np.array([sum(path) for path in paths])
    bounds = pass_bounds_any_rule([*c, 0], [*n, fewest], ks)  # one problem more: the smallest n of all is known
    for p in (0.0, 0.1, 0.5, 0.9, 1.0):
        weight = np.array([math.prod(p if right else 1 - p for right in path) for path in paths])
        truth = 1 - (1 - p) ** ks
        assert (weight @ bounds.low[:-1] <= truth + 1e-12).all()
        assert (truth <= weight @ bounds.high[:-1] + 1e-12).all()


def test_with_equal_n_both_bounds_are_the_estimate_up_to_n() -> None:
    bounds, free = pass_bounds([0, 3, 8], [8, 8, 8], [1, 4, 8]), pass_bounds_any_rule([0, 3, 8], [8, 8, 8], [1, 4, 8])
    want = [[1 - math.comb(8 - c, k) / math.comb(8, k) for k in (1, 4, 8)] for c in (0, 3, 8)]
    for bound in (bounds.low, bounds.high, free.low, free.high):
        assert bound == pytest.approx(np.array(want), abs=1e-12)


def test_a_problem_with_too_few_rollouts_is_between_its_own_n_and_certainty() -> None:
    bounds = pass_bounds([0, 1, 2, 0], [4, 4, 8, 0], [4, 5])
    assert bounds.low == pytest.approx(np.array([[0, 0], [1, 1], [1 - 15 / 70, 1 - 6 / 56], [0, 0]]))
    assert bounds.high == pytest.approx(np.array([[0, 1], [1, 1], [1 - 15 / 70, 1 - 6 / 56], [1, 1]]))


def rates(rng: np.random.Generator, problems: int) -> npt.NDArray[np.float64]:
    return rng.beta(0.3, 2.0, problems) * (rng.random(problems) < 0.8)


@pytest.mark.parametrize("sizes", [(16, 64), (64, 1024), (128, 640, 6016), tuple(range(16, 200, 16))])
def test_the_false_alarm_rate_is_as_stated_where_n_has_nothing_to_do_with_what_was_found(
    sizes: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(120):
        p = rates(rng, 60)
        n = rng.choice(sizes, 60, p=None)
        p_values.append(n_rises_as_rate_falls(rng.binomial(n, p), n))
    share = np.mean(np.array(p_values) <= 0.1)
    assert share <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 120)
    assert min(p_values) > 0.0005


@pytest.mark.parametrize(("stop_after", "batch", "most"), [(1, 1, 64), (1, 16, 256), (4, 16, 256), (1, 60, 6000)])
def test_a_rule_that_stops_on_success_is_noticed(stop_after: int, batch: int, most: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        p = rates(rng, 100)
        n, c = np.zeros(100, dtype=int), np.zeros(100, dtype=int)
        for i, size in itertools.product(range(100), range(batch, most + 1, batch)):
            if n[i] == size - batch and c[i] < stop_after:
                n[i], c[i] = size, c[i] + rng.binomial(batch, p[i])
        assert n_rises_as_rate_falls(c, n) <= 0.001


@pytest.mark.parametrize("under_way", [0, 4])
@pytest.mark.parametrize("hard_first", [True, False])
def test_a_half_finished_top_up_is_none_however_the_problems_are_sorted(under_way: int, hard_first: bool) -> None:
    rng = np.random.default_rng(3)
    p = np.sort(rates(rng, 60))[:: 1 if hard_first else -1]
    n = np.where(np.arange(60) < 30, 1024, 64)
    n[30 - under_way // 2 : 30 + under_way // 2] = rng.permutation(n[30 - under_way // 2 : 30 + under_way // 2])
    assert n_rises_as_rate_falls(rng.binomial(n, p), n) == 1.0


def test_few_problems_or_equal_n_say_nothing() -> None:
    assert n_rises_as_rate_falls([4, 0, 0], [4, 64, 64]) == 1.0
    assert n_rises_as_rate_falls([0] * 50, [64] * 50) == 1.0
