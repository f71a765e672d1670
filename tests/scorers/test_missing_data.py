"""pass@k and the boundary where rollouts or verdicts are missing, and real counts with unequal n."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.scorers import boundary, pass_at_k, unsolved_sizes
from rlvr_bench.scorers.counted import make_counted_scorecard
from rlvr_bench.scorers.counts import depends_on_results
from rlvr_bench.scorers.warnings import warnings_of
from tests.conftest import manifest_with
from tests.scorers.made import outcomes
from tests.scorers.test_scorecard import GRADING

DATA = Path(os.environ.get("RLVR_BENCH_DATA_DIR", Path(__file__).parents[3] / "shared" / "data"))
PYTHIA = DATA.parent / "reference" / "pythia_gsm8k_counts.parquet"


def counted(pairs: list[tuple[int, int]], **options: Any) -> Scorecard:
    counts = [(f"p{i}", n, c) for i, (n, c) in enumerate(pairs)]
    return make_counted_scorecard(manifest_with(n=max(n for n, _ in pairs)), GRADING, counts, **options)


def at(card: Scorecard, name: str, k: int) -> Estimate:
    return next(item for item in card.estimates if (item.name, item.k) == (name, k))


def bounds(item: Estimate) -> tuple[object, ...]:
    return item.value, item.at_least, item.at_most


HALF_TOPPED_UP = [(1024, 1)] * 20 + [(64, 0)] * 20


@pytest.mark.parametrize("pairs", [HALF_TOPPED_UP, HALF_TOPPED_UP[::-1]])
def test_a_mean_over_some_problems_is_never_given_for_all(pairs: list[tuple[int, int]]) -> None:
    card = counted(HALF_TOPPED_UP)
    assert at(card, "pass@k", 64).value == pytest.approx(20 * (64 / 1024) / 40)
    assert bounds(at(card, "pass@k", 1024)) == (None, 0.5, 1.0)
    for k in (128, 256, 512):
        estimate = at(card, "pass@k", k)
        assert bounds(estimate) == (None, pytest.approx(k / 1024 / 2), pytest.approx((k / 1024 + 1) / 2))
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < k / 1024 / 2 < estimate.high
        assert estimate.n_problems == 40
    assert card.run.n_chosen is None


def test_unsolved_is_the_expected_number_at_one_budget_that_all_problems_have() -> None:
    card = counted(HALF_TOPPED_UP)
    (estimate,) = [item for item in card.estimates if item.name == "unsolved"]
    assert (estimate.k, estimate.n_problems) == (64, 40)
    assert estimate.value == pytest.approx(38.75)
    assert at(card, "unsolved@k", 64).value == pytest.approx(38.75)
    assert bounds(at(card, "unsolved@k", 1024)) == (None, 0.0, 20.0)


def test_without_a_verdict_a_rollout_could_have_been_either() -> None:
    runs = ["ceww", "wwew", "cccc", "wwww"]
    estimates = {item.k: item for item in pass_at_k(outcomes(runs))}
    assert bounds(estimates[1]) == (pytest.approx(5 / 16), pytest.approx(5 / 16), pytest.approx(7 / 16))
    assert bounds(estimates[4]) == (0.5, 0.5, 0.75)
    assert bounds(boundary(outcomes(runs))[0]) == (2.0, 1.0, 2.0)
    assert bounds({item.k: item for item in unsolved_sizes(outcomes(runs))}[4]) == (2.0, 1.0, 2.0)


def test_errors_and_missing_rollouts_together() -> None:
    estimates = {item.k: item for item in pass_at_k(outcomes(["ewww", "we", "wwww"]))}
    assert bounds(estimates[4]) == (None, 0.0, pytest.approx(2 / 3))
    assert bounds(estimates[2]) == (0.0, 0.0, pytest.approx((0.5 + 1) / 3))


def test_one_error_in_more_than_a_thousand_is_no_reason_for_bounds() -> None:
    assert pass_at_k(outcomes(["e" + "w" * 1023]), ks=[1])[0].at_least is None
    assert pass_at_k(outcomes(["e" + "w" * 899]), ks=[1])[0].at_most == pytest.approx(1 / 900)


def stopped_on_success(problems: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(5)
    pairs = []
    for p in rng.beta(0.3, 3.0, problems):
        n = c = 0
        while n < 640 and c < 1:
            n, c = n + 16, c + int(rng.binomial(16, p))
        pairs.append((n, c))
    return pairs


def test_n_that_depends_on_what_was_found_is_noticed_and_nothing_is_given_that_it_spoils() -> None:
    pairs = stopped_on_success(150)
    card = counted(pairs)
    assert card.run.n_chosen is not None
    assert card.run.n_chosen <= 1e-3
    (text,) = warnings_of(card.run, card.quality)
    assert "a stopping rule seems to be at work" in text
    true = {k: np.mean(1 - (1 - np.random.default_rng(5).beta(0.3, 3.0, 150)) ** k) for k in (1, 16, 640)}
    for k, value in true.items():
        estimate = at(card, "pass@k", k)
        assert estimate.value is None
        assert estimate.at_least is not None
        assert estimate.at_most is not None
        assert estimate.at_least - 0.05 <= value <= estimate.at_most + 0.05
    assert {"cover", "g_pass@k", "accuracy_histogram"}.isdisjoint(item.name for item in card.estimates)


def test_a_top_up_by_number_is_none_although_the_problems_are_sorted_by_letter() -> None:
    """The hard ones come first and have more rollouts: p0 to p39 of 80."""
    names = [f"p{i}" for i in sorted(range(80), key=str)]
    number = np.array([int(name[1:]) for name in names])
    n = np.where(number < 40, 1024, 64)
    c = np.where(number < 40, 10, 60)
    assert depends_on_results(c, n) is not None
    assert depends_on_results(c, n, names) is None


def test_real_counts_with_few_rollouts_of_some_problems() -> None:
    if not PYTHIA.exists():
        pytest.skip(f"needs {PYTHIA}, which is not part of the repository")
    import pyarrow.parquet as pq

    table = pq.read_table(PYTHIA).to_pylist()
    runs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row in table:
        runs.setdefault((row["model"], row["tokens_seen"]), []).append((row["n"], row["c"]))
    assert len(runs) == 81
    chosen = runs["Pythia_1.4B", "20B"]
    estimate = at(counted(chosen, ks=[640, 6016]), "pass@k", 6016)
    few = [(n, c) for n, c in chosen if n < 6016]
    assert len(few) == 20
    assert estimate.value is None
    # 89 of the 108 problems with 6,016 rollouts are solved, and 10 of the 20 with fewer are within these.
    assert estimate.at_least == pytest.approx((89 + sum(c > 0 for _, c in few)) / 128)
    assert estimate.at_most == pytest.approx((89 + 20) / 128)
    for pairs in runs.values():
        n, c = np.array(pairs).T
        assert depends_on_results(c, n) is None


def test_real_counts_pooled_over_checkpoints_show_that_weak_ones_were_drawn_longer() -> None:
    if not PYTHIA.exists():
        pytest.skip(f"needs {PYTHIA}, which is not part of the repository")
    import pyarrow.parquet as pq

    table = pq.read_table(PYTHIA, filters=[("model", "=", "Pythia_1.4B")])
    p_value = depends_on_results(table["c"].to_numpy(), table["n"].to_numpy())
    assert p_value is not None
    assert p_value <= 1e-3
