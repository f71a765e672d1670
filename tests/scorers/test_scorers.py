"""Scorers on hand-made outcomes whose answers are worked out by hand or by enumeration."""

from __future__ import annotations

from itertools import combinations, product

import msgspec
import numpy as np
import pytest

from rlvr_bench.errors import RunError
from rlvr_bench.records import StoppingRule
from rlvr_bench.scorers import boundary, common, default_ks, entropy, pass_at_k, quality_rates, unsolved_sizes
from rlvr_bench.scorers.common import problem_blocks
from rlvr_bench.scorers.quality import duplicates
from rlvr_bench.scorers.votes import vote_table
from tests.scorers.made import outcomes, under_rule
from tests.scorers.test_scorecard import scored


def by_enumeration(statuses: str, k: int) -> float:
    subsets = list(combinations(statuses, k))
    return sum("c" in subset for subset in subsets) / len(subsets)


def test_pass_at_k_is_the_share_of_subsets_with_a_correct_rollout() -> None:
    runs = ["cwwwnwew", "wwwwwwww", "cccccccc", "cwcwcwwn"]
    for estimate in pass_at_k(outcomes(runs)):
        assert estimate.k is not None
        assert estimate.value == pytest.approx(np.mean([by_enumeration(run, estimate.k) for run in runs]))
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.value is not None
        assert 0 <= estimate.low < estimate.value < estimate.high <= 1 or estimate.value in (0, 1)
        assert (estimate.n_problems, estimate.n_samples, estimate.note) == (4, 8, None)
    assert [e.k for e in pass_at_k(outcomes(runs))] == [1, 2, 4, 8]


def test_a_budget_above_n_has_no_value_and_says_why() -> None:
    estimates = {e.k: e for e in pass_at_k(outcomes(["cwww", "wwww"]), ks=[4, 8])}
    assert (estimates[8].value, estimates[8].at_least, estimates[8].at_most) == (None, 0.5, 1.0)
    assert estimates[8].note == "2 of 2 problems have fewer than 8 rollouts: bounds from pass@n to 1 for these"


def test_unequal_n_averages_problems_and_never_pools_counts() -> None:
    """p0 solves 1 of 2, p1 1 of 8: the mean is 0.3125; pooled counts would say 2 of 10."""
    estimates = {e.k: e for e in pass_at_k(outcomes(["cw", "cwwwwwww"]))}
    assert estimates[1].value == pytest.approx((0.5 + 0.125) / 2)
    assert (estimates[8].value, estimates[8].at_least, estimates[8].at_most, estimates[8].n_problems) == (
        None,
        1.0,
        1.0,
        2,
    )
    assert estimates[8].note == "1 of 2 problems have fewer than 8 rollouts: bounds from pass@n to 1 for these"


def test_errors_and_missing_answers_are_not_correct_but_count_as_drawn() -> None:
    assert pass_at_k(outcomes(["cen"]), ks=[1])[0].value == pytest.approx(1 / 3)


def test_a_problem_without_rollouts_is_left_out() -> None:
    estimate = pass_at_k(outcomes(["cw", ""]), ks=[1])[0]
    assert estimate.value == pytest.approx(0.5)
    assert estimate.n_problems == 1
    assert boundary(outcomes(["ww", ""]))[0].n_problems == 1


def test_the_boundary_counts_problems_no_rollout_solved() -> None:
    (estimate,) = boundary(outcomes(["wwww", "cwww", "nnee", "cccc"]))
    assert (estimate.value, estimate.k, estimate.n_problems) == (2.0, 4, 4)
    assert estimate.low is not None
    assert estimate.high is not None
    assert 0 < estimate.low < 2 < estimate.high < 4
    assert estimate.note is not None
    assert "0.53" in estimate.note  # 1 - 0.05^(1/4)


def test_the_grid_is_powers_of_two_and_n() -> None:
    assert default_ks(1) == [1]
    assert default_ks(64) == [1, 2, 4, 8, 16, 32, 64]
    assert default_ks(100) == [1, 2, 4, 8, 16, 32, 64, 100]


