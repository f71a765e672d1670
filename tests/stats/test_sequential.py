"""Limits that hold at every look: against the integral they solve, and by simulated walks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from rlvr_bench import stats
from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.sequential import ONE_LOOK, Looks


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize(("z", "r"), [(1.0, 0.3), (2.5, 4.0), (3.2, 60.0), (-1.0, 2.0)])
def test_the_p_value_is_one_over_the_mean_likelihood_ratio_by_integration(z: float, r: float, two_sided: bool) -> None:
    """Drift d of a Brownian motion seen until time r at z * sqrt(r): likelihood ratio exp(d S - d^2 r / 2), d normal."""
    sides = (-12, 12) if two_sided else (0, 12)
    share = 1.0 if two_sided else 0.5
    mean, _ = quad(lambda d: norm.pdf(d) / share * np.exp(d * z * np.sqrt(r) - d * d * r / 2), *sides)
    assert stats.anytime_p_value(z, r, two_sided=two_sided) == pytest.approx(min(1.0, 1 / mean), rel=1e-6)


@pytest.mark.parametrize("r", [0.25, 4.0, 1000.0])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_the_quantile_inverts_the_p_value(r: float, level: float) -> None:
    z = stats.anytime_quantile(level, r)
    assert stats.anytime_p_value(z, r) == pytest.approx(1 - level, rel=1e-6)
    assert z > norm.ppf(level) + 0.5
    assert stats.anytime_quantile(level, r, two_sided=True) > z


def test_a_walk_crosses_the_limit_at_any_of_a_thousand_looks_in_at_most_one_case_in_twenty() -> None:
    rng = np.random.default_rng(4)
    n = np.unique(np.geomspace(4, 16384, 1000).astype(int))
    steps = rng.standard_normal((2000, len(n))) * np.sqrt(np.diff(n, prepend=0))
    z = np.cumsum(steps, axis=1) / np.sqrt(n)
    limits = np.array([stats.anytime_quantile(0.95, stats.information(size, size)) for size in n.tolist()])
    ever = (z > limits).any(axis=1).mean()
    assert ever <= 0.05
    assert ever > 0.015  # a limit out of reach would pass the line above
    assert (z > norm.ppf(0.95)).any(axis=1).mean() > 0.4


def test_one_look_is_the_plain_test() -> None:
    assert ONE_LOOK.quantile(0.95) == pytest.approx(norm.ppf(0.95))
    assert ONE_LOOK.p_value(2.0, two_sided=True) == pytest.approx(2 * norm.sf(2.0))
    assert ONE_LOOK.single_level(0.9) == 0.9
    assert ONE_LOOK.renewed(0.03) == 0.03
    every = Looks(8.0)
    assert every.renewed(2 * norm.sf(3.0), two_sided=True) == pytest.approx(every.p_value(3.0, two_sided=True))
    assert norm.ppf(0.5 + every.single_level(0.9) / 2) == pytest.approx(every.quantile(0.95))


def test_the_clock_is_that_of_the_run_with_fewer_rollouts() -> None:
    assert stats.information(64.0, 64.0) == 16
    assert stats.information(64, 1e9) == pytest.approx(32)
    assert stats.information(64, 64, 64) == 4
    with pytest.raises(BadArgument, match="above 0"):
        stats.information(0, 64)
