"""Evidence of a change, valid at every look: by enumeration, and by simulated training runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.drift import drift


def test_evidence_is_the_mean_likelihood_ratio_over_starts_and_sizes_by_integration() -> None:
    """Two looks; a change of size d > 0 (half normal) begins at look 1, at look 2, or later."""
    x, v, effect = [0.03, 0.05], [0.0004, 0.0009], 0.05

    def ratio(first: int) -> float:
        def density(d: float) -> float:
            likelihoods = [
                norm.pdf(a, d, b**0.5) / norm.pdf(a, 0, b**0.5) for a, b in zip(x[first:], v[first:], strict=True)
            ]
            return float(2 * norm.pdf(d, scale=effect) * np.prod(likelihoods))

        return float(quad(density, 0, 1, epsabs=1e-12, limit=200)[0])

    expected = ratio(0) / 2 + ratio(1) / 6 + 1 / 3
    assert np.exp(drift(x, v, effect).log_evidence[1]) == pytest.approx(expected, rel=1e-6)


def test_a_run_that_does_not_change_rarely_alarms_at_any_of_a_hundred_looks() -> None:
    rng = np.random.default_rng(5)
    variance = np.full(100, 0.0004)
    alarms = [drift(rng.normal(0, 0.02, 100), variance, 0.05).log_evidence.max() >= np.log(20) for _ in range(250)]
    assert np.mean(alarms) <= 0.05
    assert np.mean(alarms) > 0.002  # evidence that never grows would pass the line above


def test_a_change_is_found_soon_and_its_beginning_is_named() -> None:
    rng = np.random.default_rng(6)
    mean = np.repeat([0.0, 0.05], [30, 20])
    delays, since = [], []
    for _ in range(60):
        change = drift(rng.normal(mean, 0.02), np.full(50, 0.0004), 0.05)
        sounded = np.flatnonzero(change.log_evidence >= np.log(20))
        delays.append(sounded[0] - 29)
        since.append(change.since)
    assert np.median(delays) <= 4
    assert np.median(since) == pytest.approx(30, abs=1)


@pytest.mark.parametrize(
    ("x", "v", "effect"), [([], [], 1), ([1], [1, 2], 1), ([1], [0], 1), ([np.nan], [1], 1), ([1], [1], 0)]
)
def test_bad_input(x: list[float], v: list[float], effect: float) -> None:
    with pytest.raises(BadArgument):
        drift(x, v, effect)
