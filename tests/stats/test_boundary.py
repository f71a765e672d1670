"""Unsolved problems and support dynamics against published tables and enumeration."""

from __future__ import annotations

import numpy as np
import pytest

from rlvr_bench.stats import (
    SupportDynamics,
    bootstrap_mean,
    expected_support_dynamics,
    expected_unsolved,
    failure_at_k,
    null_support_dynamics,
    pass_at_k,
    pass_at_k_variance,
    support_dynamics,
    unsolved_upper_bound,
)
from tests.stats.reference import PYTHIA_COUNTS, PYTHIA_NULL, binomial_weights

# Wu et al. 2025 (arXiv 2507.14843): P, E, S, O and the printed SRR, NDR, SDS, NSCR. Where print and counts disagree the
# counts count: ProRL-v1 prints NDR .02, AceReason SRR .981, Skywork NSCR -.023.
PUBLISHED = [
    (1355, 5, 56, 131, 0.960, 0.0037, 0.0073, -0.036),
    (1045, 31, 107, 674, 0.907, 0.0288, 0.0558, -0.064),
    (2400, 36, 163, 805, 0.936, 0.0148, 0.0291, -0.049),
    (2388, 48, 175, 793, 0.93, 0.02, 0.04, -0.05),
    (1431, 5, 9, 102, 0.994, 0.003, 0.007, -0.003),
    (1406, 2, 34, 105, 0.976, 0.001, 0.003, -0.0222),
    (2685, 26, 86, 607, 0.969, 0.010, 0.019, -0.021),
    (1425, 5, 15, 102, 0.990, 0.0035, 0.0070, -0.0069),
    (2418, 8, 23, 501, 0.991, 0.0033, 0.0066, -0.0061),
    (2474, 16, 23, 437, 0.991, 0.0064, 0.0128, -0.0028),
    (761, 83, 104, 599, 0.880, 0.098, 0.177, -0.022),
    (781, 3, 4, 516, 0.995, 0.0038, 0.0076, -0.0013),
    (15, 4, 4, 7, 0.789, 0.211, 0.332, 0.000),
    (17, 3, 2, 8, 0.895, 0.150, 0.257, 0.045),
    (14, 5, 1, 10, 0.933, 0.263, 0.411, 0.200),
    (470, 6, 12, 12, 0.975, 0.013, 0.025, -0.012),
    (154, 28, 18, 72, 0.895, 0.154, 0.263, 0.050),
    (467, 25, 61, 122, 0.884, 0.051, 0.096, -0.065),
    (20, 2, 4, 4, 0.833, 0.091, 0.164, -0.077),
    (75, 3, 26, 329, 0.743, 0.038, 0.073, -0.221),
]


def flags(preserved: int, expanded: int, shrunk: int, out: int) -> tuple[list[bool], list[bool]]:
    before = [True] * preserved + [False] * expanded + [True] * shrunk + [False] * out
    after = [True] * preserved + [True] * expanded + [False] * shrunk + [False] * out
    return before, after


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_rates(row: tuple[int, int, int, int, float, float, float, float]) -> None:
    got = support_dynamics(*flags(*row[:4]))
    assert [int(x[0]) for x in (got.preserved, got.expanded, got.shrunk, got.out_of_support)] == list(row[:4])
    assert got.n_problems[0] == sum(row[:4])
    rates = [got.retention[0], got.discovery[0], got.dynamic_score[0], got.net_change[0]]
    digits = 4 if row[5] < 0.1 and round(row[5], 3) != row[5] else 3
    assert rates == pytest.approx(row[4:], abs=1.05 * 10.0**-3 if digits == 3 and row[4] != 0.93 else 5.1e-3)


def test_published_problem_sets() -> None:
    """Yue et al. 2025 (arXiv 2504.13837), table 4: AIME24 problems that Qwen2.5-7B and its RL version solve."""
    base = {0, 1, 4, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 18, 19, *range(22, 30)}
    tuned = {0, 1, 6, 7, 8, 9, 12, 14, 15, 16, 18, *range(22, 30)}
    got = support_dynamics([i in base for i in range(30)], [i in tuned for i in range(30)])
    assert [got.preserved[0], got.expanded[0], got.shrunk[0], got.out_of_support[0]] == [19, 0, 4, 7]


def test_undefined_rates_are_nan() -> None:
    nothing = support_dynamics([False, False], [False, False])
    assert np.isnan([nothing.retention[0], nothing.discovery[0], nothing.dynamic_score[0], nothing.net_change[0]]).all()
    lost = support_dynamics([True, False], [False, True])  # SRR = NDR - 1 = 0: nothing kept
    assert lost.retention[0] == 0
    assert support_dynamics([True, True], [True, False]).dynamic_score[0] == 0  # nothing discovered


