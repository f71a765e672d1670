"""Answer diversity against listing all subsets, a worked example and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from rlvr_bench.stats import answer_entropy, rarefied_distinct, rarefied_entropy


@pytest.mark.parametrize("counts", [[4, 3, 2], [1, 1, 1, 1], [6], [5, 1, 0, 2]])
def test_every_subset_counted(counts: list[int]) -> None:
    answers = [answer for answer, count in enumerate(counts) for _ in range(count)]
    n = len(answers)
    for k in range(1, n + 1):
        expected = np.mean([len(set(subset)) for subset in itertools.combinations(answers, k)])
        assert rarefied_distinct(counts, k).item() == pytest.approx(expected, abs=1e-12)
    assert np.isnan(rarefied_distinct(counts, n + 1)).all()


def test_worked_example() -> None:
    assert rarefied_distinct([4, 3, 2], 3).item() == pytest.approx(187 / 84)


def test_unequal_runs_in_one_table() -> None:
    got = rarefied_distinct([[4, 3, 2], [2, 0, 0]], [2, 9])
    assert got[1, 0] == 1
    assert np.isnan(got[1, 1])
    assert got[0, 1] == 3


def test_plug_in_entropy() -> None:
    got = answer_entropy([[1, 1, 1, 1], [8, 0, 0, 0], [2, 1, 1, 0], [0, 0, 0, 0]], correction="none")
    assert got == pytest.approx([math.log(4), 0, 1.5 * math.log(2), np.nan], nan_ok=True)


def test_miller_madow_takes_away_most_of_the_bias() -> None:
    p = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    truth = -np.sum(p * np.log(p))
    draws = np.random.default_rng(11).multinomial(32, p, 20_000)
    plain, corrected = answer_entropy(draws, "none").mean(), answer_entropy(draws).mean()
    assert truth - plain == pytest.approx(5 / 64, rel=0.15)  # (D - 1) / (2n)
    assert abs(truth - corrected) < 0.25 * (truth - plain)
    assert answer_entropy([[5, 3]]).item() == pytest.approx(answer_entropy([[5, 3]], "none").item() + 1 / 16)


@pytest.mark.parametrize(("counts", "k"), [([4, 3, 2], 3), ([1, 1, 1, 1], 2), ([5, 0, 1], 4), ([2, 2], 4), ([3], 1)])
def test_rarefied_entropy_is_the_mean_over_all_subsets(counts: list[int], k: int) -> None:
    answers = [a for a, often in enumerate(counts) for _ in range(often)]

    def entropy(subset: tuple[int, ...]) -> float:
        share = np.bincount(subset) / k
        return float(-np.sum(share[share > 0] * np.log(share[share > 0])))

    want = np.mean([entropy(subset) for subset in itertools.combinations(answers, k)])
    assert rarefied_entropy([counts], [k])[0, 0] == pytest.approx(want, abs=1e-12)


def test_rarefied_entropy_of_all_is_the_plug_in_and_beyond_it_is_unknown() -> None:
    assert rarefied_entropy([[5, 3]], [8, 9])[0, 0] == pytest.approx(answer_entropy([[5, 3]], "none").item())
    assert np.isnan(rarefied_entropy([[5, 3]], [9])[0, 0])


def test_entropy_of_a_common_number_of_wrong_answers_does_not_depend_on_the_solve_rate() -> None:
    """Thirty equally likely wrong answers (3.40 nats), n = 16, 4,000 problems: equal at 2 % for every solve rate."""
    rng = np.random.default_rng(2)
    entropies = []
    for rate in (0.15, 0.6, 0.9):
        wrong = rng.binomial(16, 1 - rate, 4000)
        table = np.stack([rng.multinomial(size, np.full(30, 1 / 30)) for size in wrong])
        entropies.append(np.nanmean(rarefied_entropy(table, [2])))
    assert entropies == pytest.approx([np.log(2) * 29 / 30] * 3, rel=0.02)
