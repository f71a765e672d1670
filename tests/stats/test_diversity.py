"""Answer diversity against listing all subsets, a worked example and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from rlvr_bench.stats import answer_entropy, rarefied_distinct


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
