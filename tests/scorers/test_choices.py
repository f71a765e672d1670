"""Choice problems: what guessing reaches, and pass@k corrected for it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from rlvr_bench.records import Outcomes
from rlvr_bench.scorers import guessing, pass_at_k
from rlvr_bench.scorers.guessing import corrected
from tests.scorers.made import outcomes, under_rule

OPTIONS = (3, 4, 10)


def drawn(rng: np.random.Generator, options: tuple[int, ...], n: int, known: float = 0.0) -> Outcomes:
    """A run of a model that knows a share of the answers, and picks one of the options where it does not."""
    knows = rng.random(len(options)) < known
    chances = np.where(knows, 1.0, 1 / np.array(options))
    statuses = ["".join("c" if u < chance else "w" for u in rng.random(n)) for chance in chances]
    return outcomes(statuses, options=options)


def test_guessing_is_exact_for_different_numbers_of_options() -> None:
    run = outcomes(["cw", "wc", "ww"], options=OPTIONS)
    by_k = {e.k: e for e in guessing(run, ks=[1, 2]) if e.group == "uniform"}
    assert by_k[1].value == pytest.approx((1 / 3 + 1 / 4 + 1 / 10) / 3)
    assert by_k[2].value == pytest.approx(np.mean([1 - (2 / 3) ** 2, 1 - 0.75**2, 1 - 0.9**2]))
    assert by_k[2].low is None


def test_options_win_over_a_declared_number_of_answers() -> None:
    run = outcomes(["cw"], options=(4,))
    assert [e.value for e in guessing(run, ks=[1], answer_space=1000) if e.group == "uniform"] == [0.25]


def test_the_correction_of_a_guesser_contains_zero_as_often_as_it_says() -> None:
    rng, options, runs = np.random.default_rng(5), (3, 4, 4, 10) * 15, 120
    inside = dict.fromkeys((1, 2, 4), 0)
    for _ in range(runs):
        for e in corrected(drawn(rng, options, 8), ks=list(inside)):
            assert e.low is not None
            assert e.high is not None
            assert e.k is not None
            inside[e.k] += e.low <= 0 <= e.high
    # Of 120 intervals at 95 %, fewer than 107 hold once in a thousand tries.
    assert all(count >= 107 for count in inside.values()), inside


def test_the_correction_of_a_model_that_knows_a_share_is_that_share() -> None:
    run = drawn(np.random.default_rng(2), (4,) * 4000, 4, known=0.3)
    for e in corrected(run, ks=[1, 2, 4]):
        assert e.value == pytest.approx(0.3, abs=0.03)


def test_interval_and_bounds_are_those_of_pass_at_k_under_the_same_map() -> None:
    run = outcomes(["ccwe", "wwww", "cw", "wwwc"], options=(4, 4, 4, 4))
    for plain, moved in zip(pass_at_k(run, [1, 4]), corrected(run, ks=[1, 4]), strict=True):
        luck = 1 - 0.75 ** (plain.k or 0)
        for field in ("value", "low", "high", "at_least", "at_most"):
            before, after = getattr(plain, field), getattr(moved, field)
            assert (before is None) == (after is None)
            assert before is None or after == pytest.approx((before - luck) / (1 - luck))
    assert corrected(run, ks=[4])[0].value is None  # a problem has two rollouts


def test_where_guessing_reaches_nine_tenths_there_is_no_value_but_a_reason() -> None:
    run = drawn(np.random.default_rng(0), (4,) * 20, 16)
    before, at = corrected(run, ks=[8, 16])
    assert before.value is not None  # 1 - 0.75^8 = 0.8999
    assert (at.value, at.low, at.high) == (None, None, None)
    assert at.note == "guessing alone reaches 99.0% at this k"


def test_a_run_under_a_stopping_rule_is_corrected_too() -> None:
    run = under_rule(["cw", "wwwwwwww", "cw", "wwcw"], asked=8, stop_after=1, batch=2)
    fixed = msgspec.structs.replace(run, options=(4, 4, 4, 4))
    (plain,), (moved,) = pass_at_k(run, [1]), corrected(fixed, ks=[1])
    assert plain.value is not None
    assert moved.value == pytest.approx((plain.value - 0.25) / 0.75)


def test_without_options_there_is_no_correction() -> None:
    assert corrected(outcomes(["cw", "ww"])) == []
    assert corrected(outcomes(["cw", "ww"], options=(4, 0))) == []
    assert corrected(outcomes([""], options=(4,))) == []
