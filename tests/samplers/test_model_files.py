"""Digests of weights, and prompts as tokens and back, with tokenizers made on the spot."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors  # noqa: E402

from rlvr_bench.errors import BadArgument, ModelError  # noqa: E402
from rlvr_bench.records import Prompt  # noqa: E402
from rlvr_bench.samplers.model_files import (  # noqa: E402
    check_context,
    detokenise,
    render,
    template_digest,
    weights_digest,
)

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}answer{% endif %}"
)
PROMPT = Prompt(problem_id="p", text="user one two", messages=({"role": "user", "content": "one two"},))


def tokenizer(template: str | None = TEMPLATE) -> Any:
    """Words of a sentencepiece-like tokenizer, which drops the space before the first word of what it decodes."""
    words = ["<unk>", "<s>", "</s>", "▁", *("▁" + w for w in ("user", "answer", "one", "two", "three", "print"))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    if template is not None:
        made.chat_template = template
    return made


def test_raw_text_gets_the_tokens_that_the_tokenizer_adds() -> None:
    assert render(tokenizer(None), PROMPT, "auto") == [1, 4, 6, 7]
    assert render(tokenizer(), PROMPT, "none") == [1, 4, 6, 7]
    assert render(tokenizer(), Prompt(problem_id="p", text="one"), "auto") == [1, 6]


def test_messages_go_through_the_template_which_writes_its_own_special_tokens() -> None:
    assert render(tokenizer(), PROMPT, "auto") == [1, 4, 6, 7, 5]


def test_the_template_s_digest_says_whether_it_was_applied() -> None:
    digest = hashlib.sha256(TEMPLATE.encode()).hexdigest()
    assert template_digest(tokenizer(), "auto") == digest
    assert template_digest(tokenizer(), "auto", PROMPT) == digest
    assert template_digest(tokenizer(), "none") is None
    assert template_digest(tokenizer(None), "auto") is None
    assert template_digest(tokenizer(), "auto", Prompt(problem_id="p", text="one")) is None


def test_a_template_that_refuses_is_named() -> None:
    with pytest.raises(ModelError, match=r"problem p: .*no system"):
        render(tokenizer("{{ raise_exception('no system role here') }}"), PROMPT, "auto")


def test_the_first_space_of_a_response_is_kept() -> None:
    """An indented first line of code is code; this tokenizer drops the space when it decodes the response alone."""
    t = tokenizer()
    assert t.decode([3, 9]) == " print"
    assert detokenise(t, [1, 4, 6], [[3, 9], [7, 2], []]) == ["  print", " two", ""]


def test_a_prompt_without_text_or_without_tokens_cuts_nothing_off() -> None:
    assert detokenise(tokenizer(), [1], [[6, 7]]) == ["one two"]
    assert detokenise(tokenizer(), [], [[6, 7]]) == ["one two"]


def test_the_digest_follows_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "optimizer.pt").write_bytes(b"state")
    digest = weights_digest(str(tmp_path))
    assert digest.startswith("sha256:")
    (tmp_path / "optimizer.pt").write_bytes(b"other state")
    (tmp_path / "config.json").write_text("{}")
    assert weights_digest(str(tmp_path)) == digest
    (tmp_path / "model.safetensors").write_bytes(b"wEights")
    assert weights_digest(str(tmp_path)) != digest
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert weights_digest(str(tmp_path)) == digest
    (tmp_path / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    assert weights_digest(str(tmp_path)) != digest


def test_a_directory_without_weights_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no weights"):
        weights_digest(str(tmp_path))


def test_a_hub_model_is_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--someone--tiny"
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert weights_digest("someone/tiny") == f"hub:someone/tiny@{commit}"
    assert weights_digest("someone/other") == "hub:someone/other"
    assert weights_digest("not a hub id at all") == "hub:not a hub id at all"


def test_the_longest_prompt_is_named() -> None:
    check_context({"a": 10, "b": 50}, 50, 100)
    check_context({"a": 10, "b": 50}, 1000, None)
    check_context({}, 1000, 100)
    with pytest.raises(BadArgument, match=r"max_tokens is 51: the longest prompt, problem b, takes 50 of .* 100 .* 50"):
        check_context({"a": 10, "b": 50}, 51, 100)
