# ruff: noqa: E501  the tables are easier to read in long rows; full-width letters are what some models write
"""Lettered choices: what names one letter, what names several or none, and where responses state it."""

from __future__ import annotations

import time

import pytest

from rlvr_bench.records import Problem
from rlvr_bench.verifiers import open_verifier, verify_many
from rlvr_bench.verifiers.choices import read_choice

C = [
    "C", "(C)", "c", "(c)", "C.", "C)", "C!", "{C}", "[C]", "[[C]]", "$C$", "**C**", '"C"', "`C`", "Ｃ", "（Ｃ）", "C) 42", "C. 42", "(C) 42", "C: Paris", "C - Paris", "C; 42", "C 42", "C Paris", "C (42)", "C, 42",
    r"\text{(C)}", r"\text{(C) }42", r"\text{C) Paris}", r"\textbf{(C)}\ 42", r"\mathbf{C}", r"\mathbf C", r"\boxed{C}", r"\(C\)", r"C \text{ (42)}", "option C", "Option (C)", "answer: C", "the answer is C",
    "C, because A is wrong", "C because it is", "C, since D is wrong", "C is correct", "C, not D", "C, a metal", "C. A person", "(C) A person", "C. Vitamin A", "C) Both A and B", "C. A and B", "C) neither A nor B.",
]  # fmt: skip
NOT_C = [
    "", "2", "42", "Paris", "Cat", "CD", "2C", "C_1", "C^2", "C cells", "C's", "P(C) = 1", "E = mc^2", r"\angle C", r"\langle C\rangle", "x", "A person", "I think so",
    "A, B, C, D", "A or C", "C or D", "C and D", "C, D", "c, d", "C/D", "C & D", "C; D", "C+D", "C D", "C) D", "(C) (D)", r"\{C, D\}", r"C \text{ or } D", "C) 42, D) 43", "C. 42 or D. 43", "either C or D", "both C and D", "C and D are right",
    "C. but maybe D", "C, but D is possible too", "C maybe", "C or maybe D", "C (or D)", "C. However, D", "C?", "not C", "C is wrong", "C is not correct",
]  # fmt: skip


@pytest.mark.parametrize("text", C)
def test_one_letter(text: str) -> None:
    assert read_choice(text) == "C"


@pytest.mark.parametrize("text", NOT_C)
def test_several_letters_or_none(text: str) -> None:
    assert read_choice(text) is None


@pytest.mark.parametrize("text", [*C, *NOT_C, " " * 3000 + "C", "C. " + "x" * 3000, "k", "K"])
def test_answers_of_one_key_have_one_verdict(text: str) -> None:
    verifier = open_verifier("choice")
    problem = Problem(id="p", question="", answer="C")
    assert verifier.verify(text, problem).status == verifier.verify(verifier.key(text), problem).status


STATED = [
    "The answer is: C", "option C is correct", "**Answer**: C", "**Answer:** **C**", "The correct answer is (C) 42", r"Answer: \text{C}", "So the answer is C.", "Reasoning.\nC. 42", r"\boxed{C}", r"\boxed{\text{(C) }42}", "My verdict: [[C]]", "<answer>C</answer>", "answer: c", "ANSWER: C",
    "The answer is option C", "The correct answer is:\n\n**C**", "The correct answer is **C: Paris**", "Answer:\nC", "## Final Answer\n\nC", "\\boxed{\\langle H\\rangle}\n\n**Answer: C**", "\\boxed{42}\nAnswer: C", "The answer isn't A. The answer is C", "Answer: C\n\nExplanation: A is wrong because the answer is not there.",
    "Therefore, the answer must be C.", "The answer should be (C)", "The answer to the question is C", "Thus the answer is therefore **C**.", "The answer, therefore, is C", "I choose C.", "I would go with option (C).", "Thus, (C).", "(C) is the correct answer.", "Option C is the best choice", "A is wrong. B is wrong. So C is right.", "Answer choice C is correct.", "the correct letter is C",
    "The best answer is C because it fits", "The answer is C, since A is wrong.", "Hence the answer is C (Paris).", "The answer is \"C\".", "The final answer is \\(C\\).", "The answer is $\\boxed{\\textbf{(C)}\\ 42}$", "first the answer is A\nno, the answer is C",
    "C\n\nExplanation: it is hot.", "C. Paris\n\nThe city is large.", "The answer is C\n\nLet me know if you have questions!", "答案：C", "答案是C", "故选C", "答案为（Ｃ）", "Réponse : C", "Respuesta: C",
]  # fmt: skip
NOT_STATED = [
    r"\boxed{A, B, C, D}", r"\boxed{C or B}", "Reasoning.\nC. but maybe B", "A and C", "The answer is C or D.", "The answer is either C or D", "The answer is C, D", "Final answer: A, C", "The answer is C. But maybe B.", "The answer is A. Or rather, the answer is C or D.",
    "The answer is not C", "the answer cannot be C", "Is option C correct?", "If C is correct then B fails.", "Both B and C is correct", "Choose A, B, C or D.", "A. one\nB. two\nC. three\nD. four\nI do not know", "I. Introduction", "The answer is a number.", "The answer is A number", "A person walked by.", "It is 42", "",
]  # fmt: skip


@pytest.mark.parametrize(("responses", "right"), [(STATED, True), (NOT_STATED, False)], ids=["stated", "not stated"])
def test_where_a_response_states_its_choice(responses: list[str], right: bool) -> None:
    verdicts = verify_many([(response, "C") for response in responses], verifier="choice", extract="choice")
    other = [r for r, verdict in zip(responses, verdicts, strict=True) if (verdict.status == "correct") != right]
    assert other == []


@pytest.mark.parametrize("unit", ["answer is ", "answer is A or ", "\\boxed{", "A", "(A) ", "A is correct ", "choose A ", "\n", "A. ", "answer to ", "the ", "*", "[", "#", "选", "答案是"])  # fmt: skip
def test_a_flood_of_statements_takes_linear_time(unit: str) -> None:
    text = unit * (10**6 // len(unit))
    started = time.process_time()
    open_verifier("choice").extract(text)
    assert time.process_time() - started < 1.5, "a megabyte takes well under a second; quadratic code takes minutes"
