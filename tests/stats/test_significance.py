"""Tests and corrections against closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlvr_bench.stats import holm, mcnemar


@pytest.mark.parametrize(("only_first", "only_second"), [(10, 5), (0, 6), (3, 3), (1, 0), (40, 20)])
def test_mcnemar_counts_coin_flips(only_first: int, only_second: int) -> None:
    total, less = only_first + only_second, min(only_first, only_second)
    expected = min(1.0, 2 * sum(math.comb(total, j) for j in range(less + 1)) / 2**total)
    first = [1] * only_first + [0] * only_second + [1, 0, 1]
    second = [0] * only_first + [1] * only_second + [1, 0, 1]
    assert mcnemar(first, second) == pytest.approx(expected, abs=1e-14)
    assert mcnemar(second, first) == pytest.approx(expected, abs=1e-14)


def test_mcnemar_without_discordant_problems() -> None:
    assert mcnemar([True, False], [True, False]) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.04, np.nan, 0.01]) == pytest.approx([0.04, np.nan, 0.02], nan_ok=True)
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])


def test_holm_controls_the_familywise_error() -> None:
    p = np.random.default_rng(9).random((4000, 6))
    rate = np.mean([holm(row).min() < 0.05 for row in p])
    assert rate == pytest.approx(1 - (1 - 0.05 / 6) ** 6, abs=0.012)
