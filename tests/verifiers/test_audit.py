# ruff: noqa: E501  the tables are easier to read in long rows
from __future__ import annotations

import pytest

from rlvr_bench.records import Verdict
from rlvr_bench.verifiers.audit import audit_many, second_opinion
from tests.verifiers.hostile import HOSTILE
from tests.verifiers.probes import PROBES

KNOWN = [
    ("5", "5", True), ("5", "6", False), ("x+1", "1+x", True), ("(x+1)^2", "x^2+2x+1", True), ("(x+1)^2", "x^2+2x", False), ("\\frac{1}{2}", "0.5", True), ("\\sqrt{8}", "2\\sqrt{2}", True),
    ("\\sin^2 x+\\cos^2 x", "1", True), ("(1,2)", "(1,2.0)", True), ("(1,2)", "(2,1)", False), ("1,2", "2,1", None), ("[1,2]", "(1,2)", None), ("\\text{east}", "west", None), ("10^{-20}", "10^{-21}", False),
    ("e^{i\\pi}", "-1", True), ("1\\frac{1}{2}", "\\frac32", None), ("\\frac{x}{0}", "1", None), ("\\ln 2", "\\log 2", False), ("x", "y", False), ("1,2", "1", False), ("5 6", "30", None),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer", "equal"), KNOWN)
def test_known_pairs(gold: str, answer: str, equal: bool | None) -> None:
    assert second_opinion(gold, answer) is equal


def test_it_reads_a_fair_part_of_the_probes_and_is_nearly_always_right() -> None:
    read = wrong = 0
    for _, gold, answer, label in PROBES:
        opinion = second_opinion(gold, answer)
        read += opinion is not None
        wrong += opinion is not None and opinion != label
    assert read > len(PROBES) * 0.35
    assert wrong < read * 0.04


def test_hostile_answers_are_not_judged_equal() -> None:
    for name, answer in HOSTILE.items():
        assert second_opinion("\\frac{7}{3}+x", answer) is not True, name


def test_many_are_audited_in_workers() -> None:
    verdicts = [
        ("x+1", Verdict(status="correct", answer="1+x")), ("x+1", Verdict(status="wrong", answer="1+x")), ("5", Verdict(status="no_answer")), ("\\text{a b}", Verdict(status="wrong", answer="c d e")),
        ("10^{-20}", Verdict(status="correct", answer="10^{-21}")),
    ]  # fmt: skip
    assert audit_many(verdicts) == ["agree", "disagree", "unknown", "unknown", "disagree"]
