"""pass@k where the rule stopped on other verdicts: every path of every small rule is enumerated, rollout by rollout."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats import pass_at_k_relabelled, pass_at_k_stopped

Kind = tuple[bool, bool]  # right when the rule looked, right now
KINDS: tuple[Kind, ...] = ((True, True), (True, False), (False, True), (False, False))
FLIPS = {  # chances of the four kinds
    "verdicts as before": (0.3, 0.0, 0.0, 0.7),
    "wrong turned right": (0.2, 0.0, 0.3, 0.5),
    "right turned wrong": (0.2, 0.3, 0.0, 0.5),
    "all right turned wrong": (0.0, 0.5, 0.0, 0.5),
    "all exchanged": (0.0, 0.4, 0.6, 0.0),
    "every way": (0.15, 0.25, 0.2, 0.4),
    "never right then": (0.0, 0.0, 0.4, 0.6),
    "never right now": (0.0, 0.3, 0.0, 0.7),
}
RULES = [(1, 3, 1), (2, 4, 1), (1, 4, 2), (2, 6, 2), (3, 6, 2), (3, 6, 3), (1, 5, 3)]


def paths(stop_after: int, largest: int, batch: int) -> list[tuple[Kind, ...]]:
    """Every sequence of kinds that the rule ends with, looking at the first verdict of each rollout alone."""
    ended: list[tuple[Kind, ...]] = []
    running: list[tuple[Kind, ...]] = [()]
    while running:
        following: list[tuple[Kind, ...]] = []
        for path in running:
            size = min(batch, largest - len(path))
            for more in itertools.product(KINDS, repeat=size):
                longer = (*path, *more)
                over = sum(then for then, _ in longer) >= stop_after or len(longer) == largest
                (ended if over else following).append(longer)
        running = following
    return ended


@pytest.mark.parametrize(("stop_after", "largest", "batch"), RULES)
def test_the_bounds_enclose_the_truth_and_meet_where_the_rule_always_draws(
    stop_after: int, largest: int, batch: int
) -> None:
    every = paths(stop_after, largest, batch)
    n, then, both, now = (
        np.array([count(path) for path in every])
        for count in (
            len,
            lambda path: sum(then for then, _ in path),
            lambda path: sum(then and now for then, now in path),
            lambda path: sum(now for _, now in path),
        )
    )
    ks = np.arange(1, largest + 2)
    bounds = pass_at_k_relabelled(now, n, ks, stop_after, largest, batch, stopped_on=then, both=both)
    always = min(largest, batch * math.ceil(stop_after / batch))
    for chances in FLIPS.values():
        chance = dict(zip(KINDS, chances, strict=True))
        weight = np.array([math.prod(chance[kind] for kind in path) for path in every])
        assert weight.sum() == pytest.approx(1)
        truth = 1 - (1 - chances[0] - chances[2]) ** ks
        low, high = weight @ bounds.low, weight @ bounds.high
        assert low[:always] == pytest.approx(truth[:always], abs=1e-12)
        assert high[:always] == pytest.approx(truth[:always], abs=1e-12)
        assert (low <= truth + 1e-12).all()
        assert (truth <= high + 1e-12).all()
        # The gap is the chance that a problem is left, unsolved by the present verdicts, before k.
        left = [weight[(n < k) & (now == 0)].sum() for k in ks]
        assert high - low == pytest.approx(left, abs=1e-12)


@pytest.mark.parametrize(("stop_after", "largest", "batch"), RULES)
def test_verdicts_that_only_turn_right_leave_no_gap(stop_after: int, largest: int, batch: int) -> None:
    """With the verdicts unchanged it is the estimator of the rule itself."""
    every = [path for path in paths(stop_after, largest, batch) if (True, False) not in path]
    n, then, now = (
        np.array([len(path) for path in every]),
        np.array([sum(then for then, _ in path) for path in every]),
        np.array([sum(now for _, now in path) for path in every]),
    )
    ks = np.arange(1, largest + 1)
    bounds = pass_at_k_relabelled(now, n, ks, stop_after, largest, batch, stopped_on=then, both=then)
    assert bounds.low == pytest.approx(bounds.high, abs=1e-12)
    same = then == now
    rule = pass_at_k_stopped(now[same], n[same], ks, stop_after, largest, batch)
    assert bounds.low[same] == pytest.approx(rule, abs=1e-12)


def test_cutting_a_problem_or_falling_back_on_its_first_batch_by_what_was_found_would_be_biased() -> None:
    """Why not each problem at its first stop under the present verdicts, else its first batch: that choice looks at them."""
    stop_after, largest, batch = 2, 4, 1
    total = 0.0
    for path in paths(stop_after, largest, batch):
        weight = math.prod(dict(zip(KINDS, FLIPS["right turned wrong"], strict=True))[kind] for kind in path)
        right = list(itertools.accumulate(now for _, now in path))
        end = next((i + 1 for i, c in enumerate(right) if c >= stop_after), None)
        end = largest if end is None and len(path) == largest else end
        cut = right[0] if end is None else pass_at_k_stopped(right[end - 1], end, 1, stop_after, largest).item()
        total += weight * cut
    assert abs(total - 0.2) > 0.005


def test_long_runs_stay_in_bounds() -> None:
    bounds = pass_at_k_relabelled(
        [0, 3, 40], [32, 64, 4096], [1, 16, 64, 4096], 20, 4096, 16, stopped_on=[24, 21, 20], both=[0, 1, 5]
    )
    assert (bounds.low >= 0).all()
    assert (bounds.low <= bounds.high).all()
    assert bounds.high[0] == pytest.approx([0, 0, 1, 1], abs=1e-12)
    assert bounds.low[1:, -1] == pytest.approx([1, 1], abs=1e-12)


def test_large_rules_take_seconds() -> None:
    rng = np.random.default_rng(0)
    then = np.array([200, 201, 203, 120, 0])
    n = np.array([512, 1024, 208, 2048, 2048])
    both, more = rng.binomial(then, 0.8), np.array([5, 0, 2, 40, 0])
    began = time.monotonic()
    bounds = pass_at_k_relabelled(both + more, n, [1, 64, 200, 2048], 200, 2048, 8, stopped_on=then, both=both)
    assert time.monotonic() - began < 60
    same = pass_at_k_relabelled(then, n, [1, 64, 200, 2048], 200, 2048, 8, stopped_on=then, both=then)
    assert same.low == pytest.approx(pass_at_k_stopped(then, n, [1, 64, 200, 2048], 200, 2048, 8), abs=1e-9)
    assert (bounds.low <= bounds.high).all()


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(BadArgument, match="both"):
        pass_at_k_relabelled([1], [4], 1, 2, 8, 4, stopped_on=[2], both=[2])
    with pytest.raises(BadArgument, match="both"):
        pass_at_k_relabelled([4], [4], 1, 2, 8, 4, stopped_on=[2], both=[1])
    with pytest.raises(BadArgument, match="n_samples"):
        pass_at_k_relabelled([1], [4], 1, 2, 8, 4, stopped_on=[1], both=[1])
