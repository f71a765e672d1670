# ruff: noqa: E501  the tables are easier to read in long rows
from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlvr_bench.errors import UnknownName, VerifierError
from rlvr_bench.verifiers import FunctionVerifier, open_verifier, verify_many


def test_verdicts_come_in_order_with_answers_and_kinds() -> None:
    pairs = [
        ("so \\boxed{\\frac12}", "0.5"), ("so \\boxed{2}", "0.5"), ("nothing", "0.5"), ("<think>\\boxed{0.5}", "0.5"), ("\\boxed{1E1000000}", "0.5"),
        ("again \\boxed{ \\frac12 }", "0.5"), ("\\boxed{\\frac12}", "3"),
    ]  # fmt: skip
    verdicts = verify_many(pairs)
    assert [verdict.status for verdict in verdicts] == [
        "correct",
        "wrong",
        "no_answer",
        "no_answer",
        "error",
        "correct",
        "wrong",
    ]
    assert [verdict.kind for verdict in verdicts] == [None, None, None, "unfinished_thought", "limit", None, None]
    assert [verdict.answer for verdict in verdicts] == [
        "\\frac12",
        "2",
        None,
        None,
        "1E1000000",
        "\\frac12",
        "\\frac12",
    ]
    assert verdicts[0].seconds > 0
    assert verdicts[5].seconds == 0


def test_a_generator_of_many_pairs_is_decided_once_per_answer() -> None:
    def pairs() -> Iterator[tuple[str, str]]:
        for index in range(20_000):
            yield f"thinking {index} " * 20 + f"\\boxed{{{index % 5}}}", "3"

    verdicts = verify_many(pairs(), verifier="integer", workers=2)
    assert sum(verdict.status == "correct" for verdict in verdicts) == 4000
    assert sum(verdict.seconds > 0 for verdict in verdicts) <= 5


@pytest.mark.parametrize(
    ("extract", "response", "gold", "status"),
    [
        ("auto", "The final answer is 42.", "42", "correct"), ("auto", "42", "42", "correct"), ("gsm8k", "...\n#### 1,234", "1234", "correct"), ("choice", "Answer: (B)", "B", "correct"),
        ("regex:= (\\d+)", "x = 5", "5", "correct"), ("boxed", "42", "42", "no_answer"), ("auto", "", "42", "no_answer"),
    ],
)  # fmt: skip
def test_extraction_policies(extract: str, response: str, gold: str, status: str) -> None:
    assert verify_many([(response, gold)], extract=extract)[0].status == status


def test_a_verifier_object_and_nothing_to_do() -> None:
    assert (
        verify_many([("New york", "new york")], open_verifier("exact", ignore_case=True), extract="whole")[0].status
        == "correct"
    )
    assert verify_many([]) == []
    assert verify_many([("x", "y")])[0].status == "no_answer"


def test_bad_arguments() -> None:
    with pytest.raises(UnknownName):
        verify_many([], "maths")
    with pytest.raises(VerifierError, match="extraction policy"):
        verify_many([], extract="anything")
    with pytest.raises(VerifierError, match="no_such_module"):
        verify_many([("x", "y")], FunctionVerifier("no_such_module:judge"), extract="whole")
