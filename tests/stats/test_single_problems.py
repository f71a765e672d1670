"""Exact tests of single problems and the false discovery rate, against SciPy and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rlvr_bench.stats import benjamini_hochberg, fisher_exact


def test_p_values_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    n1, n2 = rng.integers(1, 80, 60), rng.integers(1, 80, 60)
    c1, c2 = rng.binomial(n1, rng.beta(0.4, 0.6, 60)), rng.binomial(n2, rng.beta(0.4, 0.6, 60))
    p, least = fisher_exact((c1, n1), (c2, n2))
    for i in range(60):
        table = [[c1[i], n1[i] - c1[i]], [c2[i], n2[i] - c2[i]]]
        assert p[i] == pytest.approx(scipy_stats.fisher_exact(table).pvalue, abs=1e-9)
        pooled = c1[i] + c2[i]
        tables = [
            [[a, n1[i] - a], [pooled - a, n2[i] - pooled + a]]
            for a in range(max(0, pooled - n2[i]), min(pooled, n1[i]) + 1)
        ]
        assert least[i] == pytest.approx(
            min(scipy_stats.fisher_exact(possible).pvalue for possible in tables), abs=1e-9
        )


def test_the_order_of_the_runs_does_not_matter() -> None:
    first, second = ([0, 5, 64], 64), ([9, 5, 2], 64)
    assert fisher_exact(first, second)[0] == pytest.approx(fisher_exact(second, first)[0])


def test_correction_is_that_of_scipy() -> None:
    p = np.random.default_rng(1).random(50) ** 3
    assert benjamini_hochberg(p) == pytest.approx(scipy_stats.false_discovery_control(p))
    assert benjamini_hochberg([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="second"):
        fisher_exact(([1, 2], 8), ([1], 8))
    with pytest.raises(ValueError, match="p_values"):
        benjamini_hochberg([1.5])
