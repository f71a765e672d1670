from __future__ import annotations

import itertools
import random

import pytest
import torch

from rlvr_bench import countdown
from rlvr_bench.zoo import checkpoints
from rlvr_bench.zoo.model import Shape, TinyLlama
from rlvr_bench.zoo.sample import Samples, Sampling, sample
from rlvr_bench.zoo.tokenizer import BOS, PAD, VOCABULARY, decode, encode


def generated(seed: int, count: int) -> list[countdown.Puzzle]:
    rng = random.Random(seed)
    sizes = itertools.cycle(size for tier in countdown.TIERS.values() for size in tier)
    return [countdown.generate(rng, next(sizes))[0] for _ in range(count)]


def prompt_ids(puzzle: countdown.Puzzle) -> list[int]:
    return [BOS, *encode(countdown.prompt_text(puzzle))]


def test_logits_agree_with_transformers(base: TinyLlama) -> None:
    from transformers import LlamaForCausalLM

    folder = checkpoints.checkpoint_path("base")
    reference = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(4, len(VOCABULARY), (4, 60), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(base(ids), reference(ids).logits, atol=1e-4, rtol=0)


def test_no_token_sees_a_later_one(base: TinyLlama) -> None:
    ids = torch.randint(4, len(VOCABULARY), (1, 20), generator=torch.Generator().manual_seed(1))
    changed = ids.clone()
    changed[0, 12] = BOS
    with torch.no_grad():
        first, second = base(ids), base(changed)
    torch.testing.assert_close(first[:, :12], second[:, :12])
    assert (first[:, 12:] - second[:, 12:]).abs().amax() > 0.1


@pytest.fixture(scope="module")
def drawn(base: TinyLlama) -> tuple[list[list[int]], Samples]:
    prompts = [prompt_ids(puzzle) for puzzle in generated(7, 8)]
    return prompts, sample(base, prompts, Sampling(n=8), torch.Generator().manual_seed(0))


def test_sampled_statistics_are_those_of_a_full_forward_pass(
    base: TinyLlama, drawn: tuple[list[list[int]], Samples]
) -> None:
    prompts, samples = drawn
    for row, length in enumerate(samples.lengths.tolist()):
        prompt = prompts[row // 8]
        response = samples.ids[row, :length]
        with torch.no_grad():
            logits = base(torch.cat((torch.tensor(prompt), response))[None])[0, len(prompt) - 1 : -1]
        logprobs = logits.log_softmax(-1)
        expected = logprobs.gather(1, response[:, None]).squeeze(1)
        torch.testing.assert_close(samples.logprob[row, :length], expected, atol=1e-4, rtol=0)
        entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
        torch.testing.assert_close(samples.entropy[row, :length], entropy, atol=1e-4, rtol=0)
        in_nucleus = samples.nucleus[row, :length].tolist()
        for position, size in enumerate(int(size) for size in in_nucleus):
            mass = logprobs[position].exp().sort(descending=True).values
            assert mass[:size].sum() > 0.95 - 1e-4
            assert mass[: size - 1].sum() < 0.95 + 1e-4


def test_nothing_follows_the_end(drawn: tuple[list[list[int]], Samples]) -> None:
    _, samples = drawn
    beyond = torch.arange(samples.ids.shape[1])[None] >= samples.lengths[:, None]
    assert bool((samples.ids[beyond] == PAD).all())
    assert not samples.logprob[beyond].any()
    assert bool(samples.finished().any())
    assert samples.texts()[0] == decode(samples.ids[0].tolist())


def test_sampling_is_reproducible_and_seeds_differ(base: TinyLlama) -> None:
    prompts = [prompt_ids(puzzle) for puzzle in generated(8, 4)]
    first, again, other = (
        sample(base, prompts, Sampling(n=4), torch.Generator().manual_seed(seed)).ids for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_sampling_follows_the_model_s_distribution(base: TinyLlama) -> None:
    prompt = prompt_ids(generated(9, 1)[0])
    rolls = 20_000
    first = sample(base, [prompt], Sampling(n=rolls, max_tokens=1), torch.Generator().manual_seed(0)).ids[:, 0]
    with torch.no_grad():
        expected = base(torch.tensor([prompt]))[0, -1].softmax(-1)
    observed = torch.bincount(first, minlength=len(VOCABULARY)) / rolls
    assert bool(((observed - expected).abs() < 5 * (expected / rolls).sqrt() + 1e-3).all())


def test_a_low_temperature_is_greedy_and_a_cut_response_is_unfinished(base: TinyLlama) -> None:
    prompts = [prompt_ids(puzzle) for puzzle in generated(10, 4)]
    cold = sample(base, prompts, Sampling(n=2, max_tokens=3, temperature=1e-4), torch.Generator().manual_seed(0))
    with torch.no_grad():
        greedy = [int(base(torch.tensor([prompt]))[0, -1].argmax()) for prompt in prompts]
    assert cold.ids[::2, 0].tolist() == greedy
    assert not cold.finished().any()
    assert cold.lengths.tolist() == [3] * 8


def test_fresh_weights_come_from_the_generator() -> None:
    first, again, other = (
        TinyLlama(Shape(layers=1), torch.Generator().manual_seed(seed)).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
