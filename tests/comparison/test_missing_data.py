"""Comparisons, leaderboards and checks where rollouts or verdicts are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlvr_bench.analysis.training_series import series_of
from rlvr_bench.checking import CheckOptions, check_cards
from rlvr_bench.checking.rules import make_rules
from rlvr_bench.cli.show_compare import show_comparison
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.comparison import Difference, compare_cards
from rlvr_bench.comparison.cards import align
from rlvr_bench.comparison.estimates import sound_estimates, unsolved_estimate
from rlvr_bench.errors import RunError
from rlvr_bench.leaderboards import leaderboard, markdown_text
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import Scorecard, encode_scorecard
from tests.comparison.made import card

Pair = tuple[object, ...]
Card = tuple[Path, Scorecard]
HALF = ([1] * 20 + [0] * 20, [1024] * 20 + [64] * 20)


def bounds(item: Difference) -> Pair:
    return item.at_least, item.at_most


def test_a_difference_is_between_what_the_missing_rollouts_could_make_of_it() -> None:
    """Base: 20 of 40 problems have 64 rollouts only. The other run has all, and solves 30."""
    (pair,) = compare_cards([card("base", *HALF), card("rl", [1] * 30 + [0] * 10, 1024)], ks=[64, 1024]).pairs
    small, large = pair.pass_at_k
    assert small.value == pytest.approx((30 * 64 / 1024 - 20 * 64 / 1024) / 40)
    assert small.at_least is None
    assert (large.first, large.second, large.value) == (None, None, None)
    assert bounds(large) == (pytest.approx(0.75 - 1.0), pytest.approx(0.75 - 0.5))
    assert large.p_value == 1.0
    assert large.n_problems == 40


def test_a_difference_that_holds_whatever_is_missing_is_shown() -> None:
    (pair,) = compare_cards([card("base", [0] * 60, 64), card("rl", [30] * 60, [64] * 55 + [32] * 5)], ks=[64]).pairs
    (estimate,) = pair.pass_at_k
    assert (estimate.value, estimate.at_least, estimate.at_most) == (None, 1.0, 1.0)
    assert estimate.p_value is not None
    assert estimate.p_value < 0.01


def with_errors(model: str, c: list[int], n: int, errors: list[int]) -> Card:
    return card(model, c, n, columns={"error": errors})


def test_errors_enter_differences_and_sets_as_bounds() -> None:
    first = with_errors("base", [4, 0, 2, 0], 4, [0, 0, 0, 0])
    second = with_errors("rl", [4, 0, 0, 1], 4, [0, 1, 2, 0])
    with pytest.raises(RunError, match=r"failed on 18.75% .*--allow-errors"):
        compare_cards([first, second])
    (pair,) = compare_cards([first, second], ks=[1, 4], allow_errors=True).pairs
    one, four = pair.pass_at_k
    assert one.value == pytest.approx((5 - 6) / 16)
    assert bounds(one) == (pytest.approx(-1 / 16), pytest.approx(2 / 16))
    assert one.p_value == 1.0
    assert four.value == pytest.approx(0.0)
    assert bounds(four) == (pytest.approx(0.0), pytest.approx(0.5))
    assert pair.gained_bounds == pytest.approx((1.0, 2.0))  # p3 for sure, p1 perhaps
    assert pair.lost_bounds == pytest.approx((0.0, 1.0))  # p2 perhaps


def test_errors_as_often_as_in_the_finding_do_not_make_a_difference() -> None:
    """One policy; the verifier of the second run has no verdict on 30 % of its rollouts."""
    rng = np.random.default_rng(0)
    p = rng.beta(1, 1, 100)
    first, all_right = rng.binomial(64, p), rng.binomial(64, p)
    lost = rng.binomial(all_right, 0.3)
    wrong = rng.binomial(64 - all_right, 0.3)
    runs = [
        card("base", first.tolist(), 64),
        with_errors("rl", (all_right - lost).tolist(), 64, (lost + wrong).tolist()),
    ]
    (pair,) = compare_cards(runs, ks=[1], allow_errors=True).pairs
    (estimate,) = pair.pass_at_k
    assert estimate.value is not None
    assert estimate.value < -0.1
    assert estimate.p_value == 1.0
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 0 < estimate.high


def test_few_errors_leave_everything_as_it_was() -> None:
    plain = [card("base", [4, 0, 2, 0] * 50, 64), card("rl", [4, 0, 0, 1] * 50, 64)]
    few = [with_errors("base", [4, 0, 2, 0] * 50, 64, [1] + [0] * 199), plain[1]]
    assert compare_cards(few).pairs == compare_cards(plain).pairs


def test_an_old_scorecard_is_read_with_bounds() -> None:
    file, old = card("base", *HALF)
    old.estimates.append(Estimate(name="pass@k", k=1024, value=1.0, low=0.8, high=1.0, n_problems=20))
    old.estimates.append(Estimate(name="unsolved", k=64, value=20.0, low=14.0, high=26.0, n_problems=40))
    _, (counts,), _ = align([(file, old)])
    mended = {item.name: item for item in sound_estimates(old, counts)}
    assert (mended["pass@k"].value, mended["pass@k"].at_least, mended["pass@k"].at_most) == (None, 0.5, 1.0)
    assert mended["unsolved"].value == pytest.approx(38.75)
    assert unsolved_estimate(counts, 16).value == pytest.approx(40 - 20 * 16 / 1024)


def saved(folder: Path, made: Card) -> Path:
    file = folder / f"{made[1].run.model}.json"
    file.write_bytes(encode_scorecard(made[1]))
    return file


def test_a_leaderboard_has_bounds_and_one_budget_of_unsolved_problems(tmp_path: Path) -> None:
    files = [saved(tmp_path, card("half", *HALF)), saved(tmp_path, card("all", [1] * 30 + [0] * 10, 1024))]
    board = leaderboard(files, ks=[1, 64, 1024])
    half, every = (next(row for row in board.rows if row["model"] == name) for name in ("half", "all"))
    assert (half["pass@1024"], half["pass@1024_at_least"], half["pass@1024_at_most"]) == (None, 0.5, 1.0)
    assert half["rank@1024"] is None
    assert every["pass@1024"] == 0.75
    assert every["pass@1024_at_least"] is None
    text = markdown_text(board.rows, board.ks)
    assert "unsolved in 64" in text
    assert "| 38.8 |" in text  # 38.75
    assert "| 38.1 |" in text  # 40 - 30/16
    assert "50.0 to 100.0" in text


def test_a_check_is_red_or_green_only_if_it_is_whatever_is_missing() -> None:
    rules = make_rules({"pass@64": 0.05}, {})
    baseline = card("m", [32] * 100, 64)

    def outcome(run: Card, **options: float) -> str:
        return check_cards([run], [baseline], rules, CheckOptions(looks="one", **options)).outcome  # type: ignore[arg-type]

    assert outcome(card("m", [0] * 100, [64] * 80 + [32] * 20)) == "regression"
    assert outcome(card("m", [0] * 20 + [32] * 80, [32] * 20 + [64] * 80)) == "cannot_tell"
    assert outcome(card("m", [16] * 20 + [32] * 80, [32] * 20 + [64] * 80)) == "ok"
    errors = with_errors("m", [0] * 20 + [32] * 80, 64, [40] * 20 + [0] * 80)
    assert outcome(errors, max_error_rate=0.2) == "cannot_tell"
    (finding,) = check_cards([errors], [baseline], rules, CheckOptions(max_error_rate=0.2)).findings
    assert finding.worse_by == pytest.approx(0.0, abs=1e-9)
    assert finding.at_most == pytest.approx(0.2)
    assert finding.source == "rollouts"


def test_where_a_rule_seems_to_be_at_work_only_bounds_are_claimed() -> None:
    n, c = [16] * 30 + [640] * 30, [4] * 30 + [1] * 15 + [0] * 15
    comparison = compare_cards([card("base", [8] * 60, 640), card("rl", c, n)], ks=[16])
    (pair,) = comparison.pairs
    assert pair.pass_at_k[0].value is None
    assert pair.pass_at_k[0].at_least is not None
    assert (pair.crossover.k, pair.boundary.gains, pair.boundary.losses) == (None, None, None)
    assert any("n seems to depend on what was found" in note for note in comparison.notes)


def test_a_series_has_bounds_where_a_checkpoint_lacks_rollouts() -> None:
    cards = [card("m@0", *HALF), card("m@10", [1] * 30 + [0] * 10, 1024)]
    for _, scorecard in cards:
        scorecard.estimates.append(Estimate(name="pass@k", k=1024, value=1.0, n_problems=20))
    cards[1][1].estimates[0] = Estimate(name="pass@k", k=1024, value=0.75, n_problems=40)
    (at_1024,) = [metric for metric in series_of(cards).metrics if metric.k == 1024]
    assert at_1024.values == (None, 0.75)
    assert (at_1024.at_least, at_1024.at_most) == ((0.5, None), (1.0, None))


def test_bounds_of_a_check_hold_at_every_look_and_no_more_rollouts_are_asked_for() -> None:
    rules = make_rules({"pass@64": 0.05}, {})
    baseline, run = card("m", [32] * 100, 64), card("m", [16] * 20 + [32] * 80, [32] * 20 + [64] * 80)
    (one,) = check_cards([run], [baseline], rules, CheckOptions(looks="one")).findings
    (every,) = check_cards([run], [baseline], rules, CheckOptions(looks="any")).findings
    assert (one.looks, every.looks) == ("one", "any")
    assert every.high > one.high
    assert (every.outcome, every.needed, every.next_look) == ("cannot_tell", None, None)


def test_looks_widen_differences_with_bounds() -> None:
    runs = [card("base", *HALF), card("rl", [1] * 30 + [0] * 10, 1024)]
    one = compare_cards(runs, ks=[1024], looks="one").pairs[0].pass_at_k[0]
    every = compare_cards(runs, ks=[1024], looks="any").pairs[0].pass_at_k[0]
    assert bounds(one) == bounds(every)
    assert (every.low or 0) < (one.low or 0)
    assert (every.high or 0) > (one.high or 0)


def test_a_difference_with_bounds_is_printed_with_them(capsys: pytest.CaptureFixture[str]) -> None:
    show_comparison(Terminal(), compare_cards([card("base", *HALF), card("rl", [1] * 30 + [0] * 10, 1024)], ks=[1024]))
    assert "-25.0 to +25.0 pts" in capsys.readouterr().out
