"""Cutting single responses: doubts about retokenised texts, damaged token ids, and where calls end."""

from __future__ import annotations

from typing import Any

import pytest

from rlvr_bench.capping.cutting import CallCutter, TokenCutter
from rlvr_bench.errors import RunError
from rlvr_bench.pipeline.models import resolve_model
from rlvr_bench.records import SamplingParameters
from rlvr_bench.samplers import open_tokenizer
from rlvr_bench.samplers.tokenizer import Tokenizer
from rlvr_bench.store.run import ROLLOUT_SCHEMA, TOKEN_COLUMNS
from rlvr_bench.verifiers.transcript import call_ends, output_block
from tests.conftest import require

require("torch", "torch")

TEXT = "5+2=7;13+10=23;7+5=12"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return open_tokenizer(resolve_model("zoo:base"))


def row(**changed: Any) -> dict[str, Any]:
    plain = {"problem_id": "p", "index": 3, "text": TEXT, "finish_reason": "stop", "tool_errors": 0}
    return {**dict.fromkeys(ROLLOUT_SCHEMA.names), **plain, **changed}


def cutter(tokenizer: Tokenizer, cap: int = 6, *stop: str) -> TokenCutter:
    return TokenCutter(cap, tokenizer, {"p": [5, 6, 7]}, SamplingParameters(stop=stop), "here")


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(
    ("more", "finish_reason", "doubtful"), [(1, "stop", 0), (0, "length", 0), (3, "stop", 1), (1, "length", 1)]
)
def test_a_text_of_another_number_of_tokens_than_were_drawn_is_doubtful(
    tokenizer: Tokenizer, more: int, finish_reason: str, doubtful: int
) -> None:
    ids = ids_of(tokenizer, TEXT)
    cut = cutter(tokenizer)
    (made,) = cut.cut([row(n_tokens=len(ids) + more, finish_reason=finish_reason)])
    assert TEXT.startswith(made["text"])
    assert ids_of(tokenizer, made["text"]) == ids[:6]
    assert (made["n_tokens"], made["finish_reason"], made["entropy_mean"]) == (6, "length", None)
    assert (cut.doubtful, cut.by) == (doubtful, {"tokenizer"})


def test_the_beginning_of_a_stop_string_within_the_cap_is_put_back(tokenizer: Tokenizer) -> None:
    ids = ids_of(tokenizer, TEXT)
    whole = len(ids_of(tokenizer, TEXT + ";9"))
    cut = cutter(tokenizer, len(ids) + 1, ";9")
    (made,) = cut.cut([row(n_tokens=whole)])
    assert (made["text"], cut.doubtful) == (TEXT + ";", 0)


@pytest.mark.parametrize("damage", ["short", "beyond", "negative", "another text", "arrays"])
def test_damaged_token_ids_are_refused_in_one_line(tokenizer: Tokenizer, damage: str) -> None:
    ids = [*ids_of(tokenizer, TEXT), tokenizer.eos_token_id]
    arrays: dict[str, Any] = {name: [0.5] * len(ids) for name in TOKEN_COLUMNS[1:]}
    damages: dict[str, dict[str, Any]] = {
        "short": {"token_ids": ids[:-3]},
        "beyond": {"token_ids": [*ids[:-1], 10**6]},
        "negative": {"token_ids": [-1, *ids[1:]]},
        "another text": {"token_ids": ids[::-1]},
        "arrays": {"token_ids": ids, "token_entropy": [0.5]},
    }
    with pytest.raises(RunError, match="here: rollout 3 of problem p cannot be cut: .*"):
        cutter(tokenizer).cut([row(n_tokens=len(ids), **{**arrays, **damages[damage]})])


def test_calls_end_before_their_output_and_not_at_blocks_that_only_look_like_it() -> None:
    one, two = "```python\nprint(1)\n```\n", "```python\nprint(2)\n```\n"
    shown = f"```output\nnot a call\n```\n```text\nx\n```\n{one}"
    text = f"{shown}{output_block('1')}so\n{two}\n{output_block('2')}end"
    first, second = call_ends(text)
    assert text[:first] == shown
    assert text[first:].startswith("```output\n1")
    assert text[second:].startswith("```output\n2")
    cut = CallCutter(1, "here")
    (made,) = cut.cut([row(text=text, tool_calls=2)])
    assert (made["text"], made["tool_calls"], made["n_tokens"]) == (text[:second], 1, None)
    with pytest.raises(RunError, match="its text shows 2 calls, tool_calls is 3"):
        cut.cut([row(text=text, tool_calls=3)])
