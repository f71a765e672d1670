"""Two runs compared with the verifier's error: nothing changes without error, and gains that it explains are no gains."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from rlvr_bench.comparison.cards import RunCounts
from rlvr_bench.comparison.curves import crossover, pass_differences
from rlvr_bench.comparison.results import ErrorComparison
from rlvr_bench.comparison.sets import boundary_change
from rlvr_bench.comparison.true_sets import compared_with_error, without_explained
from rlvr_bench.errors import RunError
from rlvr_bench.scorecard import ProblemScore
from rlvr_bench.scorers.counts import Counts
from rlvr_bench.scorers.true_solves import error_of_rates

N, P, KS = 64, 200, [1, 8, 64]
IDS = tuple(f"p{i}" for i in range(P))


def run_of(label: str, c: np.ndarray, rates: tuple[float, float] | None) -> RunCounts:
    n = np.full(P, N)
    counts = {name: (N, int(correct), 0) for name, correct in zip(IDS, c, strict=True)}
    error = None if rates is None else error_of_rates(counts, rates, KS)
    entries = tuple(ProblemScore(id=name, n=N, c=int(correct)) for name, correct in zip(IDS, c, strict=True))
    return RunCounts(label, Path(f"{label}.json"), n, c, Counts.fixed(n, c, np.zeros_like(c)), entries, error)


def counts_of(seed: int, phi: float) -> tuple[np.ndarray, np.ndarray]:
    """True and observed counts of runs that solve a half of the problems, the same ones, and the others never."""
    rates = np.where(np.arange(P) < P // 2, 0.3, 0.0)
    rng = np.random.default_rng(seed)
    true = rng.binomial(N, rates)
    return true, true + rng.binomial(N - true, phi)


def compared(first: RunCounts, second: RunCounts) -> ErrorComparison:
    result = compared_with_error(IDS, first, second, KS, N)
    assert result is not None
    return result


def test_without_error_the_numbers_are_the_plain_ones() -> None:
    first, second = (run_of(str(seed), counts_of(seed, 0.02)[1], (0.0, 0.0)) for seed in (0, 1))
    result, change = compared(first, second), boundary_change(IDS, first, second, N)
    plain = pass_differences(first, second, KS)
    for item, other in zip(result.pass_at_k, plain, strict=True):
        assert (item.value, item.low, item.high) == pytest.approx((other.value, other.low, other.high), abs=2e-3)
    assert result.gained.value == pytest.approx(change.n_gained)
    assert result.lost.value == pytest.approx(change.n_lost)
    assert result.crossover.leader == crossover(first, second).leader


def test_gains_that_false_positives_explain_are_no_gains() -> None:
    """The first run has an exact verifier; the second solves nothing more, but its verifier errs on 2 % of the rollouts."""
    first = run_of("exact", counts_of(0, 0.0)[1], (0.0, 0.0))
    second = run_of("lenient", counts_of(1, 0.02)[1], (0.02, 0.0))
    change = boundary_change(IDS, first, second, N)
    assert change.n_gained > 50
    result = compared(first, second)
    assert result.gained.low == pytest.approx(0, abs=0.5)
    assert result.gained.value < 5
    assert result.pass_at_k[-1].low <= 0 <= result.pass_at_k[-1].high
    kept, listed = without_explained(first, second, change, result)
    assert listed is not None
    assert len(listed.explained_gained) > 0.9 * len(change.gained)
    assert sorted((*kept.gained, *listed.explained_gained)) == sorted(change.gained)


def test_a_run_without_a_known_error_has_none_in_its_comparison() -> None:
    runs = [run_of(str(seed), counts_of(seed, 0.0)[1], rates) for seed, rates in ((0, (0.0, 0.0)), (1, None))]
    assert compared_with_error(IDS, runs[0], runs[1], KS, N) is None
    change = boundary_change(IDS, runs[0], runs[1], N)
    assert without_explained(runs[0], runs[1], change, None) == (change, None)


@pytest.mark.parametrize(
    "row", [(), ((1, 2, 3),), ((-5, 69, 0, 0, 0, 0),), ((400, 0, 0, 0, 0, 0),), ((1,) * 6, (1,) * 6)]
)
def test_a_scorecard_whose_error_does_not_fit_is_one_line(row: tuple[tuple[int, ...], ...]) -> None:
    good = run_of("good", counts_of(0, 0.0)[1], (0.0, 0.0))
    assert good.error is not None
    seen = {**good.error.seen, "p0": row} if row else {}
    bad = RunCounts(
        *("bad", Path("bad.json"), good.n, good.c, good.counts, good.entries),
        error=msgspec.structs.replace(good.error, seen=seen),
    )
    with pytest.raises(RunError, match=r"^bad.json: damaged at verifier_error"):
        compared_with_error(IDS, good, bad, KS, N)
