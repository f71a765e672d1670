"""How often 95 % intervals hold the truth, by simulation with fixed seeds on stated models of solve rates.

120 to 400 repetitions: the standard error of a coverage of 0.95 is 0.011 to 0.020, and the tolerances allow for two of
them around the range that the docstrings state.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from rlvr_bench.stats import (
    Interval,
    Resampling,
    bootstrap,
    extrapolate_pass_at_k,
    paired_bootstrap,
    pass_at_k_posterior,
    pass_at_k_stopped,
    pass_at_k_stopped_variance,
    rollout_interval,
    unsolved_upper_bound,
)

Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]
QUICK = Resampling(replicates=400)
N, KS = 64, np.array([1, 8, 32, 64])
MODELS: dict[str, Draw] = {
    "half the problems hard": lambda rng, m: rng.beta(0.3, 1, m),
    "most problems hard": lambda rng, m: rng.beta(0.2, 2, m),
    "all hard": lambda rng, m: rng.beta(0.3, 20, m),
    "half unsolvable": lambda rng, m: rng.beta(1, 3, m) * (rng.random(m) < 0.5),
}


def pass_of(p: npt.NDArray[np.float64], ks: npt.NDArray[np.int64] = KS) -> npt.NDArray[np.float64]:
    return np.asarray(np.mean(1 - (1 - p[:, None]) ** ks, axis=0))


def holds(got: Interval, truth: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray((got.low <= truth) & (truth <= got.high))


@pytest.mark.parametrize("problems", [30, 100])
@pytest.mark.parametrize("model", MODELS)
def test_new_problems(model: str, problems: int) -> None:
    rng = np.random.default_rng(100)
    truth = pass_of(MODELS[model](rng, 400_000))
    runs = [
        holds(bootstrap(rng.binomial(N, MODELS[model](rng, problems)), N, KS, rng=rng, options=QUICK), truth)
        for _ in range(400)
    ]
    coverage = np.mean(runs, axis=0)
    assert (coverage > 0.915).all(), coverage
    assert (coverage < 0.992).all(), coverage


def test_new_problems_in_clusters() -> None:
    """40 clusters of 1 to 9 problems with a common level: ignoring them would cover far less."""
    rng = np.random.default_rng(101)

    def draw(clusters: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        labels = np.repeat(np.arange(clusters), rng.integers(1, 10, clusters))
        level = rng.beta(1, 2, clusters)[labels]
        return rng.beta(6 * level + 1e-6, 6 * (1 - level)), labels

    truth = pass_of(draw(100_000)[0])
    aware, naive = [], []
    for _ in range(300):
        p, labels = draw(40)
        c = rng.binomial(N, p)
        aware.append(holds(bootstrap(c, N, KS, rng=rng, clusters=labels, options=QUICK), truth))
        naive.append(holds(bootstrap(c, N, KS, rng=rng, options=QUICK), truth))
    assert (np.mean(aware, axis=0) > 0.915).all(), np.mean(aware, axis=0)
    assert (np.mean(aware, axis=0) < 0.98).all(), np.mean(aware, axis=0)
    assert np.mean(naive) < 0.85


@pytest.mark.parametrize("problems", [30, 100])
def test_paired_difference(problems: int) -> None:
    """Second run: problem by problem another rate, p^0.8 jittered; also the same rates, where the truth is 0."""
    rng = np.random.default_rng(102)
    for power, seed_truth in ((0.8, 400_000), (1.0, 0)):
        p = rng.beta(0.5, 2, max(seed_truth, 1))
        truth = pass_of(p**power) - pass_of(p) if seed_truth else np.zeros(KS.size)
        runs, rejected = [], []
        for _ in range(300):
            p = rng.beta(0.5, 2, problems)
            runs_of = ((rng.binomial(N, p**power), N), (rng.binomial(N, p), N))
            got = paired_bootstrap(*runs_of, KS, rng=rng, options=QUICK)
            runs.append(holds(got.difference, truth))
            rejected.append(got.p_value < 0.05)
        coverage = np.mean(runs, axis=0)
        assert (coverage > 0.915).all(), coverage
        assert (coverage < 0.995).all(), coverage
        if not seed_truth:
            assert (np.mean(rejected, axis=0) < 0.085).all(), np.mean(rejected, axis=0)


@pytest.mark.parametrize("model", MODELS)
def test_these_problems(model: str) -> None:
    """Problems stay, rollouts are redrawn: k up to n, where the variance has no unbiased estimate."""
    rng = np.random.default_rng(103)
    runs = []
    for _ in range(150):
        p = MODELS[model](rng, 100)
        runs.append(holds(rollout_interval(rng.binomial(N, p), N, KS), pass_of(p)))
    coverage = np.mean(runs, axis=0)
    assert (coverage > 0.91).all(), coverage
    if model != "half unsolvable":  # there the Beta prior overstates the noise of unsolved problems
        assert (coverage < 0.985).all(), coverage


def test_posterior_with_the_true_prior() -> None:
    rng = np.random.default_rng(104)
    p = rng.beta(0.3, 2, 20_000)
    got = pass_at_k_posterior(rng.binomial(16, p), 16, [1, 8, 100], prior=(0.3, 2.0))
    truth = 1 - (1 - p[:, None]) ** [1, 8, 100]
    coverage = np.mean((got.low <= truth) & (truth <= got.high), axis=0)
    assert coverage == pytest.approx(np.full(3, 0.95), abs=0.012)  # ties at 1.0 in floats add a little at k = 100
    batches = p.reshape(400, 50), rng.binomial(16, p).reshape(400, 50)
    mean = [pass_at_k_posterior(c, 16, [1, 8, 100], prior=(0.3, 2.0)).average() for c in batches[1]]
    covered = np.mean(
        [holds(got, pass_of(p, np.array([1, 8, 100]))) for got, p in zip(mean, batches[0], strict=True)], axis=0
    )
    assert ((covered > 0.92) & (covered < 0.98)).all(), covered


@pytest.mark.parametrize("model", ["beta", "zero-inflated-beta"])
def test_extrapolation_with_the_right_model(model: str) -> None:
    rng = np.random.default_rng(105)
    solvable = 1.0 if model == "beta" else 0.6

    def draw(m: int) -> npt.NDArray[np.float64]:
        return np.asarray(rng.beta(0.5, 3, m) * (rng.random(m) < solvable))

    ks = np.array([1, 64, 1024])
    truth = pass_of(draw(1_000_000), ks)
    runs = [
        holds(extrapolate_pass_at_k(rng.binomial(N, draw(100)), N, ks, model).interval, truth)  # type: ignore[arg-type]
        for _ in range(120)
    ]
    coverage = np.mean(runs, axis=0)
    assert (coverage > 0.90).all(), coverage
    assert (coverage < 0.995).all(), coverage


def test_upper_bound_of_an_unsolved_problem() -> None:
    """If the truth is the bound itself, no correct rollout in n is seen in 1 - confidence of the runs."""
    bound = unsolved_upper_bound(50, 0.9).item()
    missed = np.random.default_rng(106).binomial(50, bound, 200_000) == 0
    assert np.mean(missed) == pytest.approx(0.1, abs=3e-3)


def test_stopped_runs_with_their_variance() -> None:
    """Mean of 200 adaptively stopped problems +- 1.96 standard errors from the unbiased variance estimates."""
    rng = np.random.default_rng(107)
    stop_after, max_samples, batch = 3, 64, 8
    p = rng.beta(0.4, 1.5, 200)
    covered = []
    for _ in range(300):
        flags = rng.random((200, max_samples)) < p[:, None]
        seen = flags.cumsum(axis=1)[:, batch - 1 :: batch]
        last = np.where((seen >= stop_after).any(axis=1), (seen >= stop_after).argmax(axis=1), seen.shape[1] - 1)
        c, n = seen[np.arange(200), last], (last + 1) * batch
        rule = (stop_after, max_samples, batch)
        value = pass_at_k_stopped(c, n, [1, 8, 16], *rule).mean(axis=0)
        error = np.sqrt(pass_at_k_stopped_variance(c, n, [1, 8, 16], *rule).sum(axis=0)) / 200
        covered.append(np.abs(value - pass_of(p, np.array([1, 8, 16]))) <= 1.96 * error)
    assert ((np.mean(covered, axis=0) > 0.90) & (np.mean(covered, axis=0) < 0.98)).all(), np.mean(covered, axis=0)
