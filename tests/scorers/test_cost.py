"""Tokens to the first success, against every order of the rollouts and against a policy that stops."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from rlvr_bench.scorers.cost import expected_cost, tokens_to_first_success
from tests.scorers.made import outcomes, under_rule
from tests.scorers.test_scorecard import scored


def spent(run: list[tuple[str, int]]) -> int:
    """Tokens until the first correct rollout, or of all rollouts."""
    ends = [i for i, (letter, _) in enumerate(run) if letter == "c"]
    return sum(tokens for _, tokens in run[: ends[0] + 1 if ends else len(run)])


@pytest.mark.parametrize("letters", ["c", "w", "cw", "wc", "ccww", "cwne", "wwwww", "ccccc", "cwwwww", "ecnwc"])
def test_the_closed_form_is_the_mean_over_all_orders(letters: str) -> None:
    tokens = np.array([7, 100, 1, 30, 12, 5], dtype=np.int32)[: len(letters)]
    orders = [spent(list(order)) for order in permutations(zip(letters, tokens.tolist(), strict=True))]
    assert expected_cost(outcomes([letters], n_tokens=tokens)) == pytest.approx([np.mean(orders)])


def test_it_is_unbiased_for_a_policy_that_stops_at_its_first_success_or_after_n() -> None:
    """Every outcome of 4 rollouts by its probability: a success has 10 tokens, a failure 3 or 50."""
    kinds = {("c", 10): 0.3, ("w", 3): 0.5, ("w", 50): 0.2}
    truth = estimated = 0.0
    for run in product(kinds, repeat=4):
        weight = float(np.prod([kinds[rollout] for rollout in run]))
        tokens = np.array([tokens for _, tokens in run], dtype=np.int32)
        truth += weight * spent(list(run))
        estimated += weight * float(expected_cost(outcomes(["".join(letter for letter, _ in run)], n_tokens=tokens))[0])
    assert estimated == pytest.approx(truth)


def test_an_unsolved_problem_counts_what_it_spent_and_the_note_says_so() -> None:
    """p0 costs 10/2 + 10 = 15 tokens; p1 at least 20; p2 has no rollouts."""
    every, solved = tokens_to_first_success(outcomes(["cw", "ww", ""]))
    assert (every.value, every.n_problems, every.group) == (17.5, 2, None)
    assert every.note == "a lower bound: 1 of 2 problems are unsolved and count the tokens of all their rollouts"
    assert (solved.value, solved.n_problems, solved.group) == (15.0, 1, "solved")
    assert solved.note == "1 of 2 problems are unsolved and are left out"


def test_without_unsolved_problems_both_are_the_same_and_have_no_note() -> None:
    every, solved = tokens_to_first_success(outcomes(["cw", "cc"]))
    assert (every.value, every.low, every.high) == (solved.value, solved.low, solved.high)
    assert every.note is None is solved.note


def test_where_nothing_is_solved_the_cost_per_success_has_no_value() -> None:
    every, solved = tokens_to_first_success(outcomes(["ww", "wn"]))
    assert every.value == 20.0
    assert (solved.value, solved.note) == (None, "2 of 2 problems are unsolved and are left out")


def test_unknown_lengths_give_no_value() -> None:
    for estimate in tokens_to_first_success(outcomes(["cw", "ww"], unknown=("n_tokens",))):
        assert (estimate.value, estimate.note) == (None, "not measured")


def test_no_rollouts_no_estimate() -> None:
    assert tokens_to_first_success(outcomes(["", ""])) == []


def test_under_a_stopping_rule_the_first_batch_counts() -> None:
    """Of wc, stopped after the batch of two, and of wwwwww: the costs of two rollouts each."""
    run = under_rule(["wcwwww", "wwwwww"], asked=6, stop_after=1, batch=2)
    (every,) = (e for e in scored(run).estimates if e.name == "tokens_to_first_success" and e.group is None)
    assert every.value == pytest.approx((15 + 20) / 2)
