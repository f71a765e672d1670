"""Which rollouts are chosen for fine-tuning: quotas, distinctness, ranking, the share of wrong ones, and chance."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_bench.errors import BadArgument, UnknownName
from rlvr_bench.training.selection import STRATEGIES, Pool, Strategy, choose


def pool(seed: int, rollouts: int = 400, problems: int = 20) -> Pool:
    """Random outcomes in random order; a third of the rollouts is neither correct nor wrong, some are unmeasured."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, rollouts)
    kind[0] = 0
    entropy = np.where(rng.random(rollouts) < 0.1, np.nan, rng.random(rollouts))
    entropy[0] = 0.5
    problem, text = rng.integers(0, problems, rollouts), rng.integers(0, 30, rollouts)
    return Pool(problem, text, kind == 0, kind == 1, entropy, 1 + rng.exponential(size=rollouts))


@given(st.integers(0, 10**6), st.sampled_from(STRATEGIES), st.integers(1, 6), st.sampled_from([None, 0.0, 0.2, 0.7]))
@settings(max_examples=80, deadline=None)
def test_what_holds_for_every_choice(seed: int, strategy: Strategy, quota: int, share: float | None) -> None:
    given_ = pool(seed)
    result = choose(given_, strategy, quota, share, seed)
    again = choose(given_, strategy, quota, share, seed)
    assert (result.rows == again.rows).all()
    problem, text, correct, wrong = (np.asarray(a) for a in (given_.problem, given_.text, given_.correct, given_.wrong))
    right, others = result.rows[~result.wrong], result.rows[result.wrong]
    assert (np.diff(result.rows) > 0).all()
    assert correct[right].all()
    assert wrong[others].all()
    for part in (right, others):
        pairs = list(zip(problem[part], text[part], strict=True))
        assert len(set(pairs)) == len(pairs)
    distinct = {(p, t) for p, t in zip(problem[correct], text[correct], strict=True)}
    assert result.duplicates == correct.sum() - len(distinct)
    quotas = {p: min(quota, n) for p, n in Counter(p for p, _ in distinct).items()}
    assert Counter(problem[right].tolist()) == quotas
    wanted = 0.05 if strategy == "noise" and share is None else share or 0.0
    available = len({(p, t) for p, t in zip(problem[wrong], text[wrong], strict=True)})
    target = min(wanted / (1 - wanted) * len(right), available)
    assert abs(len(others) - target) <= 0.5
    if len(others):  # no problem gives a second one before every problem has given its first
        counts = Counter(problem[others].tolist())
        most = max(counts.values())
        supply = Counter(p for p, _ in {(p, t) for p, t in zip(problem[wrong], text[wrong], strict=True)})
        assert all(counts[p] >= min(most - 1, n) for p, n in supply.items())


@pytest.mark.parametrize(("strategy", "name"), [("entropy", "entropy"), ("rbf", "branching")])
def test_ranking_takes_the_highest_of_each_problem(strategy: Strategy, name: str) -> None:
    given_ = dataclasses.replace(pool(3), text=np.arange(400))
    chosen = choose(given_, strategy, 3).rows
    value = np.asarray(getattr(given_, name))
    for p in range(20):
        rows = np.flatnonzero(np.asarray(given_.correct) & (given_.problem == p))
        best = sorted(rows, key=lambda row: -np.nan_to_num(value[row], nan=-1.0))[:3]
        assert set(best) == set(chosen[np.asarray(given_.problem)[chosen] == p])


def test_noise_can_be_mixed_into_a_ranked_set() -> None:
    given_ = pool(4)
    plain, mixed = choose(given_, "rbf", 3), choose(given_, "rbf", 3, 0.05)
    assert (mixed.rows[~mixed.wrong] == plain.rows).all()
    assert mixed.wrong.mean() == pytest.approx(0.05, abs=0.01)


def test_equal_rollouts_have_equal_chances() -> None:
    """4,000 seeds, 2 of 8: each is chosen with probability 1/4, within 5 standard deviations; wrong ones likewise."""
    given_ = Pool(np.zeros(16), np.arange(16), np.arange(16) < 8, np.arange(16) >= 8, np.ones(16))
    for strategy in ("correct", "entropy"):
        hits = np.zeros(16)
        for seed in range(4000):
            hits[choose(given_, strategy, 2, 0.5, seed).rows] += 1
        assert (np.abs(hits - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)).all()


@pytest.mark.parametrize(
    ("changed", "arguments", "message"),
    [
        ({}, {"strategy": "noise", "wrong_share": 1.0}, "wrong_share is 1.0: must be at least 0 and below 1"),
        ({}, {"strategy": "correct", "per_problem": 0}, "per_problem is 0"),
        ({"entropy": None}, {"strategy": "entropy"}, "entropy is 'not measured': strategy 'entropy' ranks"),
        ({"branching": np.full(400, np.nan)}, {"strategy": "rbf"}, "branching is 'not measured': strategy 'rbf' ranks"),
        ({"correct": np.zeros(400)}, {"strategy": "correct"}, "needs at least one correct rollout"),
        ({"correct": np.zeros(3)}, {"strategy": "correct"}, r"correct is \(3,\): must have shape \(400,\)"),
        ({"text": np.zeros(3)}, {"strategy": "correct"}, r"text is \(3,\)"),
        ({"wrong": np.ones(400)}, {"strategy": "correct"}, "wrong is 0: marks a rollout that is correct too"),
    ],
)
def test_bad_input(changed: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        choose(dataclasses.replace(pool(0), **changed), **arguments)


def test_an_unknown_strategy_lists_the_known() -> None:
    with pytest.raises(UnknownName, match="unknown strategy 'corect'. Did you mean 'correct'"):
        choose(pool(0), "corect")  # type: ignore[arg-type]