@pytest.mark.parametrize("model", PYTHIA_NULL)
def test_null_on_pythia(model: str) -> None:
    """Expected dynamics of two runs of one model, and both standard errors, at k = 100, 1000, 4096."""
    c = PYTHIA_COUNTS[model]
    ks = list(PYTHIA_NULL[model])
    got = null_support_dynamics(c, 10_000, ks)
    one, both, none, fixed, total = np.array(list(PYTHIA_NULL[model].values())).T
    assert got.expanded == pytest.approx(one, rel=1e-9)
    assert got.shrunk == pytest.approx(one, rel=1e-9)
    assert got.preserved == pytest.approx(both, rel=1e-9)
    assert got.out_of_support == pytest.approx(none, rel=1e-9)
    assert np.sqrt(pass_at_k_variance(c, 10_000, ks).sum(axis=0)) / 128 == pytest.approx(fixed, rel=1e-8)
    assert pass_at_k(c, 10_000, ks).std(axis=0, ddof=1) / np.sqrt(128) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("n", range(2, 13))
@pytest.mark.parametrize("p", [0.1, 0.6])
def test_null_is_unbiased(n: int, p: float) -> None:
    weight, ks = binomial_weights(n, p), np.arange(1, n // 2 + 1)
    got = [null_support_dynamics(c, n, ks) for c in range(n + 1)]
    solved = 1 - (1 - p) ** ks
    assert weight @ np.array([x.expanded for x in got]) == pytest.approx(solved * (1 - solved), abs=1e-13)
    assert weight @ np.array([x.preserved for x in got]) == pytest.approx(solved**2, abs=1e-13)
    assert weight @ np.array([x.out_of_support for x in got]) == pytest.approx((1 - solved) ** 2, abs=1e-13)
    assert got[0].n_problems == pytest.approx(np.ones(ks.size))


def test_null_needs_twice_the_budget() -> None:
    got = null_support_dynamics([3, 5], [8, 16], [4, 8, 9])
    assert got.n_problems == pytest.approx([2, 1, np.nan], nan_ok=True)
    assert isinstance(got, SupportDynamics)


def test_expected_dynamics_of_two_checkpoints() -> None:
    """Independent runs: expectations multiply. One problem, before p = .2 of n = 6, after p = .5 of n = 4, k = 3."""
    before, after = binomial_weights(6, 0.2), binomial_weights(4, 0.5)
    expected = sum(
        before[a] * after[b] * expected_support_dynamics(([a], [6]), ([b], [4]), 3).expanded[0]
        for a in range(7)
        for b in range(5)
    )
    assert expected == pytest.approx(0.8**3 * (1 - 0.5**3), abs=1e-14)
    with pytest.raises(ValueError, match="as many problems"):
        expected_support_dynamics(([1], [6]), ([1, 2], [4, 4]), 3)


def test_expected_unsolved() -> None:
    got = expected_unsolved([0, 1, 2], [4, 8, 2], [1, 4, 8, 9])
    assert got.expected == pytest.approx([1 + 7 / 8 + 0, 1 + 1 / 2, 0, np.nan], nan_ok=True)
    assert got.n_problems.tolist() == [3, 2, 1, 0]
    assert got.fraction == pytest.approx([1.875 / 3, 0.75, 0, np.nan], nan_ok=True)
    c = PYTHIA_COUNTS["Pythia 12B"]
    assert expected_unsolved(c, 10_000, 10_000).expected.item() == 16  # problems without any correct rollout
    assert expected_unsolved(c, 10_000, 1000).expected.item() == pytest.approx(failure_at_k(c, 10_000, 1000).sum())


def test_unsolved_upper_bound() -> None:
    assert unsolved_upper_bound([0, 1, 2]) == pytest.approx([1, 0.95, 1 - np.sqrt(0.05)])
    assert unsolved_upper_bound(8192).item() == pytest.approx(3.66e-4, abs=5e-7)  # published for k = 8192
    for n, confidence in [(5, 0.9), (100, 0.99)]:
        bound = unsolved_upper_bound(n, confidence).item()
        assert (1 - bound) ** n == pytest.approx(1 - confidence)
    assert bootstrap_mean(np.zeros(100), rng=np.random.default_rng(0)).high.item() == pytest.approx(
        unsolved_upper_bound(100, 0.975).item()
    )