def test_entropy_is_a_mean_over_rollouts_then_problems_also_by_outcome() -> None:
    values = np.array([1.0, 3.0, 5.0, np.nan, 2.0, 2.0])  # p0: c w w w, p1: c w
    estimates = {(e.name, e.group): e for e in entropy(outcomes(["cwww", "cw"], entropy_mean=values))}
    assert estimates["token_entropy", None].value == pytest.approx((3.0 + 2.0) / 2)
    assert estimates["token_entropy", "correct"].value == pytest.approx((1.0 + 2.0) / 2)
    assert estimates["token_entropy", "wrong"].value == pytest.approx((4.0 + 2.0) / 2)
    # Student's t with one degree of freedom, by hand: 2.5 +- 12.7062 * 0.7071 / sqrt(2), cut at 0.
    high = estimates["token_entropy", None].high
    assert estimates["token_entropy", None].low == 0.0
    assert high == pytest.approx(2.5 + 12.7062 * 0.70711 / np.sqrt(2), abs=1e-3)
    assert estimates["branching_factor", None].value is None
    assert estimates["branching_factor", None].note == "not measured"


def test_quality_rates_are_shares_of_rollouts_averaged_over_problems() -> None:
    rates = quality_rates(
        outcomes(
            ["cnew", "cn"],
            truncated=np.array([1, 1, 0, 0, 0, 0], dtype=bool),
            text=np.array([0, 0, 0, 1, 1, 2], dtype=np.int32),
            candidates=np.array([2, 0, 3, 1, 1, 0], dtype=np.int32),
            n_tokens=np.array([1, 2, 3, 4, 10, 20], dtype=np.int32),
        )
    )
    assert rates == {
        "truncation_rate": pytest.approx((2 / 4 + 0) / 2),
        "no_answer_rate": pytest.approx((1 / 4 + 1 / 2) / 2),
        "error_rate": pytest.approx((1 / 4 + 0) / 2),
        "duplicate_rate": pytest.approx((2 / 4 + 0) / 2),  # the same text in another problem is no duplicate
        "several_answers_rate": pytest.approx((2 / 4 + 0) / 2),
        "tokens_per_response": pytest.approx((2.5 + 15) / 2),
        "distinct_texts": pytest.approx((2 + 2) / 2),
    }


def test_clustered_problems_widen_the_interval() -> None:
    runs = ["cccc"] * 20 + ["wwww"] * 20
    alone = pass_at_k(outcomes(runs), ks=[1])[0]
    together = pass_at_k(outcomes(runs, clusters=tuple(f"c{i // 10}" for i in range(40))), ks=[1])[0]
    assert alone.low is not None
    assert alone.high is not None
    assert together.low is not None
    assert together.high is not None
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_scoring_twice_gives_the_same_numbers() -> None:
    runs = outcomes(["cwww", "cwcw", "wwww"])
    assert pass_at_k(runs) == pass_at_k(runs)


def test_under_a_stopping_rule_pass_at_k_is_unbiased() -> None:
    """Exact: the mean over every outcome of 6 rollouts, weighted by its probability, is 1 - q^k."""
    asked, p = 6, 0.3
    for stop_after, batch in ((1, 1), (1, 2), (2, 3), (2, 2)):
        means = dict.fromkeys(range(1, asked + 1), 0.0)
        for letters in product("cw", repeat=asked):
            run = "".join(letters)
            weight = p ** run.count("c") * (1 - p) ** run.count("w")
            for estimate in pass_at_k(under_rule([run], asked, stop_after, batch), ks=list(means)):
                assert estimate.k is not None
                assert estimate.value is not None
                means[estimate.k] += weight * estimate.value
        for k, mean in means.items():
            assert mean == pytest.approx(1 - (1 - p) ** k)


def test_an_unfinished_adaptive_run_is_refused() -> None:
    with pytest.raises(RunError, match="1 problems are not drawn to the end of the stopping rule"):
        pass_at_k(outcomes(["ccww", "wwww"], asked=8, stopping=StoppingRule(stop_after=2, batch=4)))


def test_under_a_stopping_rule_the_boundary_is_at_the_full_budget() -> None:
    (estimate,) = boundary(under_rule(["ccwwwwww", "wwwwwwww"], asked=8, stop_after=2, batch=4))
    assert (estimate.value, estimate.k) == (1.0, 8)


