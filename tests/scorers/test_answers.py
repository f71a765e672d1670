"""Votes, distinct answers and guesses on hand-made answers, against enumeration and hand-worked numbers."""

from __future__ import annotations

from itertools import combinations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_bench import stats
from rlvr_bench.errors import BadArgument
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers import diversity, guessing, maj
from rlvr_bench.scorers.answers import answer_counts
from rlvr_bench.scorers.diversity import distinct_answers, distinct_texts
from rlvr_bench.scorers.guessing import guess_chances
from rlvr_bench.scorers.votes import vote_ks, vote_table
from tests.scorers.made import outcomes


def answered(*problems: str, correct: str = "c") -> Outcomes:
    """One string per problem, one letter per answer: those in ``correct`` are right, ``-`` gives no answer."""
    letters = {"-": -1, **{letter: code for code, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}}
    codes = np.array([letters[letter] for problem in problems for letter in problem], dtype=np.int32)
    statuses = ["".join("c" if x in correct else "n" if x == "-" else "w" for x in problem) for problem in problems]
    return outcomes(statuses, answer=codes)


def votes_by_enumeration(problem: str, k: int, correct: str = "c") -> float:
    won = []
    for subset in combinations(problem, k):
        given = ["*" if x in correct else x for x in subset if x != "-"]
        tally = {x: given.count(x) for x in given}
        leaders = [x for x, count in tally.items() if count == max(tally.values())]
        won.append(("*" in leaders) / max(len(leaders), 1))
    return float(np.mean(won))


def by_key(estimates: list[Estimate]) -> dict[tuple[str, int | None, str | None], Estimate]:
    return {(e.name, e.k, e.group): e for e in estimates}


@pytest.mark.parametrize("problem", ["ccccbbbbdd", "cc-bb-a--d", "aabbc", "--------", "cccc", "ccbb"])
def test_the_vote_is_exact_for_one_rollout_and_for_all(problem: str) -> None:
    n = len(problem)
    votes = vote_table(answered(problem), [1, n])[0]
    assert votes == pytest.approx([problem.count("c") / n, votes_by_enumeration(problem, n)])


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_the_vote_in_between_agrees_with_every_subset(k: int) -> None:
    """300 copies of the problem: 0.5 / sqrt(300 * 64 orders) is 0.0036 or less, four of which are allowed."""
    problem = "cc-bb-accd"
    table = vote_table(answered(*[problem] * 300), [k])
    assert table.mean() == pytest.approx(votes_by_enumeration(problem, k), abs=0.015)


def test_the_vote_agrees_with_the_exact_formula_where_all_answer() -> None:
    problem = "c" * 9 + "b" * 8 + "a" * 4 + "d"
    exact = stats.maj_at_k([[9, 8, 4, 1]], [0], [4, 16])[0]
    assert vote_table(answered(*[problem] * 300), [4, 16]).mean(axis=0) == pytest.approx(exact, abs=0.015)


def test_several_correct_spellings_vote_together() -> None:
    run = answered("xxyybbb", correct="xy")
    assert vote_table(run, [7])[0, 0] == 1.0
    assert vote_table(answered("xxyybbb", correct="x"), [7])[0, 0] == 0.0


def test_a_problem_with_too_few_rollouts_gives_bounds_of_the_vote() -> None:
    estimates = by_key(maj(answered("cccb", "bb"), ks=[1, 2, 4]))
    assert estimates["maj@k", 1, None].value == pytest.approx((0.75 + 0) / 2)
    vote = estimates["maj@k", 4, None]
    assert (vote.value, vote.at_least, vote.at_most, vote.n_problems) == (None, 0.5, 1.0, 2)
    assert vote.note == "1 of 2 problems have fewer than 4 rollouts: bounds over what these could be"
    assert maj(outcomes([""])) == []


def test_the_vote_grid_is_powers_of_four_and_n() -> None:
    assert vote_ks(1024) == [1, 4, 16, 64, 256, 1024]
    assert vote_ks(100) == [1, 4, 16, 64, 100]
    assert vote_ks(0) == []


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text("abc-", min_size=1, max_size=9), min_size=1, max_size=4))
def test_counts_hold_every_answer_once(problems: list[str]) -> None:
    table = answer_counts(answered(*problems)).table(len(problems))
    assert table.sum() == sum(len(x) - x.count("-") for x in problems)
    assert table[:, 0].tolist() == [x.count("c") for x in problems]
    for row, problem in zip(table, problems, strict=True):
        assert sorted(row[row > 0]) == sorted(problem.count(x) for x in set(problem) - {"-"})


