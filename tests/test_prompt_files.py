"""Prompts from files, system messages and chat-template arguments: what is read, refused, recorded and compared."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import pipeline
from rlvr_bench.comparison.cards import Incomparable, align
from rlvr_bench.errors import BadArgument, DataError, RunError, RunMismatch, UnknownName, VerifierError
from rlvr_bench.options import SampleOptions
from rlvr_bench.prompts import open_prompt
from rlvr_bench.records import Problem
from rlvr_bench.store import open_run
from rlvr_bench.store.run_prompts import drawn_template
from tests.comparison.made import card
from tests.conftest import manifest_with

TASK = "double_countdown"
PROBLEM = Problem(id="p", question="What is $\\frac{1}{x}$ of {two}?", answer="SECRET")
FEW_SHOT = """
system = "You are exact."
user = '''Solve: {question}
'''
text = "Q: {question}\\nA:"

[[messages]]
role = "user"
content = "Solve: 1+1"

[[messages]]
role = "assistant"
content = 'It is \\boxed{2}.'
"""


def write(folder: Path, content: str, name: str = "mine.toml") -> str:
    file = folder / name
    file.write_text(content)
    return str(file)


def test_a_toml_file_has_system_examples_user_and_text(tmp_path: Path) -> None:
    prompt = open_prompt(write(tmp_path, FEW_SHOT)).render(PROBLEM)
    assert prompt.messages == (
        {"role": "system", "content": "You are exact."},
        {"role": "user", "content": "Solve: 1+1"},
        {"role": "assistant", "content": "It is \\boxed{2}."},
        {"role": "user", "content": f"Solve: {PROBLEM.question}\n"},
    )
    assert prompt.text == f"Q: {PROBLEM.question}\nA:"
    assert "SECRET" not in repr(prompt)


def test_the_example_of_the_page_is_a_template(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "prompts.md").read_text()
    prompt = open_prompt(write(tmp_path, page.partition("```toml\n")[2].partition("```")[0])).render(PROBLEM)
    assert [message["role"] for message in prompt.messages] == ["system", "user", "assistant", "user"]
    assert prompt.messages[-1]["content"] == f"{PROBLEM.question}\nPut the final answer within \\boxed{{}}."
    assert prompt.text == f"Question: {PROBLEM.question}\nAnswer:"


def test_the_last_message_may_hold_the_question(tmp_path: Path) -> None:
    content = "\n".join(
        f"[[messages]]\nrole = '{role}'\ncontent = '{text}'"
        for role, text in (("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "{question}!"))
    )
    messages = open_prompt(write(tmp_path, content)).render(PROBLEM).messages
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[-1]["content"] == f"{PROBLEM.question}!"


def test_a_text_file_is_user_message_and_text(tmp_path: Path) -> None:
    prompt = open_prompt(write(tmp_path, "Think.\r\n{question}\nAnswer:\n", "p.txt")).render(PROBLEM)
    expected = f"Think.\n{PROBLEM.question}\nAnswer:"
    assert (prompt.text, prompt.messages) == (expected, ({"role": "user", "content": expected},))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", "Solve this.", r"user has no \{question\}"),
        ("p.txt", "Solve {{question}}", "with one brace on each side"),
        ("p.toml", "user = 'Solve.'", r"user has no \{question\}"),
        ("p.toml", "user = '{question}'\ntext = 'Q:'", r"text has no \{question\}"),
        ("p.toml", "system = 'x'", "no user message"),
        ("p.toml", "", r"user has no \{question\}"),
        ("p.toml", "usr = '{question}'", "unknown key 'usr'. Known: system, user, text, messages"),
        ("p.toml", "user = 3", "user must be a text"),
        ("p.toml", "user = '{question}'\nmessages = 'x'", "messages must be tables"),
        ("p.toml", "user = '{question}'\n[[messages]]\nrole = 'user'", "message 1: must have role and content"),
        ("p.toml", "user = '{question}'\n[[messages]]\nrole = 'me'\ncontent = 'x'", "role 'me', must be one of"),
        ("p.toml", "user = '{question}'\n[[messages]]\nrole = 'user'\ncontent = 1", "content must be a text"),
        ("p.toml", "user = '{question}'\n[[messages]]\nrole = 'user'\ncontent = '{question}'", "an example has"),
        (
            "p.toml",
            "[[messages]]\nrole = 'user'\ncontent = '{question}'\n[[messages]]\nrole = 'assistant'\ncontent = 'x'",
            "no user",
        ),
        ("p.toml", "user = '{question}", "not TOML"),
        ("p.toml", "user = '{question}'\nstop = 'x'", "stop must be a list of texts"),
        ("p.toml", "user = '{question}'\npolicy = 1", "policy must be a text"),
    ],
)
def test_a_file_that_holds_no_template_is_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        open_prompt(write(tmp_path, content, name))
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff{question}")
    (tmp_path / "large.txt").write_bytes(b"x" * (2**20 + 1))
    os.mkfifo(tmp_path / "pipe.txt")  # nobody writes into it
    for name, message in (
        ("none.toml", "No such file"),
        ("bytes.txt", "not text in UTF-8"),
        ("large.txt", "at most"),
        ("pipe.txt", "not a plain file"),
    ):
        with pytest.raises(DataError, match=message):
            open_prompt(str(tmp_path / name))
    with pytest.raises(UnknownName, match="A file is a path"):
        open_prompt("mine")


def test_capitals_and_the_mark_of_a_windows_editor_change_nothing(tmp_path: Path) -> None:
    plain = write(tmp_path, "user = 'Q: {question}'", "plain.toml")
    marked = tmp_path / "marked.TOML"
    marked.write_bytes(b"\xef\xbb\xbfuser = 'Q: {question}'\r\n")
    assert open_prompt(str(marked)) == open_prompt(plain)


def test_a_file_may_name_policy_and_stop_strings(tmp_path: Path) -> None:
    template = open_prompt(write(tmp_path, "user = '{question}'\npolicy = 'tagged:final'\nstop = [\"END\"]"))
    assert (template.policy, template.stop) == ("tagged:final", ("END",))
    for policy, message in (("taged:final", "unknown extraction policy"), ("regex:(.*)", "which only a task may have")):
        with pytest.raises(VerifierError, match=message):
            drawn(tmp_path, prompt=write(tmp_path, f"text = '{{question}}'\npolicy = '{policy}'"))


# ------------------------------------------------------------------------------------------------ in a run
def drawn(out: Path, n: int = 2, **changed: Any) -> Path:
    return pipeline.sample("fake:0.5", TASK, SampleOptions(n=n, limit=2, out=out, **changed))


def test_the_content_of_a_file_decides_and_not_its_path(tmp_path: Path) -> None:
    first = write(tmp_path, FEW_SHOT)
    run = drawn(tmp_path / "runs", prompt=first)
    moved = write(tmp_path, FEW_SHOT, "moved.toml")
    assert drawn(tmp_path / "runs", n=4, prompt=moved) == run
    Path(first).write_text(FEW_SHOT.replace("exact", "careful"))
    with pytest.raises(RunMismatch, match="prompt_sha256"):
        drawn(tmp_path / "runs", n=4, prompt=first)
    template = drawn_template(open_run(run))
    assert template.render(PROBLEM) == open_prompt(moved).render(PROBLEM)


def test_a_system_message_decides_and_is_kept(tmp_path: Path) -> None:
    run = drawn(tmp_path, prompt="qwen-boxed", system="Be brief.")
    manifest = open_run(run).manifest
    assert manifest.prompt == "qwen-boxed+system"
    assert drawn_template(open_run(run)).render(PROBLEM).messages[0] == {"role": "system", "content": "Be brief."}
    with pytest.raises(RunMismatch, match="prompt_sha256"):
        drawn(tmp_path, prompt="qwen-boxed", system="Be long.")
    with pytest.raises(BadArgument, match="prompt raw has no messages"):
        drawn(tmp_path / "raw", prompt="raw", system="Be brief.")


def test_a_manifest_of_somebody_else_does_not_choose_a_file_to_read(tmp_path: Path) -> None:
    run = drawn(tmp_path / "runs")
    file = run / "manifest.json"
    content = json.loads(file.read_text())
    stranger = write(tmp_path, FEW_SHOT)
    file.write_text(json.dumps(content | {"prompt": stranger, "template": None}))
    with pytest.raises(RunError, match="does not have"):
        drawn_template(open_run(run))
    forged = content["template"] | {"text": "another {question}"}
    file.write_text(json.dumps(content | {"template": forged, "prompt_sha256": "0"}))
    with pytest.raises(RunError, match="another wording"):
        drawn_template(open_run(run))
    file.write_text(json.dumps({name: value for name, value in content.items() if name != "template"}))
    assert drawn_template(open_run(run)).name == "raw"


def test_chat_template_arguments_decide_and_change_the_seeds() -> None:
    plain, asked = (
        manifest_with(seed_scheme=2, engine_args={}, chat_template_args=args)
        for args in ({}, {"enable_thinking": False})
    )
    assert list(plain.differing(asked)) == ["chat_template_args.enable_thinking"]
    assert plain.drawn_by != asked.drawn_by
    assert plain.drawn_by == manifest_with(seed_scheme=2, engine_args={}).drawn_by
    with pytest.raises(Incomparable, match="--allow chat_template_args"):
        align([card("a", [1], 2), card("b", [1], 2, chat_template_args={"enable_thinking": False})])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"system": ""}, "--system is '': must not be empty"),
        ({"chat_template_args": {"a b": 1}}, "must be a name that a template can use"),
        ({"chat_template_args": {"x": object()}}, "values must be such as JSON has"),
        ({"chat_template_args": {"x": (1, 2)}}, "values must be such as JSON has"),
    ],
)
def test_options_that_cannot_be_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        SampleOptions(**changed)


def test_arguments_for_a_model_without_a_template_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="--chat-template-arg is .* would not reach the model"):
        drawn(tmp_path, chat_template_args={"enable_thinking": False})
    assert not list(tmp_path.iterdir())
