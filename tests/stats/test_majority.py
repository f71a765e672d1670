"""maj@k against listing every subset, and worked examples."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from rlvr_bench.stats import maj_at_k


def by_listing(counts: list[int], correct: int, k: int) -> float:
    """Mean over all k-subsets of the correct answer's share of the first place."""
    answers = [answer for answer, count in enumerate(counts) for _ in range(count)]
    shares = []
    for subset in itertools.combinations(answers, k):
        tally = Counter(subset)
        top = max(tally.values())
        winners = [answer for answer, count in tally.items() if count == top]
        shares.append((correct in winners) / len(winners))
    return float(np.mean(shares))


@pytest.mark.parametrize(
    "counts",
    [[3], [0, 4], [1, 1, 1, 1], [2, 2, 2], [4, 3, 2], [1, 5, 3], [3, 1, 1, 1, 1, 1], [6, 6], [2, 4, 2, 1], [5, 4, 3]],
)
def test_every_subset_counted(counts: list[int]) -> None:
    n = sum(counts)
    got = maj_at_k([counts], [0], np.arange(1, n + 2))[0]
    expected = [by_listing(counts, 0, k) for k in range(1, n + 1)]
    assert got[:n] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(got[n])


def test_worked_examples() -> None:
    assert maj_at_k([4, 3, 2], [0], 3).item() == pytest.approx(1 / 2)
    assert maj_at_k([2, 4, 2, 1], [0], 4).item() == pytest.approx(43 / 252)
    assert maj_at_k([5, 5], [0], 6).item() == pytest.approx(1 / 2)


def test_whole_sample_and_single_draw() -> None:
    counts = [[30, 20, 14], [20, 30, 14], [25, 25, 14]]
    assert maj_at_k(counts, [0, 0, 0], 64)[:, 0] == pytest.approx([1, 0, 0.5])
    assert maj_at_k(counts, [0, 0, 0], 1)[:, 0] == pytest.approx([30 / 64, 20 / 64, 25 / 64])


def test_nobody_gave_the_correct_answer() -> None:
    assert maj_at_k([[3, 4], [3, 4]], [-1, 1], [1, 7]).tolist() == [[0.0, 0.0], [pytest.approx(4 / 7), 1.0]]


def test_shares_of_all_answers_sum_to_one() -> None:
    """At any k somebody wins: also where counts are large enough to overflow plain binomial coefficients."""
    counts = np.array([400, 380, 120, 60, 30, 5, 1, 1, 1, 1, 1])
    k = 300
    shares = [maj_at_k(counts[None], [answer], k).item() for answer in range(counts.size)]
    assert sum(shares) == pytest.approx(1, abs=1e-9)
    assert shares[0] > shares[1] > shares[2]


def test_order_of_columns_does_not_matter() -> None:
    assert maj_at_k([[0, 5, 2, 7]], [1], 6) == pytest.approx(maj_at_k([[7, 2, 5, 0]], [2], 6))