def test_distinct_answers_are_those_of_an_average_subset() -> None:
    problem = "ccccbbbdd-"
    given = problem.replace("-", "")
    sets = [len(set(subset)) for subset in combinations(given, 3)]
    assert distinct_answers(answered(problem, "c"), [3])[0, 0] == pytest.approx(np.mean(sets))
    assert np.mean(sets) == pytest.approx(187 / 84)
    assert np.isnan(distinct_answers(answered(problem, "c"), [3])[1, 0])


def test_diversity_by_hand() -> None:
    estimates = by_key(diversity(answered("ccbb", "aabd", "--cc"), ks=[2, 4]))
    # Pairs with two different answers: 4 of 6, 5 of 6, and none of 1.
    assert estimates["distinct_answers@k", 2, None].value == pytest.approx(1 + (4 / 6 + 5 / 6 + 0) / 3)
    assert estimates["distinct_answers@k", 4, None].n_problems == 2
    assert estimates["distinct_answers@k", 4, None].note == "1 of 3 problems have fewer than 4 answers and are left out"
    # Entropy plus (D - 1) / 2n; of wrong answers: b b, then a a b d, the third problem has none.
    whole = np.log(2) + 1 / 8, 1.5 * np.log(2) + 2 / 8, 0.0
    assert estimates["answer_entropy", None, None].value == pytest.approx(np.mean(whole))
    assert estimates["answer_entropy", None, "wrong"].value == pytest.approx((0 + whole[1]) / 2)
    assert estimates["answer_entropy", None, "wrong"].n_problems == 2
    assert estimates["answer_entropy", None, "wrong"].n_samples == 2


def test_diversity_without_any_answer_is_not_measured() -> None:
    estimates = by_key(diversity(answered("--", "-")))
    assert estimates["answer_entropy", None, None].value is None
    assert estimates["answer_entropy", None, None].note == "not measured"


def test_uniform_guesses_reach_one_minus_the_miss_rate() -> None:
    estimates = by_key(guessing(answered("cb", "cc"), ks=[1, 4], answer_space=10))
    assert estimates["guess@k", 4, "uniform"].value == pytest.approx(1 - 0.9**4)
    assert by_key(guessing(answered("cb"), ks=[3], answer_space=1))["guess@k", 3, "uniform"].value == 1.0
    with pytest.raises(BadArgument, match="answer_space is 0"):
        guessing(answered("cb"), answer_space=0)


def test_own_guesses_are_the_wrong_answers_of_other_problems() -> None:
    """p0's right answer is a: of p1's wrong answers 1 in 2 is a, of p2's 1 in 4: 0.375, each problem counting once."""
    codes = np.array([0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 3], dtype=np.int32)
    run = outcomes(["cc", "ccww", "cwwww"], answer=codes)
    # p0: aa right. p1: b right, wrong a c. p2: c right, wrong a d d d.
    assert guess_chances(run).tolist() == pytest.approx([0.375, 0.0, 0.5])
    estimate = by_key(guessing(run, ks=[2]))["guess@k", 2, "own answers"]
    assert estimate.value == pytest.approx(np.mean([1 - 0.625**2, 0, 1 - 0.5**2]))
    assert estimate.note is None


def test_an_unsolved_problem_is_guessed_like_the_others_and_a_lone_one_not_at_all() -> None:
    codes = np.array([0, 1, 1, 0, 2, 2], dtype=np.int32)
    run = outcomes(["cw", "cw", "ww"], answer=codes)  # p0: a, wrong b. p1: b, wrong a. p2: wrong c c.
    assert guess_chances(run)[:2].tolist() == pytest.approx([0.5, 0.5])
    estimate = by_key(guessing(run, ks=[1]))["guess@k", 1, "own answers"]
    assert estimate.value == pytest.approx(0.5)
    assert estimate.note is not None
    assert estimate.note.startswith("1 problems were never solved")
    assert guessing(answered("cb")) == []


