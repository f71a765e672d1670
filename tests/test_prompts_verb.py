"""The verb ``prompts``: what it shows is what the engines send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlvr_bench.prompts import PROMPTS
from rlvr_bench.samplers.model_files import render
from rlvr_bench.task import load_task
from tests.conftest import require, run_verb
from tests.samplers.tiny_llama import make_tiny_llama

TASK = "double_countdown"
TEMPLATE = (
    "{% for m in messages %}<bos> {{ m.content }} {% endfor %}"
    "{% if effort is defined %}{{ effort }}{% endif %}{% if add_generation_prompt %} w5{% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    require("torch", "torch")
    return str(make_tiny_llama(tmp_path_factory.mktemp("templated"), chat_template=TEMPLATE))


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_it_shows_the_tokens_that_an_engine_sends(
    model: str, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    run_verb("prompts", "show", name, "--task", TASK, "--model", model, "--problem", "dc-0007", "--json")
    shown = json.loads(capsys.readouterr().out)
    problem = next(problem for problem in load_task(TASK).problems if problem.id == "dc-0007")
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = render(tokenizer, PROMPTS[name].render(problem), "auto")
    assert (shown["tokens"], shown["text"]) == (len(ids), tokenizer.decode(ids))
    assert "<bos>" in shown["text"]
    assert (shown["chat_template"] is None) == (name == "raw")


def test_a_file_a_system_message_and_arguments_are_shown(
    model: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("user = 'w1 {question}'\n[[messages]]\nrole = 'user'\ncontent = 'w2'\n")
    run_verb("prompts", "show", str(file), "-m", model, "--system", "w3", "--chat-template-arg", "effort=w4")
    about, _, text = capsys.readouterr().out.partition("---\n")
    assert text.strip() == "<bos> w3 <bos> w2 <bos> w1 w0 w4 w5"  # {question} is no word of this vocabulary
    assert ", 9 tokens" in about


def test_without_a_model_the_template_is_shown_and_nothing_reaches_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\x1b[31m{question}\n")
    assert not run_verb("prompts", "show", str(file))
    shown = capsys.readouterr().out
    assert shown.count("\\x1b[31m{question}") == 2
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nothing"), "unknown prompt 'nothing'"),
        (("show", "raw", "-t", TASK, "--problem", "dc-9"), "unknown problem 'dc-9'"),
        (("show", "raw", "-m", "fake"), "--model is 'fake': shows no prompt"),
        (("show", "raw", "-m", "http://localhost:1/v1"), "shows no prompt"),
        (("show", "raw", "--system", "x"), "--system is 'x': prompt raw has no messages"),
        (("show", "dapo", "-m", "zoo:base", "--chat-template-arg", "x=1"), "would not reach the model"),
        (("show", "dapo", "--chat-template-arg", "x=False"), "values are JSON: write x=false"),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    assert run_verb("prompts", *arguments) == 2
    assert message in capsys.readouterr().err


def test_every_prompt_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    run_verb("prompts", "list", "--json")
    assert [item["name"] for item in json.loads(capsys.readouterr().out)] == list(PROMPTS)
