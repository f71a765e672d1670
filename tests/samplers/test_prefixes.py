"""Continuing what a response has begun, stop strings and limits of single requests, next tokens: the embedded engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.records import Draw, DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.model_files import cut_at_stop
from rlvr_bench.samplers.protocol import PrefixSampler, SamplerOptions
from tests.samplers.tiny_llama import make_tiny_llama

SAMPLING = SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=24)
PROMPT = Prompt(problem_id="p", text="w1 w2 w3")


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("torch")
    from rlvr_bench.samplers.transformers import TransformersSampler

    folder: Path = make_tiny_llama(tmp_path_factory.mktemp("tiny"))
    opened = TransformersSampler(SamplerOptions(model=str(folder), token_stats="full"))
    yield opened
    opened.close()


def draw(sampler: Any, prompt: Prompt = PROMPT, seed: int = 5, n: int = 6, **fields: Any) -> Draw:
    request = DrawRequest(prompt=prompt, start=0, n=n, seed=seed, **fields)
    (drawn,) = sampler.draw([request], SAMPLING)
    return drawn  # type: ignore[no-any-return]


def ids_of(sampler: Any, text: str) -> list[int]:
    return [int(i) for i in sampler.loaded.tokenizer(text, add_special_tokens=False)["input_ids"]]


def test_tokens_and_text_that_say_the_same_are_continued_alike(sampler: Any) -> None:
    import msgspec

    begun = tuple(ids_of(sampler, "w7 w8 w9"))
    by_tokens = draw(sampler, msgspec.structs.replace(PROMPT, begun=begun))
    by_text = draw(sampler, msgspec.structs.replace(PROMPT, begun=" w7 w8 w9"))
    plain = draw(sampler, Prompt(problem_id="p", text="w1 w2 w3 w7 w8 w9"))
    for tokens, text, alone in zip(by_tokens.rollouts, by_text.rollouts, plain.rollouts, strict=True):
        assert tokens.tokens is not None
        assert text.tokens is not None
        assert alone.tokens is not None
        assert tokens.tokens.ids.tolist() == text.tokens.ids.tolist() == alone.tokens.ids.tolist()
        assert tokens.text.split() == text.text.split() == ["w7", "w8", "w9", *alone.text.split()]
        assert tokens.n_tokens == alone.n_tokens, "only what was drawn counts"
        assert tokens.logprob_sum == pytest.approx(alone.logprob_sum)


def test_a_stop_string_ends_its_own_rollout_and_stays_in_the_text(sampler: Any) -> None:
    free = draw(sampler, n=32)
    word = free.rollouts[0].text.split()[2]
    stopped = draw(sampler, n=32, stop=(f"{word} ", f" {word}"))
    assert any(len(a.text) < len(b.text) for a, b in zip(stopped.rollouts, free.rollouts, strict=True))
    for short, whole in zip(stopped.rollouts, free.rollouts, strict=True):
        assert whole.text.startswith(short.text)
        expected, is_stopped = cut_at_stop(whole.text, (f"{word} ", f" {word}"))
        if is_stopped:
            assert short.finish_reason == "stop"
            assert short.text.split() == expected.split()
            assert short.n_tokens < whole.n_tokens or short.text.split() == whole.text.split()
        else:
            assert short.text == whole.text


def test_requests_with_limits_of_their_own_share_a_window(sampler: Any) -> None:
    requests = [DrawRequest(prompt=PROMPT, start=0, n=8, seed=3, max_tokens=limit) for limit in (1, 5, None, 99)]
    draws = list(sampler.draw(requests, SAMPLING))
    for drawn, most in zip(draws, (1, 5, 24, 24), strict=True):
        assert max(rollout.n_tokens for rollout in drawn.rollouts) == most
        for rollout, whole in zip(drawn.rollouts, draws[-1].rollouts, strict=True):
            assert rollout.tokens is not None
            assert whole.tokens is not None
            assert rollout.tokens.ids.tolist() == whole.tokens.ids[:most].tolist()
            assert (rollout.finish_reason == "length") == (rollout.tokens.ids[-1] != 2)


def test_next_tokens_are_the_models_likeliest(sampler: Any) -> None:
    import msgspec
    import torch

    assert isinstance(sampler, PrefixSampler)
    begun = [(), tuple(ids_of(sampler, "w7")), tuple(ids_of(sampler, "w9 w11 w13"))]
    prompts = [msgspec.structs.replace(PROMPT, begun=ids) for ids in begun]
    candidates = sampler.next_tokens(prompts, 5)
    for likely, ids in zip(candidates, begun, strict=True):
        whole = torch.tensor([[1, *ids_of(sampler, PROMPT.text), *ids]])
        with torch.inference_mode():
            logprobs = sampler.loaded.model(whole).logits[0, -1].double().log_softmax(-1)  # type: ignore[attr-defined]
        order = [int(i) for i in logprobs.argsort(descending=True) if int(i) != 2][:5]
        assert list(likely.ids) == order, "largest first, the end token left out"
        assert likely.logprobs == pytest.approx([float(logprobs[i]) for i in order], abs=1e-5)