def test_guesses_at_the_right_rate_are_recovered() -> None:
    """A run that only guesses among 20 answers solves what the baseline says it would."""
    rng = np.random.default_rng(3)
    gold, guesses = rng.integers(0, 20, 200), rng.integers(0, 20, (200, 64))
    statuses = ["".join("c" if x == right else "w" for x in row) for row, right in zip(guesses, gold, strict=True)]
    run = outcomes(statuses, answer=guesses.ravel().astype(np.int32))
    estimates = by_key(guessing(run, ks=[1, 16], answer_space=20))
    for k in (1, 16):
        uniform = estimates["guess@k", k, "uniform"].value
        assert uniform == pytest.approx(1 - 0.95**k)
        assert estimates["guess@k", k, "own answers"].value == pytest.approx(uniform, rel=0.03)


def test_guess_at_k_of_a_half_solved_run_is_that_of_all_its_problems() -> None:
    """Of 20 solved and 20 unsolved problems 2 each have the answer 0, which half of the wrong answers to 18 others are."""
    golds = [0, 0, *range(100, 118), 0, 0, *range(200, 218)]
    answers: list[int] = []
    for i, gold in enumerate(golds):
        wrong_answer = 300 + i
        answers += [gold, wrong_answer] * 8 if i < 20 else [0 if gold else wrong_answer, wrong_answer] * 8
    known = tuple(gold if gold in answers else -1 for gold in golds)
    run = outcomes(["cw" * 8] * 20 + ["w" * 16] * 20, answer=np.array(answers, dtype=np.int32), golds=known)
    estimates = {e.k: e for e in guessing(run, ks=[1, 16, 64]) if e.group == "own answers"}
    for k in (1, 16, 64):  # 9 of the 39 other problems' wrong answers, each problem counting once
        assert estimates[k].value == pytest.approx(0.1 * (1 - (1 - 9 / 39) ** k))
        assert estimates[k].n_problems == 40
        assert estimates[k].note is None


def test_unknown_golds_count_as_the_mean_of_the_known_values_at_each_k() -> None:
    codes = np.array([0, 1, 1, 0, 2, 2, 3, 4], dtype=np.int32)
    run = outcomes(
        ["cw", "cw", "ww", "cw"], answer=codes
    )  # p0: a, wrong b. p1: b, wrong a. p2: wrong c c. p3: d, wrong e.
    chances = guess_chances(run)
    assert chances.tolist() == pytest.approx([1 / 3, 1 / 3, np.nan, 0.0], nan_ok=True)
    for k in (1, 4):
        estimate = by_key(guessing(run, ks=[k]))["guess@k", k, "own answers"]
        assert estimate.value == pytest.approx((1 - (2 / 3) ** k) * 2 / 3)
        assert estimate.n_problems == 3


def test_a_gold_that_is_not_written_as_answers_are_says_nothing() -> None:
    """The golds of the solved problems are not among the accepted answers: an unsolved one is not known to be unreachable."""
    codes = np.array([0, 1, 1, 0, 2, 2], dtype=np.int32)
    worked = outcomes(["cw", "cw", "ww"], answer=codes, golds=(-1, -1, -1))
    assert np.isnan(guess_chances(worked)[2])
    plain = outcomes(["cw", "cw", "ww"], answer=codes, golds=(0, 1, -1))
    assert guess_chances(plain)[2] == 0.0
    reachable = outcomes(["cw", "cw", "ww"], answer=codes, golds=(0, 1, 0))
    assert guess_chances(reachable)[2] == pytest.approx(0.5)


def test_texts_and_wrong_answers_are_counted_at_a_common_number() -> None:
    run = answered("ccbbad", "ccc")
    estimates = by_key(diversity(run, ks=[2]))
    pairs = list(combinations("bbad", 2))
    assert estimates["wrong_answer_entropy@k", 2, None].value == pytest.approx(
        np.mean([np.log(2) * (a != b) for a, b in pairs])
    )
    assert estimates["wrong_answer_entropy@k", 2, None].n_problems == 1
    everything = np.mean([np.log(2) * (a != b) for a, b in combinations("ccbbad", 2)])
    assert estimates["answer_entropy@k", 2, None].value == pytest.approx((everything + 0) / 2)


def test_distinct_texts_are_those_of_an_average_subset() -> None:
    texts = [0, 0, 1, 2, 2, 2, 7, 7, 0]
    run = msgspec.structs.replace(answered("ccbbad", "ccc"), text=np.array(texts, dtype=np.int32))
    want = [np.mean([len(set(part)) for part in combinations(of_problem, 3)]) for of_problem in (texts[:6], texts[6:])]
    np.testing.assert_allclose(distinct_texts(run, [3, 4])[:, 0], want)
    assert np.isnan(distinct_texts(run, [4])[1, 0])
