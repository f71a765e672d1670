"""The law that tokens are drawn from, against one computed by hand in float64 on a vocabulary of 200 tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers", reason="needs the torch extra")

from rlvr_bench.samplers.protocol import SamplerOptions  # noqa: E402
from rlvr_bench.samplers.token_law import Penalties, choose, token_probabilities  # noqa: E402
from rlvr_bench.samplers.transformers import TransformersSampler  # noqa: E402
from tests.samplers.laws import law, p_value  # noqa: E402
from tests.samplers.tiny_llama import make_tiny_llama  # noqa: E402

VOCABULARY = 200
DRAWS = 20_000
PROMPT, DRAWN = (3, 5, 8, 13, 8), (1, 2, 3)  # likely tokens among them: the penalties change the law
LAWS = [
    SamplingParameters(temperature=1.0, top_p=1.0),
    SamplingParameters(temperature=0.7, top_p=0.8),
    SamplingParameters(temperature=1.5, top_p=1.0, top_k=20),
    SamplingParameters(temperature=1.3, top_p=1.0, min_p=0.05),
    SamplingParameters(temperature=1.0, top_p=1.0, repetition_penalty=1.3),
    SamplingParameters(temperature=1.0, top_p=1.0, repetition_penalty=0.7),
    SamplingParameters(temperature=1.0, top_p=1.0, presence_penalty=1.5),
    SamplingParameters(temperature=1.0, top_p=1.0, presence_penalty=-1.0),
    SamplingParameters(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05),
    SamplingParameters(temperature=1.4, top_p=0.85, top_k=30, min_p=0.04, repetition_penalty=1.2, presence_penalty=0.6),
]


@pytest.mark.parametrize("sampling", LAWS, ids=lambda sampling: sampling.in_words())
def test_20_000_draws_follow_the_law_by_hand(sampling: SamplingParameters) -> None:
    logits = np.random.default_rng(5).normal(0, 2, VOCABULARY)
    logits[list(PROMPT + DRAWN)] = [2.5, 3.5, -0.5, 3.0, -0.5, 4.0, 3.2, 2.8]
    rows = torch.arange(DRAWS)
    like = torch.tensor(logits, dtype=torch.float32).expand(DRAWS, -1)
    penalties = Penalties([PROMPT] * DRAWS, VOCABULARY, sampling, like=like)
    for token in DRAWN:
        penalties.add(rows, torch.full((DRAWS,), token))
    uniforms = torch.rand(DRAWS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ids = choose(penalties.apply(like, rows), uniforms, sampling).numpy()
    assert p_value(ids, law(logits, PROMPT, DRAWN, sampling)) > 1e-3
    wrong = next(other for other in LAWS if other != sampling)
    assert p_value(ids, law(logits, PROMPT, DRAWN, wrong)) < 1e-6  # the test would notice


@pytest.mark.parametrize("sampling", LAWS, ids=lambda sampling: sampling.in_words())
def test_the_probability_of_every_token_is_that_of_the_law_by_hand(sampling: SamplingParameters) -> None:
    logits = np.random.default_rng(5).normal(0, 2, VOCABULARY)
    rows, every = torch.zeros(VOCABULARY, dtype=torch.int64), torch.arange(VOCABULARY)
    like = torch.tensor(logits, dtype=torch.float32)[None]
    penalties = Penalties([PROMPT], VOCABULARY, sampling, like=like)
    penalties.add(rows[: len(DRAWN)], torch.tensor(DRAWN))
    computed = token_probabilities(penalties.apply(like.expand(VOCABULARY, -1), rows), every, sampling)
    expected = law(logits, PROMPT, DRAWN, sampling)
    assert (computed.is_cut.numpy() == (expected == 0)).all()
    kept = expected > 0
    np.testing.assert_allclose(computed.logprob.exp().numpy()[kept], expected[kept], rtol=1e-5)
    assert computed.logprob.exp()[~computed.is_cut].sum().item() == pytest.approx(1, abs=1e-9)


def test_a_greedy_law_has_one_token() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]]).expand(3, -1)
    computed = token_probabilities(logits, torch.arange(3), SamplingParameters(temperature=0.0))
    assert computed.is_cut.tolist() == [True, False, True]
    assert computed.logprob[1].item() == 0


def test_the_whole_engine_follows_the_law_after_the_first_token(tmp_path: Path) -> None:
    """The second token, given the first: its law depends on the prompt, on the first token, and on the parameters."""
    from transformers import AutoModelForCausalLM

    folder = make_tiny_llama(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    sampler = TransformersSampler(SamplerOptions(model=str(folder), token_stats="full"))
    sampling = SamplingParameters(
        temperature=1.2, top_p=0.9, top_k=40, min_p=0.02, repetition_penalty=1.4, presence_penalty=0.8, max_tokens=2
    )
    asked = [
        DrawRequest(prompt=Prompt(problem_id="p", text="w1 w2 w1"), start=500 * i, n=500, seed=i) for i in range(12)
    ]
    rollouts = [r for draw in sampler.draw(asked, sampling) for r in draw.rollouts if r.tokens is not None]
    pairs = np.array([r.tokens.ids for r in rollouts if r.tokens is not None and len(r.tokens.ids) == 2])
    first = int(np.bincount(pairs[:, 0]).argmax())
    prompt = [1, 4, 5, 4]
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, first]])).logits[0, -1].numpy()
    second = pairs[pairs[:, 0] == first, 1]
    assert len(second) > 300
    assert p_value(second, law(logits, prompt, [first], sampling)) > 1e-3
    own = law(logits, [], [], SamplingParameters(temperature=1.0, top_p=1.0))
    rollout = next(r for r in rollouts if r.tokens is not None and r.tokens.ids[0] == first and len(r.tokens.ids) == 2)
    assert rollout.tokens is not None
    assert rollout.tokens.logprob[1] == pytest.approx(np.log(own[rollout.tokens.ids[1]]), abs=2e-4)


def test_greedy_takes_the_likeliest_after_the_penalties() -> None:
    logits = torch.tensor([[3.0, 2.9, 0.0]])
    sampling = SamplingParameters(temperature=0.0, repetition_penalty=1.2)
    penalties = Penalties([[0]], 3, sampling, like=logits)
    assert choose(penalties.apply(logits, torch.tensor([0])), torch.zeros(1), sampling).tolist() == [1]
    assert logits.tolist() == [[3.0, pytest.approx(2.9), 0.0]]


def test_a_response_ends_before_its_stop_string(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path)
    sampler = TransformersSampler(SamplerOptions(model=str(folder), token_stats="full"))
    free = SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=40)
    asked = DrawRequest(prompt=Prompt(problem_id="p", text="w1 w2"), start=0, n=16, seed=3)
    (plain,) = sampler.draw([asked], free)
    long = max(plain.rollouts, key=lambda rollout: len(rollout.text.split()))
    words = long.text.split()
    stop = " ".join(words[10:13])
    (draw,) = sampler.draw([asked], SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=40, stop=(stop, "w999")))
    for before, after in zip(plain.rollouts, draw.rollouts, strict=True):
        kept, found, _ = before.text.partition(stop)
        assert after.text == kept
        if found:
            assert after.finish_reason == "stop"
            assert after.n_tokens <= before.n_tokens
        else:
            assert (after.n_tokens, after.finish_reason) == (before.n_tokens, before.finish_reason)
    assert draw.rollouts[long.index].n_tokens < 16


def test_a_stop_string_longer_than_the_shortest_window_is_seen(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path)
    sampler = TransformersSampler(SamplerOptions(model=str(folder), token_stats="off"))
    greedy = SamplingParameters(temperature=0.0, max_tokens=100)
    asked = DrawRequest(prompt=Prompt(problem_id="p", text="w3"), start=0, n=1, seed=3)
    (plain,) = sampler.draw([asked], greedy)
    words = plain.rollouts[0].text.split()
    assert len(words) > 60
    stop = " ".join(words[5:55])
    (draw,) = sampler.draw([asked], SamplingParameters(temperature=0.0, max_tokens=100, stop=(stop,)))
    assert draw.rollouts[0].text.split() == words[:5]
    assert draw.rollouts[0].n_tokens < 70
