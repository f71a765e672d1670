"""G-Pass@k, Cover@tau, the boundary and the histogram, against enumeration and hand-worked counts."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rlvr_bench import stats
from rlvr_bench.records import Estimate
from rlvr_bench.scorers import accuracy_histogram, cover, g_pass, pass_at_k, unsolved_set, unsolved_sizes
from rlvr_bench.scorers.boundary import HISTOGRAM_BINS
from tests.scorers.made import outcomes, under_rule


def by_group(estimates: list[Estimate], name: str, k: int | None = None) -> dict[str | None, Estimate]:
    return {e.group: e for e in estimates if e.name == name and e.k == k}


@pytest.mark.parametrize(("tau", "least"), [(0.25, 1), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_g_pass_is_the_share_of_subsets_with_enough_correct_ones(tau: float, least: int) -> None:
    runs = ["ccccwwww", "cwwwwwww", "wwwwwwww", "cccccccc"]
    want = [np.mean([s.count("c") >= least for s in combinations(run, 4)]) for run in runs]
    estimate = by_group(g_pass(outcomes(runs)), "g_pass@k", 4)[f"tau={tau:g}"]
    assert estimate.value == pytest.approx(np.mean(want))
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < np.mean(want) < estimate.high


def test_g_pass_keeps_to_budgets_that_were_drawn_and_gives_bounds_where_some_lack_rollouts() -> None:
    estimates = g_pass(outcomes(["cwww", "cccccccc"]))
    assert {e.k for e in estimates} == {4, 8}
    one = by_group(estimates, "g_pass@k", 8)["tau=1"]
    assert (one.value, one.at_least, one.at_most, one.n_problems) == (None, 0.5, 1.0, 2)
    assert one.note == "1 of 2 problems have fewer than 8 rollouts: bounds over what these could be"
    assert by_group(estimates, "mg_pass@k", 8)[None].at_least == 0.5
    assert g_pass(outcomes(["cww"])) == []


def test_cover_counts_problems_above_the_threshold() -> None:
    runs = ["cccc", "ccww", "cwww", "wwww"]
    estimates = by_group(cover(outcomes(runs)), "cover")
    assert [estimates[f"tau={t}"].value for t in ("0.01", "0.25", "0.5", "0.75", "1")] == [0.75, 0.75, 0.5, 0.25, 0.25]
    smooth = by_group(cover(outcomes(runs)), "cover_posterior")["tau=0.5"]
    want = stats.cover_at_tau_posterior([4, 2, 1, 0], 4, [0.5]).mean()
    assert smooth.value == pytest.approx(want)


def test_under_a_stopping_rule_cover_is_the_posterior_only() -> None:
    """c/n is biased upwards where a success ends the sampling; the posterior is what it is."""
    estimates = cover(under_rule(["wcwwwwww", "wwwwwwww"], asked=8, stop_after=1, batch=2))
    assert {e.name for e in estimates} == {"cover_posterior"}


def test_the_unsolved_set_names_problems_and_what_their_solve_rate_may_be() -> None:
    unsolved = unsolved_set(outcomes(["wwww", "cwww", "nnnnneew", ""]))
    assert unsolved.ids == ("p0", "p2")
    assert unsolved.n_samples == (4, 8)
    assert unsolved.bounds == pytest.approx((1 - 0.05**0.25, 1 - 0.05**0.125))
    assert unsolved_set(outcomes(["c"])).ids == ()


def test_expected_unsolved_sizes_average_over_subsets() -> None:
    runs = ["cwww", "ccww", "wwww"]
    estimates = {e.k: e for e in unsolved_sizes(outcomes(runs))}
    for k in (1, 2, 4):
        want = sum(np.mean(["c" not in s for s in combinations(run, k)]) for run in runs)
        assert estimates[k].value == pytest.approx(want)
        assert estimates[k].n_problems == 3
    assert estimates[4].low is not None
    assert estimates[4].low < 1 < (estimates[4].high or 0) <= 3


def test_unsolved_sizes_and_pass_at_k_add_up_under_a_stopping_rule_too() -> None:
    run = under_rule(["ccwwwwww", "wcwwcwww", "wwwwwwww"], asked=8, stop_after=2, batch=4)
    sizes = {e.k: e.value for e in unsolved_sizes(run)}
    for estimate in pass_at_k(run):
        assert estimate.value is not None
        assert sizes[estimate.k] == pytest.approx(3 * (1 - estimate.value))


def test_the_histogram_has_twelve_bins_closed_above() -> None:
    assert len(HISTOGRAM_BINS) == 12
    assert HISTOGRAM_BINS[:2] + HISTOGRAM_BINS[-2:] == ("0", "(0, 0.1]", "(0.9, 1)", "1")
    rates = [0, 1, 2, 3, 7, 9, 10, 10]
    estimates = accuracy_histogram(outcomes(["c" * c + "w" * (10 - c) for c in rates]))
    counts = [e.value for e in estimates]
    #       0  .1 .2 .3 .4 .5 .6 .7 .8 .9 <1 1
    assert counts == pytest.approx([1, 1, 1, 1, 0, 0, 0, 1, 0, 1, 0, 2])
    assert [e.group for e in estimates] == list(HISTOGRAM_BINS)


def test_the_histogram_puts_every_problem_in_one_bin() -> None:
    estimates = accuracy_histogram(outcomes(["c" * c + "w" * (n - c) for n in range(1, 24) for c in range(n + 1)]))
    assert sum(e.value or 0 for e in estimates) == pytest.approx(sum(n + 1 for n in range(1, 24)))
    near_one = next(e for e in estimates if e.group == "(0.9, 1)")
    assert near_one.value == pytest.approx(sum(0.9 < c / n < 1 for n in range(1, 24) for c in range(n + 1)))