def test_fair_outcomes_are_those_that_no_rule_chose() -> None:
    flags = {"repetition": np.arange(8) % 2 == 0}
    run = outcomes(["cwcw", "wwww"], entropy_mean=np.arange(8.0), flags=flags)
    assert run.fair() is run
    ruled = msgspec.structs.replace(run, stopping=StoppingRule(stop_after=1, batch=2))
    first = ruled.fair()
    assert ruled.is_fair.tolist() == [True, True, False, False] * 2
    assert (first.n_samples.tolist(), first.n_correct.tolist()) == ([2, 2], [1, 0])
    assert (first.asked, first.stopping) == (2, None)
    assert first.entropy_mean.tolist() == [0.0, 1.0, 4.0, 5.0]
    assert first.flags["repetition"].tolist() == [True, False] * 2


def test_blocks_hold_whole_problems_and_every_rollout_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "BLOCK", 10)
    n = np.array([0, 4, 6, 0, 1, 25, 3, 3, 3, 3, 0])
    blocks = list(problem_blocks(n))
    assert [int(n[problems].sum()) for problems, _ in blocks] == [10, 1, 25, 9, 3]
    for part, size in enumerate((11, 48)):
        assert np.concatenate([np.arange(size)[block[part]] for block in blocks]).tolist() == list(range(size))
    for problems, rows in blocks:
        assert rows.stop - rows.start == n[problems].sum()
    assert list(problem_blocks(np.zeros(0, dtype=np.int64))) == []


@pytest.mark.parametrize("block", [1, 7, 40])
def test_a_run_scored_in_blocks_is_scored_the_same(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    rng = np.random.default_rng(block)
    rows = ["".join(rng.choice(list("cwne"), size)) for size in (9, 0, 4, 30, 1, 16)]
    run = outcomes(rows, answer=rng.integers(0, 3, 60).astype(np.int32), text=rng.integers(0, 9, 60).astype(np.int32))
    ks = [1, 2, 3, 16]
    votes, repeated = vote_table(run, ks), duplicates(run)
    monkeypatch.setattr(common, "BLOCK", block)
    assert np.array_equal(vote_table(run, ks), votes, equal_nan=True)
    assert np.array_equal(duplicates(run), repeated)
    seen: set[tuple[int, int]] = set()
    for pair, again in zip(zip(run.problem.tolist(), run.text.tolist(), strict=True), repeated, strict=True):
        assert again == (pair in seen)
        seen.add(pair)


def test_intervals_of_few_problems_say_that_they_hold_more_often() -> None:
    few = pass_at_k(outcomes(["cwww", "ccww", "wwww"]))
    many = pass_at_k(outcomes(["cwww", "ccww", "wwww"] * 10))
    assert all("fewer than 30" in (estimate.caveat or "") for estimate in few)
    assert not any(estimate.caveat for estimate in many)


def test_limits_rise_with_k_under_a_stopping_rule_and_fall_for_unsolved_sizes() -> None:
    rng = np.random.default_rng(4)
    drawn = ["".join("c" if u < p else "w" for u in rng.random(16)) for p in rng.beta(5, 0.5, 34)]
    run = under_rule([*drawn, "w" * 16], asked=16, stop_after=2, batch=4)
    for estimates, sign in ((pass_at_k(run), 1), (unsolved_sizes(run), -1)):
        limits = np.array([(estimate.low, estimate.high) for estimate in estimates], dtype=np.float64)
        assert (sign * np.diff(limits, axis=0) >= -1e-12).all()
        assert all(
            (estimate.low or 0) <= (estimate.value or 0) + 1e-9 <= (estimate.high or 0) + 2e-9 for estimate in estimates
        )


def test_the_note_says_what_clusters_do_to_the_interval() -> None:
    runs = ["cccc"] * 20 + ["wwww"] * 20
    alike, mixed, few = (
        scored(outcomes(runs, clusters=tuple(labels)))
        for labels in (
            [f"c{i // 5}" for i in range(40)],
            [f"c{i % 20}" for i in range(40)],
            [f"c{i // 20}" for i in range(40)],
        )
    )
    notes = [
        next(estimate.note for estimate in card.estimates if estimate.name == "pass@k") for card in (alike, mixed, few)
    ]
    assert "8 clusters of problems that resemble one another widen the interval by" in (notes[0] or "")
    assert notes[1] is None
    assert "2 clusters of problems, fewer than 4: the interval takes problems as independent" in (notes[2] or "")
