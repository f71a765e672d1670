"""A rule that stopped on other verdicts than those in force: which rollouts count, and that the mean is right."""

from __future__ import annotations

import itertools
import math
from typing import Any

import msgspec
import numpy as np
import pytest

from rlvr_bench.errors import RunError
from rlvr_bench.records import Outcomes
from rlvr_bench.scorers import boundary, pass_at_k
from rlvr_bench.scorers.counts import Counts
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.scorers.stopping import always_drawn, settled
from rlvr_bench.scorers.warnings import warnings_of
from tests.conftest import manifest_with
from tests.scorers.made import outcomes, under_rule
from tests.scorers.test_scorecard import GRADING


def regraded(then: list[str], now: list[str], asked: int, stop_after: int, batch: int) -> Outcomes:
    """Problems drawn in full with two verdicts for each rollout: cut by the rule on ``then``, with those of ``now``."""
    cut = under_rule(then, asked, stop_after, batch)
    fresh = [text[:n] for text, n in zip(now, cut.n_samples, strict=True)]
    status = outcomes(fresh).status
    others = [("old-0", cut.status == 0)]
    return settled(msgspec.structs.replace(cut, status=status), others, on_record=True)


def truth(run: Outcomes, k: int) -> tuple[Any, ...]:
    (estimate,) = pass_at_k(run, ks=[k])
    return estimate.value, estimate.at_least, estimate.at_most


@pytest.mark.parametrize(("stop_after", "batch"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_whatever_the_verdicts_turn_into_pass_at_k_of_a_regraded_run_is_right_on_average(
    stop_after: int, batch: int
) -> None:
    """Every pair of verdicts of four rollouts of two problems, as likely as their kinds say, scored as a run."""
    asked, chances = 4, {"cc": 0.2, "cw": 0.2, "wc": 0.25, "ww": 0.35}
    p = chances["cc"] + chances["wc"]
    always = always_drawn(under_rule(["wwww"], asked, stop_after, batch).stopping, asked)  # type: ignore[arg-type]
    low, high = np.zeros(asked), np.zeros(asked)
    for kinds in itertools.product(chances, repeat=asked):
        weight = math.prod(chances[kind] for kind in kinds)
        then, now = ("".join(kind[i] for kind in kinds) for i in (0, 1))
        run = regraded([then, "wwww"], [now, "wwww"], asked, stop_after, batch)
        bounds = Counts.of_outcomes(run).bounds(range(1, asked + 1))
        low, high = low + weight * bounds.low[0], high + weight * bounds.high[0]
    want = 1 - (1 - p) ** np.arange(1, asked + 1)
    assert low[:always] == pytest.approx(want[:always], abs=1e-12)
    assert high[:always] == pytest.approx(want[:always], abs=1e-12)
    assert (low <= want + 1e-12).all()
    assert (want <= high + 1e-12).all()


def test_what_the_regrade_changes_is_counted_and_said() -> None:
    then = ["ccwwwwww", "wwccwwww", "wcwcwwww", "wwwwwwww"]
    now = ["wcwwwwww", "ccwwwwww", "wcwcwwww", "wwwwwwwc"]
    run = regraded(then, now, asked=8, stop_after=2, batch=2)
    assert run.n_samples.tolist() == [2, 4, 4, 8]
    assert run.restopped is not None
    assert (run.restopped.longer, run.restopped.sooner, run.restopped.used) == (1, 1, "all rollouts")
    assert run.restopped.stopped_on == "old-0"
    card = make_scorecard(manifest_with(n=8, stopping=run.stopping), GRADING, run)
    assert card.run.restopped == run.restopped
    assert card.stopped_on["p1"].correct == 2
    assert card.stopped_on["p1"].both == 0
    (warning,) = [text for text in warnings_of(card.run, card.quality) if "stopping rule" in text]
    assert "(old-0)" in warning
    assert "stopped 1 problems sooner and drawn on at 1" in warning


def test_a_run_topped_up_after_the_regrade_is_cut_at_the_rule_s_stop() -> None:
    """The old verdicts stopped late, the new ones, by which it was topped up, soon: what is between is no fair sample."""
    run = under_rule(["wwwwwwcw", "wwwwwwww"], asked=8, stop_after=1, batch=2)
    status = run.status.copy()
    status[1] = 0  # now right, which the rule did not know
    cut = settled(msgspec.structs.replace(run, status=status))
    assert cut.n_samples.tolist() == [2, 8]
    assert cut.restopped is not None
    assert (cut.restopped.longer, cut.restopped.sooner, cut.restopped.used) == (0, 1, "up to the stop")
    assert truth(cut, 1)[0] == pytest.approx(0.25)
    assert truth(msgspec.structs.replace(run, status=status), 1)[0] == pytest.approx(0.25)


def test_where_no_verdicts_explain_the_run_only_what_the_rule_always_draws_is_used() -> None:
    run = under_rule(["ccww", "wwwcwwwc", "wwwwwwww"], asked=8, stop_after=2, batch=4)
    status = run.status.copy()
    status[:2] = 1
    lost = settled(msgspec.structs.replace(run, status=status), [("else", np.zeros(len(status), dtype=bool))])
    assert lost.restopped is not None
    assert lost.restopped.used == "first rollouts"
    assert lost.stopping is None
    assert lost.n_samples.tolist() == [4, 4, 4]
    assert truth(lost, 4)[0] == pytest.approx(1 / 3)
    assert truth(lost, 8) == (None, pytest.approx(1 / 3), 1.0)
    assert boundary(lost)[0].k == 4


def test_verdicts_that_do_not_touch_the_rule_change_nothing() -> None:
    run = under_rule(["ccww", "wwwcwwwc", "wwwwwwww"], asked=8, stop_after=2, batch=4)
    assert settled(run, [("other", np.zeros(len(run.status), dtype=bool))]) is run


def test_a_lost_rollout_and_an_unfinished_run_are_errors_that_say_what_to_do() -> None:
    run = under_rule(["ccww", "wwwwwwww"], asked=8, stop_after=2, batch=4)
    keep = np.ones(len(run.status), dtype=bool)
    keep[6] = False
    with pytest.raises(RunError, match="problem p1 are missing between others.*Run the same evaluate again"):
        pass_at_k(run.only(keep))
    with pytest.raises(RunError, match="not drawn to the end"):
        pass_at_k(run.only(run.index < 4))


@pytest.mark.parametrize("stop_after", [1, 2])
def test_errors_under_a_rule_are_bounds_that_enclose_what_they_could_be(stop_after: int) -> None:
    """Each error is right with a chance of its own; the rule has taken it as wrong."""
    asked, batch = 4, 2
    chances = {"c": 0.2, "e": 0.3, "w": 0.5}
    low, high = np.zeros(asked), np.zeros(asked)
    for kinds in itertools.product(chances, repeat=asked):
        weight = math.prod(chances[kind] for kind in kinds)
        run = under_rule(["".join(kinds), "eeee"], asked, stop_after, batch)
        bounds = Counts.of_outcomes(run).bounds(range(1, asked + 1))
        low, high = low + weight * bounds.low[0], high + weight * bounds.high[0]
    ks = np.arange(1, asked + 1)
    assert low == pytest.approx(1 - 0.8**ks, abs=1e-12)
    assert high == pytest.approx(1 - 0.5**ks, abs=1e-12)
