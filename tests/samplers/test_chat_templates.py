"""Chat-template arguments and what the model reads, with templates of the kinds that models ship."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers", reason="needs the torch extra")

from rlvr_bench import pipeline  # noqa: E402
from rlvr_bench.errors import BadArgument, EngineError, ModelError, UnknownName  # noqa: E402
from rlvr_bench.options import SampleOptions  # noqa: E402
from rlvr_bench.pipeline import models  # noqa: E402
from rlvr_bench.prompts import PROMPTS, open_prompt  # noqa: E402
from rlvr_bench.records import Problem, Prompt  # noqa: E402
from rlvr_bench.samplers.chat_templates import check_template_arguments  # noqa: E402
from rlvr_bench.samplers.model_files import render  # noqa: E402
from rlvr_bench.samplers.stop_strings import check_stop_strings  # noqa: E402
from rlvr_bench.store import open_run  # noqa: E402
from tests.samplers.tiny_llama import make_tiny_llama  # noqa: E402

# Of the kind of Qwen3: a thought is closed at once where thinking is off.
QWEN3 = (
    "{% for m in messages %}w1 {{ m.content }} w2 {% endfor %}{% if add_generation_prompt %}w3"
    "{%- if enable_thinking is defined and enable_thinking is false %} w4 w5{% endif %}{% endif %}"
)
# Of the kind of gpt-oss: macros, a default set inside one, the date, and marks of the assistant's words.
GPT_OSS = (
    "{%- macro system() -%}{%- if reasoning_effort is not defined %}{%- set reasoning_effort = 'medium' %}{%- endif %}"
    "{{- {'low': 'w1', 'medium': 'w2', 'high': 'w3'}[reasoning_effort] }}{% set today = strftime_now('%Y') %}{%- endmacro -%}"
    "{{- system() }} {% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %} w9{% endif %}"
)
PROMPT = Prompt(problem_id="p", text="w7", messages=({"role": "user", "content": "w8"},))


class Templated:
    """A tokenizer that has nothing but a template."""

    def __init__(self, template: str) -> None:
        self._template = template

    def get_chat_template(self) -> str:
        return self._template


def words(tokenizer: Any, **arguments: Any) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(render(tokenizer, PROMPT, "auto", arguments)))


@pytest.mark.parametrize(
    ("template", "arguments", "expected"),
    [
        (QWEN3, {}, "w1 w8 w2 w3"),
        (QWEN3, {"enable_thinking": True}, "w1 w8 w2 w3"),
        (QWEN3, {"enable_thinking": False}, "w1 w8 w2 w3 w4 w5"),
        (GPT_OSS, {}, "w2 w8 w9"),
        (GPT_OSS, {"reasoning_effort": "high"}, "w3 w8 w9"),
    ],
)
def test_arguments_reach_the_template(tmp_path: Path, template: str, arguments: dict[str, Any], expected: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_tiny_llama(tmp_path, chat_template=template))
    check_template_arguments(tokenizer, arguments)
    assert words(tokenizer, **arguments) == expected


@pytest.mark.parametrize(
    ("template", "name", "message"),
    [
        (QWEN3, "enable_thinkin", "Did you mean 'enable_thinking'"),
        (GPT_OSS, "effort", "Known: reasoning_effort"),
        (GPT_OSS, "today", "Known: reasoning_effort"),
        ("{{ messages[0].content }}", "enable_thinking", "Known: none"),
    ],
)
def test_an_argument_that_the_template_does_not_use_is_refused(template: str, name: str, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        check_template_arguments(Templated(template), {name: 1})  # type: ignore[arg-type]


def test_what_the_engine_sets_and_templates_that_cannot_be_read() -> None:
    with pytest.raises(BadArgument, match="the engine sets this one itself"):
        check_template_arguments(Templated(QWEN3), {"messages": []})  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="cannot be read"):
        check_template_arguments(Templated("{% if %}"), {"x": 1})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ before an engine loads
@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise EngineError("an engine is loaded")

    monkeypatch.setattr(models, "open_sampler", load)


@pytest.mark.parametrize(
    ("template", "changed", "kind", "message"),
    [
        (QWEN3, {"prompt": "qwen-boxed", "chat_template_args": {"thinking": 1}}, UnknownName, "enable_thinking"),
        (QWEN3, {"prompt": "raw", "chat_template_args": {"enable_thinking": 1}}, BadArgument, "no messages"),
        (None, {"prompt": "qwen-boxed", "chat_template_args": {"x": 1}}, BadArgument, "without a chat template"),
        (None, {"prompt": "qwen-boxed", "system": "s"}, BadArgument, "--system is 's': would not reach the model"),
        (QWEN3, {"prompt": "qwen-boxed", "system": "s", "chat_template": "none"}, BadArgument, "would not reach"),
        (None, {"prompt": "user.toml"}, BadArgument, "has only messages: add text"),
        (QWEN3, {"stop": ("<eos>",)}, BadArgument, "special token"),
        (QWEN3, {"prompt": "qwen-boxed"}, EngineError, "an engine is loaded"),
        (QWEN3, {"prompt": "user.toml", "system": "s"}, EngineError, "an engine is loaded"),
    ],
)
def test_what_would_not_reach_the_model_is_refused_before_it_loads(
    tmp_path: Path, no_engine: None, template: str | None, changed: dict[str, Any], kind: type[Exception], message: str
) -> None:
    folder = make_tiny_llama(tmp_path / "model", chat_template=template)
    (tmp_path / "user.toml").write_text("user = '{question}'")
    if changed.get("prompt") == "user.toml":
        changed = {**changed, "prompt": str(tmp_path / "user.toml")}
    options = SampleOptions(n=2, limit=1, engine="transformers", out=tmp_path / "runs", **changed)
    with pytest.raises(kind, match=message):
        pipeline.sample(str(folder), "double_countdown", options)
    assert not (tmp_path / "runs").exists()


def test_a_run_with_arguments_is_recorded_and_continued(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model", chat_template=QWEN3)
    common: dict[str, Any] = {"limit": 1, "engine": "transformers", "out": tmp_path / "runs", "prompt": "qwen-boxed"}
    arguments = {"enable_thinking": False}
    run = pipeline.sample(str(folder), "double_countdown", SampleOptions(n=2, chat_template_args=arguments, **common))
    assert open_run(run).manifest.chat_template_args == arguments
    pipeline.sample(str(folder), "double_countdown", SampleOptions(n=4, chat_template_args=arguments, **common))
    with pytest.raises(Exception, match="chat_template_args.enable_thinking"):
        pipeline.sample(str(folder), "double_countdown", SampleOptions(n=4, **common))


# ------------------------------------------------------------------------------------------------ a real tokenizer
@pytest.fixture(scope="module")
def smollm2() -> Any:
    folder = os.environ.get("RLVR_BENCH_SMOLLM2")
    if folder is None or not (Path(folder) / "tokenizer.json").is_file():
        pytest.skip("no SmolLM2-135M-Instruct here (set RLVR_BENCH_SMOLLM2 to its folder)")
    return transformers.AutoTokenizer.from_pretrained(folder)


DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def chatml(messages: Any) -> str:
    """SmolLM2's template, written by hand: ChatML, with a system message of its own where there is none."""
    parts = list(messages)
    if parts[0]["role"] != "system":
        parts.insert(0, {"role": "system", "content": DEFAULT_SYSTEM})
    turns = "".join(f"<|im_start|>{part['role']}\n{part['content']}<|im_end|>\n" for part in parts)
    return f"{turns}<|im_start|>assistant\n"


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_every_named_prompt_as_smollm2_reads_it(smollm2: Any, name: str) -> None:
    problem = Problem(id="p", question="How many primes are below 30?\nGive $n$.", answer="10")
    prompt = open_prompt(name).render(problem)
    text = smollm2.decode(render(smollm2, prompt, "auto"))
    assert text == (chatml(prompt.messages) if prompt.messages else prompt.text)
    assert smollm2.decode(render(smollm2, prompt, "none")) == prompt.text


def test_a_prompt_file_with_system_and_examples_as_smollm2_reads_it(smollm2: Any, tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(
        "system = 'Be exact.'\nuser = '{question}?'\n[[messages]]\nrole = 'user'\ncontent = '1+1'\n"
        "[[messages]]\nrole = 'assistant'\ncontent = '2'\n"
    )
    prompt = open_prompt(str(file)).render(Problem(id="p", question="2+2", answer="4"))
    assert smollm2.decode(render(smollm2, prompt, "auto")) == (
        "<|im_start|>system\nBe exact.<|im_end|>\n<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_stop_strings_that_smollm2_can_and_cannot_write(smollm2: Any) -> None:
    check_stop_strings(smollm2, ["\n\n", "Question:", " the", "é", "</answer>", "東京"])
    with pytest.raises(BadArgument, match="special token"):
        check_stop_strings(smollm2, ["<|im_end|>"])
