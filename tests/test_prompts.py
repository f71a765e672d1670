from __future__ import annotations

import pytest

from rlvr_bench.errors import UnknownName
from rlvr_bench.prompts import PROMPTS, open_prompt
from rlvr_bench.records import Problem

PINNED = {
    "qwen-boxed": "f7a69e43",
    "simple-boxed": "cfd37c05",
    "raw": "8e435fb6",
    "python-function": "f5fa17b8",
    "python-program": "7a6076c3",
}


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_a_prompt_asks_the_question_literally_and_carries_no_answer(name: str) -> None:
    problem = Problem(
        id="p", question="Let $f(x)=\\frac{1}{x}$ and {question} {braces}.", answer="SECRET", data={"x": "SECRET"}
    )
    prompt = open_prompt(name).render(problem)
    assert problem.question in prompt.text
    assert "SECRET" not in repr(prompt)
    assert all(problem.question in message["content"] for message in prompt.messages if message["role"] == "user")


def test_digests_are_of_the_content_and_pinned() -> None:
    """A changed template changes what is measured: give it another name instead of editing it."""
    assert {name: template.digest[:8] for name, template in PROMPTS.items()} == PINNED


def test_raw_is_the_question_alone() -> None:
    prompt = open_prompt("raw").render(Problem(id="p", question="1,2>3:", answer="x"))
    assert (prompt.text, prompt.messages) == ("1,2>3:", ())


def test_an_unknown_prompt_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'qwen-boxed'"):
        open_prompt("qwen-box")
