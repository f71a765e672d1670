from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlvr_bench import pipeline
from rlvr_bench.errors import UnknownName, VerifierError
from rlvr_bench.options import SampleOptions
from rlvr_bench.pipeline.tool_runs import reading_statements
from rlvr_bench.prompts import PROMPTS, open_prompt
from rlvr_bench.records import Problem
from rlvr_bench.store import open_run
from rlvr_bench.store.run import Run
from rlvr_bench.verifiers import open_verifier
from tests.conftest import manifest_with

PINNED = {
    "qwen-boxed": "f7a69e43",
    "simple-boxed": "cfd37c05",
    "choice-boxed": "924fe0a7",
    "question": "3f920491",
    "raw": "8e435fb6",
    "python-function": "f5fa17b8",
    "conversation": "3fe89d22",
    "python-program": "7a6076c3",
    "r1-zero": "97b69a26",
    "answer-tags": "74a787ae",
    "dapo": "0f932f47",
    "gsm8k-4-shot": "9c5a3308",
}


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_a_prompt_asks_the_question_literally_and_carries_no_answer(name: str) -> None:
    problem = Problem(
        id="p", question="Let $f(x)=\\frac{1}{x}$ and {question} {braces}.", answer="SECRET", data={"x": "SECRET"}
    )
    prompt = open_prompt(name).render(problem)
    assert problem.question in prompt.text
    assert "SECRET" not in repr(prompt)
    asked = [message for message in prompt.messages if message not in open_prompt(name).shots]
    assert all(problem.question in message["content"] for message in asked if message["role"] == "user")


def test_digests_are_of_the_content_and_pinned() -> None:
    """A changed template changes what is measured: give it another name instead of editing it."""
    assert {name: template.digest[:8] for name, template in PROMPTS.items()} == PINNED


def test_raw_is_the_question_alone() -> None:
    prompt = open_prompt("raw").render(Problem(id="p", question="1,2>3:", answer="x"))
    assert (prompt.text, prompt.messages) == ("1,2>3:", ())


# What models write after each prompt; the gold answer is 42.
RESPONSES = {
    "r1-zero": (" <think> 2*21 is 41, no, 42. </think> <answer> 42 </answer>", "<think>42</think> <answer>41</answer>"),
    "answer-tags": (" First 41? No.</think>\n<answer>\\boxed{42}</answer>", "It is 42.</think>\n<answer>41</answer>"),
    "dapo": ("We compute 2*21.\n\n**Answer:** $42$", "It is 42, no:\nAnswer: 41"),
    "gsm8k-4-shot": (
        " So there are 2*21 = 42. The answer is 42.",
        " There are 42 - 1 = 41. The answer is 41.",
    ),
}


@pytest.mark.parametrize("name", sorted(RESPONSES))
@pytest.mark.parametrize("verifier", ["math", "integer"])
def test_answers_are_read_as_the_prompt_asks_for_them(name: str, verifier: str) -> None:
    run = Run(Path("r"), manifest_with(template=open_prompt(name)))
    reader = reading_statements(open_verifier(verifier), run)  # the task's policy is boxed
    problem = Problem(id="p", question="?", answer="42")
    for response, status in zip(RESPONSES[name], ("correct", "wrong"), strict=True):
        answer = reader.extract(response).answer
        assert answer is not None
        assert reader.verify(answer, problem).status == status
    assert reader.options["policy"] == "auto"


def test_a_policy_of_the_task_other_than_the_box_stays() -> None:
    run = Run(Path("r"), manifest_with(template=open_prompt("dapo")))
    assert reading_statements(open_verifier("math", policy="gsm8k"), run).options["policy"] == "gsm8k"
    boxed = Run(Path("r"), manifest_with(template=open_prompt("qwen-boxed")))
    assert reading_statements(open_verifier("math"), boxed).options["policy"] == "boxed"


def test_a_run_of_somebody_else_brings_no_regular_expression() -> None:
    template = msgspec.structs.replace(open_prompt("dapo"), policy="regex:(a+)+$")
    run = Run(Path("r"), manifest_with(template=template))
    with pytest.raises(VerifierError, match="regular expression"):
        reading_statements(open_verifier("math"), run)


def test_few_shot_stops_before_the_next_question_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    def stop(**changed: Any) -> tuple[str, ...]:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        options = SampleOptions(n=1, limit=1, out=out, prompt="gsm8k-4-shot", **changed)
        sampling = open_run(pipeline.sample("fake:0.5", "double_countdown", options)).manifest.sampling
        assert sampling is not None
        return sampling.stop

    assert stop() == ("\nQ:",)
    assert stop(stop=("END",)) == ("END",)
    assert stop(stop=()) == ()


def test_an_unknown_prompt_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'qwen-boxed'"):
        open_prompt("qwen-box")
