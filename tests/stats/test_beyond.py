"""pass@k beyond n: error, coverage and width on published counts, and where it is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats import mean_pass_at_k, pass_beyond
from rlvr_bench.stats.rare_solves import rare_solves
from tests.stats.reference import PYTHIA_COUNTS

LARGER = [name for name in PYTHIA_COUNTS if name != "Pythia 70M"]


def test_ten_thousand_from_256_rollouts_of_published_counts() -> None:
    """Subsamples of 256 of 10,000 rollouts; the truth is pass@10,000 of the same problems, from all of them.

    A subsample that is refused has no number: those of the 160M model, whose interval would be wider than 30 points.
    """
    rng = np.random.default_rng(0)
    errors, held, widths = [], [], []
    for name in LARGER:
        counts = np.asarray(PYTHIA_COUNTS[name])
        truth = np.mean(counts > 0)
        for _ in range(2):
            drawn = rng.hypergeometric(counts, 10_000 - counts, 256)
            try:
                got = pass_beyond(drawn, 256, 10_000, rng=rng)
            except BadArgument:
                continue
            errors.append(abs(got.value[0] - truth))
            held.append(got.low[0] <= truth <= got.high[0])
            widths.append(got.high[0] - got.low[0])
    assert len(errors) >= 8
    assert np.mean(errors) < 0.035
    assert np.mean(held) >= 0.9
    assert np.mean(widths) < 0.25


Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]
POPULATIONS: dict[str, Draw] = {
    "Beta(0.1, 1)": lambda rng, m: rng.beta(0.1, 1, m),
    "Beta(0.3, 5)": lambda rng, m: rng.beta(0.3, 5, m),
    "Beta(0.5, 1)": lambda rng, m: rng.beta(0.5, 1, m),
    "Beta(0.4, 3), 10 % never": lambda rng, m: rng.beta(0.4, 3, m) * (rng.random(m) >= 0.1),
    "Beta(0.3, 2), 30 % never": lambda rng, m: rng.beta(0.3, 2, m) * (rng.random(m) >= 0.3),
    "two halves": lambda rng, m: np.where(rng.random(m) < 0.5, rng.beta(0.2, 2, m), rng.beta(2, 2, m)),
}


def pass_of(rates: npt.NDArray[np.float64], k: int) -> float:
    return float(np.mean(-np.expm1(k * np.log1p(-np.minimum(rates, 1 - 1e-15)))))


def test_the_interval_holds_the_truth_of_simulated_populations() -> None:
    """200 problems, n = 128, k = 5,000, ten sets of each: 95 % of 60 less three standard errors is 87 %."""
    rng = np.random.default_rng(6)
    held, refused = [], 0
    for draw in POPULATIONS.values():
        for _ in range(10):
            rates = draw(rng, 200)
            try:
                got = pass_beyond(rng.binomial(128, rates), 128, 5000, rng=rng)
            except BadArgument:
                refused += 1
                continue
            held.append(got.low[0] <= pass_of(rates, 5000) <= got.high[0])
    assert refused <= 9
    assert np.mean(held) >= 0.87


@pytest.mark.parametrize("name", ["Beta(0.3, 5)", "Beta(0.3, 2), 30 % never"])
def test_many_problems_give_the_curve_of_their_population(name: str) -> None:
    rng = np.random.default_rng(7)
    rates = POPULATIONS[name](rng, 20_000)
    posterior = rare_solves(rng.binomial(128, rates), 128, 5000, rng)
    assert np.median(posterior.draws) == pytest.approx(pass_of(rates, 5000), abs=0.02)
    assert np.ptp(np.quantile(posterior.draws, [0.025, 0.975])) < 0.06
    assert (posterior.all_solvable > 0.05) == ("never" not in name)
    assert posterior.misfit > 0.001


def test_two_sharp_groups_do_not_follow_the_model() -> None:
    rng = np.random.default_rng(8)
    rates = np.repeat([0.005, 0.1], 500)
    with pytest.raises(ValueError, match="do not follow the model"):
        pass_beyond(rng.binomial(128, rates), 128, 5000, rng=rng)


def test_many_rollouts_and_extreme_counts_have_an_answer_or_a_reason() -> None:
    rng = np.random.default_rng(9)
    rates = rng.beta(0.3, 200, 100)
    got = pass_beyond(rng.binomial(100_000, rates), 100_000, 200_000, rng=rng)
    assert got.low[0] <= pass_of(rates, 200_000) <= got.high[0]
    for c in ([100_000] * 99 + [0], [0] * 80 + [1] * 20, [50_000] * 50 + [0] * 50):
        try:
            got = pass_beyond(c, 100_000, 200_000, rng=rng)
        except BadArgument:
            continue
        assert 0 <= got.low[0] <= got.value[0] <= got.high[0] <= 1


def test_a_share_that_is_never_solved_is_not_passed_over() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(1, 3, 300) * (rng.random(300) < 0.5)
    got = pass_beyond(rng.binomial(256, p), 256, 10_000, rng=rng)
    assert "zero-inflated" in got.method
    assert got.low[0] <= np.mean(p > 0) <= got.high[0]
    assert got.value[0] == pytest.approx(np.mean(p > 0), abs=0.03)


def test_it_never_falls_below_what_was_reached() -> None:
    rng = np.random.default_rng(2)
    c = rng.binomial(64, rng.beta(0.5, 3, 200))
    got = pass_beyond(c, 64, 128, rng=rng)
    assert got.low[0] >= mean_pass_at_k(c, 64, 64)[0]
    assert got.low[0] <= got.value[0] <= got.high[0] <= 1
    assert got.source == "model"


def spread(n: int, problems: int = 100, seed: int = 3) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int(c) for c in rng.binomial(n, rng.beta(0.3, 3, problems))]


@pytest.mark.parametrize(
    ("c", "n", "k", "reason"),
    [
        (spread(64), 64, 64, "must be above n"),
        (spread(64), 64, 5000, "at most 4,096"),
        (spread(8), 8, 64, "at least 16"),
        (spread(64, 20), 64, 128, "from 20 problems"),
        ([0] * 95 + [1] * 5, 64, 128, "5 problems are solved"),
        ([1] * 100, 64, 128, "every problem is solved"),
        ([1] * 12 + [0] * 88, 64, 4096, "cannot be extrapolated to"),
    ],
)
def test_counts_that_cannot_carry_it_are_refused(c: list[int], n: int, k: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pass_beyond(c, n, k, rng=np.random.default_rng(0))
