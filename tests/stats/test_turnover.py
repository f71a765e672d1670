"""Turnover against enumeration of all subsets of rollouts, and the best checkpoint against simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.turnover import fresh_best, turnover


def solved_by(n: int, c: int, k: int) -> list[bool]:
    """Of every k-subset of n rollouts, of which c are correct, whether it has a correct one."""
    return [any(rollouts) for rollouts in itertools.combinations([True] * c + [False] * (n - c), k)]


@pytest.mark.parametrize("k", [1, 2])
def test_first_forgotten_and_never_are_those_of_all_triples_of_subsets(k: int) -> None:
    n, c = np.array([[5], [4], [6]]), np.array([[1], [0], [2]])
    result = turnover(c, n, k)
    triples = list(itertools.product(*(solved_by(int(n[t, 0]), int(c[t, 0]), k) for t in range(3))))
    for t in range(3):
        now = [triple[t] for triple in triples]
        before = [any(triple[:t]) for triple in triples]
        expected = {
            "solved": np.mean(now),
            "first": np.mean([a and not b for a, b in zip(now, before, strict=True)]),
            "forgotten": np.mean([not a and b for a, b in zip(now, before, strict=True)]),
            "lost": np.mean([t > 0 and triple[t - 1] and not triple[t] for triple in triples]),
            "regained": np.mean(
                [not any(triple[t - 1 : t]) and any(triple[: t - 1]) and triple[t] for triple in triples]
            )
            if t
            else 0,
            "never": np.mean([not a and not b for a, b in zip(now, before, strict=True)]),
        }
        for name, value in expected.items():
            assert getattr(result, name)[t, 0] == pytest.approx(value), name


def test_chance_is_that_of_disjoint_sets_of_the_same_rollouts() -> None:
    n, c, k = 6, 2, 2
    result = turnover([[1], [3], [c]], [[6], [6], [n]], k)
    rollouts = [True] * c + [False] * (n - c)
    first = forgotten = total = 0
    for order in set(itertools.permutations(range(n))):
        sets = [any(rollouts[i] for i in order[k * t : k * t + k]) for t in range(3)]
        total += 1
        first += sets[2] and not any(sets[:2])
        forgotten += not sets[2] and any(sets[:2])
    assert result.first_by_chance[2, 0] == pytest.approx(first / total)
    assert result.forgotten_by_chance[2, 0] == pytest.approx(forgotten / total)
    assert not result.modelled.any()


def test_checkpoints_of_one_solve_rate_show_what_chance_says_on_average() -> None:
    rng = np.random.default_rng(1)
    n, k, rates = 40, 8, rng.beta(0.3, 2.0, 4_000)
    counts = rng.binomial(n, rates, (5, rates.size))
    result = turnover(counts, np.full(counts.shape, n), k)
    for seen, chance in (
        (result.first, result.first_by_chance),
        (result.forgotten, result.forgotten_by_chance),
    ):
        gap = seen - chance
        error = gap.std(axis=1) / np.sqrt(rates.size)
        assert (np.abs(gap.mean(axis=1))[1:] < 4 * error[1:]).all()
        assert (chance[1:].mean(axis=1) > 0.01).all()


def test_beyond_n_chance_is_modelled_and_near_the_truth() -> None:
    rng = np.random.default_rng(2)
    n, k, rates = 32, 16, rng.beta(0.3, 2.0, 4_000)
    counts = rng.binomial(n, rates, (5, rates.size))
    result = turnover(counts, np.full(counts.shape, n), k)
    assert result.modelled.tolist() == [False, False, True, True, True]
    truth = (1 - rates) ** k - (1 - rates) ** (5 * k)
    assert result.forgotten_by_chance[4].mean() == pytest.approx(truth.mean(), abs=0.01)
    nothing = turnover(np.zeros((3, 4)), np.full((3, 4), 4), 4)
    assert np.isnan(nothing.forgotten_by_chance[1:]).all()


def test_the_best_of_ten_equals_is_lucky_and_its_fresh_value_is_not() -> None:
    rng = np.random.default_rng(3)
    lucky, fresh = [], []
    for _ in range(40):
        counts = rng.binomial(16, 0.3, (10, 30))
        result = fresh_best(counts, np.full(counts.shape, 16), [1], rng=rng, splits=20)
        lucky.append(counts[result.best[0]].mean() / 16)
        fresh.append(result.fresh.mean())
        assert result.chosen.sum() == pytest.approx(1)
    error = np.std(fresh) / np.sqrt(len(fresh))
    assert np.mean(lucky) > 0.3 + 5 * error
    assert abs(np.mean(fresh) - 0.3) < 4 * error


def test_a_checkpoint_that_is_far_better_keeps_its_value() -> None:
    counts = np.full((4, 25), 4)
    counts[2] = 12
    result = fresh_best(counts, np.full(counts.shape, 16), [1], rng=np.random.default_rng(0), splits=50)
    assert result.best.tolist() == [2]
    assert result.chosen[:, 0].tolist() == [0, 0, 1, 0]
    assert result.fresh.mean() == pytest.approx(0.75, abs=0.02)


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadArgument, match="must be at most the rollouts"):
        turnover([[1], [2]], [[4], [3]], 4)
    with pytest.raises(BadArgument, match=r"must be \(S, P\)"):
        turnover([1, 2], [4, 4], 1)
    with pytest.raises(BadArgument, match="half of every problem"):
        fresh_best([[1], [2]], [[4], [5]], [3], rng=np.random.default_rng(0))
