# ruff: noqa: E501  the tables are easier to read in long rows
from __future__ import annotations

import re

import pytest

from rlvr_bench.errors import GoldError, UnknownName, VerifierError
from rlvr_bench.records import Problem
from rlvr_bench.verifiers import VERIFIERS, Verifier, open_verifier


def decide(verifier: Verifier, gold: str, answer: str) -> tuple[str, str | None]:
    verdict = verifier.verify(answer, Problem(id="p", question="", answer=gold))
    return verdict.status, verdict.kind


@pytest.mark.parametrize("name", sorted(set(VERIFIERS) - {"function"}))
def test_every_verifier_says_who_it_is(name: str) -> None:
    verifier = open_verifier(name)
    assert verifier.name == name
    assert verifier.version
    assert all(isinstance(option, str) for option in verifier.options)
    assert open_verifier(name, **verifier.options) == verifier


def test_unknown_names_and_options_are_listed() -> None:
    with pytest.raises(UnknownName, match="math") as error:
        open_verifier("maths")
    assert "Did you mean 'math'" in str(error.value)
    with pytest.raises(VerifierError, match=r"no option colour. It has: .*policy"):
        open_verifier("math", colour="red")
    with pytest.raises(VerifierError, match="function"):
        open_verifier("function")
    with pytest.raises(VerifierError, match="unknown extraction policy"):
        open_verifier("math", policy="somewhere")


def test_exact() -> None:
    verifier = open_verifier("exact")
    assert decide(verifier, "New  York", " New York") == ("correct", None)
    assert decide(verifier, "new york", "New York")[0] == "wrong"
    assert decide(open_verifier("exact", ignore_case=True), "new york", "New York")[0] == "correct"
    assert decide(verifier, "12", "12")[0] == "correct"


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [("73", "073", True), ("1234", "1,234", True), ("27.0", "27", True), ("5", "$5$", True), ("5", "\\text{5}", True), ("-3", "−3", True), ("18", "\\$18", True), ("18", "$18", True), ("70000", "70{,}000", True), ("5", "**5**", True),
     ("5", "6", False), ("5", "5.5", False), ("5", "five", False), ("5", "", False), ("5", "5 6", False), ("5", "9" * 5000, False), ("1234", "12,34", False), ("5", "5x", False)],
)  # fmt: skip
def test_integer(gold: str, answer: str, right: bool) -> None:
    assert decide(open_verifier("integer"), gold, answer)[0] == ("correct" if right else "wrong")


def test_integer_needs_an_integer_gold_and_says_why_an_answer_is_wrong() -> None:
    assert decide(open_verifier("integer"), "5", "x") == ("wrong", "not_an_integer")
    with pytest.raises(VerifierError, match="'p'"):
        decide(open_verifier("integer"), "x", "5")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("C", True),
        ("(C)", True),
        ("c", True),
        ("C) 42", True),
        ("\\text{(C)}", True),
        ("D", False),
        ("Cat", False),
        ("", False),
        ("C.", True),
    ],
)
def test_choice(answer: str, right: bool) -> None:
    assert decide(open_verifier("choice"), "C", answer)[0] == ("correct" if right else "wrong")


def test_regex() -> None:
    assert decide(open_verifier("regex"), "ab+", "abbb")[0] == "correct"
    assert decide(open_verifier("regex"), "ab+", "abbbc")[0] == "wrong"
    assert decide(open_verifier("regex", pattern="\\d", ignore_case=True), "", "7")[0] == "correct"
    with pytest.raises(VerifierError, match=r"option pattern: '\[' is not a regular expression"):
        open_verifier("regex", pattern="[")


@pytest.mark.parametrize(
    ("name", "options", "answer", "gold"),
    [
        ("integer", {}, " 073 ", "073"), ("integer", {}, "She has 80 - 8 = 72 eggs.\n#### 72", "72"), ("integer", {}, "So $x = \\boxed{9}$, which is odd.", "9"),
        ("choice", {}, "c", "C"), ("choice", {}, "(J)", "J"), ("choice", {}, "It is hot, so \\boxed{B}.", "B"),
        ("exact", {}, "New York", "New York"), ("regex", {}, " a+", " a+"), ("regex", {"pattern": "a"}, "", ""), ("code", {}, "", ""), ("countdown", {}, "", ""), ("reasoning_gym", {}, "", ""), ("function", {"function": "a:b"}, "", ""),
    ],
)  # fmt: skip
def test_a_gold_is_read_also_out_of_a_worked_solution(
    name: str, options: dict[str, str], answer: str, gold: str
) -> None:
    assert open_verifier(name, **options).read_gold(answer) == gold


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("integer", "x", "'x' is not an integer"), ("integer", "", "'' is not an integer"), ("integer", "First \\boxed{8}, then \\boxed{9}.", "not an integer"), ("integer", "about 9. " * 40, "abou ... 9"),
        ("choice", "2", "'2' is not the letter of a choice"), ("choice", "Paris", "not the letter"), ("choice", "", "not the letter"), ("choice", "\\boxed{7}", "not the letter"),
        ("exact", " \u3000\n", "is empty"), ("regex", "", "is empty"), ("regex", "a(", "'a(' is not a regular expression"),
    ],
)  # fmt: skip
def test_a_gold_that_no_answer_could_equal_is_refused_with_its_problem(name: str, answer: str, message: str) -> None:
    verifier = open_verifier(name)
    with pytest.raises(GoldError, match=re.escape(message)) as error:
        verifier.read_gold(answer)
    assert "\n" not in str(error.value)
    with pytest.raises(GoldError, match=f"problem 'p': .*{re.escape(message)}"):
        decide(verifier, answer, "1")


def test_countdown_needs_its_data() -> None:
    with pytest.raises(VerifierError, match="no numbers and no targets"):
        decide(open_verifier("countdown"), "", "1+1")
