from __future__ import annotations

import dataclasses
import random
from itertools import islice

import pytest
import torch
from torch import Tensor

from rlvr_bench import countdown
from rlvr_bench.zoo.demonstrations import held_out_keys, puzzles
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.recipes import RECIPES, Reinforcement, Rejection
from rlvr_bench.zoo.reinforce import Batch, Reinforcer, draw, policy_loss, shaped
from rlvr_bench.zoo.rejection import endless, selected
from rlvr_bench.zoo.tokenizer import decode

GRPO = Reinforcement(name="rlvr", steps=30, lr=6e-4, prompts=16, group=8, minibatches=2, warmup=2)


@pytest.fixture(scope="module")
def batch(base: TinyLlama) -> Batch:
    """Sixteen puzzles with sixteen rollouts each."""
    chosen = list(islice(puzzles(random.Random(1), frozenset()), 16))
    return draw(base, chosen, 16, torch.Generator().manual_seed(1))


def mean_reward(model: TinyLlama, seed: int) -> float:
    chosen = [problem.puzzle for problem in countdown.development(100)]
    return float(draw(model, chosen, 16, torch.Generator().manual_seed(seed)).reward.mean())


def test_thirty_steps_of_rlvr_raise_the_reward_and_lower_the_entropy(base: TinyLlama) -> None:
    model = TinyLlama(base.shape)
    model.load_state_dict(base.state_dict())
    learner = Reinforcer(model, GRPO, "test", held_out_keys())
    lines = [learner.step(number) for number in range(GRPO.steps)]
    # On the same 100 puzzles; the standard error of each mean is below 0.01, the rise about 0.1.
    assert mean_reward(model, 2) > mean_reward(base, 3) + 0.05
    assert lines[-1].entropy < lines[0].entropy - 0.1
    assert [line.step for line in lines] == list(range(1, 31))
    assert lines[0].clipped == pytest.approx(0, abs=0.05)
    # The copy that learns is the float32 weights, rounded.
    pairs = zip(model.parameters(), learner.working.network.parameters(), strict=True)
    assert all(torch.equal(master.bfloat16(), copied) for master, copied in pairs)


def test_rewards_are_the_checker_s_and_rows_line_up(batch: Batch) -> None:
    texts = batch.samples.texts()
    for row, (puzzle, reason) in enumerate(
        zip([p for p in batch.puzzles for _ in range(16)], batch.reasons, strict=True)
    ):
        assert reason in ("truncated", countdown.check(puzzle.numbers, puzzle.targets, texts[row]))
        whole = decode(batch.ids[row].tolist())
        assert whole == countdown.prompt_text(puzzle) + texts[row]
    assert batch.reward.sum() == batch.reasons.count("ok") > 0


def test_the_prompts_of_rlvr_are_never_held_out(base: TinyLlama) -> None:
    stream = Reinforcer(base, GRPO, "seed", held_out_keys()).puzzles
    plain = puzzles(random.Random(5), frozenset())
    planted = next(plain)
    key = countdown.canonical_key(planted.numbers, planted.targets)
    without = puzzles(random.Random(5), frozenset({key}))
    assert next(without) == next(plain)
    drawn = {countdown.canonical_key(p.numbers, p.targets) for p in islice(stream, 2000)}
    assert not drawn & held_out_keys()


def plain_advantage(batch: Batch) -> Tensor:
    return shaped(GRPO, batch)


def test_position_shaping_moves_late_tokens_only_and_away_from_zero(batch: Batch) -> None:
    plain = plain_advantage(batch)
    changed = shaped(dataclasses.replace(GRPO, advantage="position", alpha=0.1), batch)
    gain = changed.abs() - plain.abs()
    early = torch.arange(plain.shape[1])[None] < batch.samples.lengths[:, None] * 0.2
    late = (torch.arange(plain.shape[1])[None] >= batch.samples.lengths[:, None] * 0.8) & batch.mask & (plain != 0)
    assert gain[early & batch.mask].max() < 0.1 * torch.sigmoid(torch.tensor(15 * -0.3)) + 1e-6
    assert gain[late].min() > 0.09
    assert torch.equal(changed.sign(), plain.sign())


def test_perplexity_shaping_is_applied_and_favours_low_perplexity(batch: Batch) -> None:
    plain = plain_advantage(batch)[:, 0].view(16, 16)
    changed = shaped(dataclasses.replace(GRPO, advantage="perplexity", alpha=0.1), batch)[:, 0].view(16, 16)
    ratio, likely = (changed / plain)[plain != 0], batch.mean_logprob()[plain != 0]
    assert ratio.min() >= 0.8 - 1e-6
    assert ratio.max() <= 1.2 + 1e-6
    assert float(torch.corrcoef(torch.stack([ratio, likely]))[0, 1]) > 0.5
    assert (ratio - 1).abs().max() > 0.05


def test_pass_at_k_training_gives_nothing_to_groups_that_are_solved_anyway(batch: Batch) -> None:
    changed = shaped(dataclasses.replace(GRPO, advantage="pass_at_k", k=4), batch).abs().sum(1).view(16, 16).sum(1)
    solved = batch.reward.sum(1)
    assert (changed[solved > 12] == 0).all()
    assert (changed[(solved > 0) & (solved <= 8)] > 0).all()
    assert ((solved > 0) & (solved <= 8)).any()


def gradient(phase: Reinforcement, moved: float, advantage: float, **other: Tensor) -> tuple[float, float]:
    """The gradient of the loss in the log-probability of one of two tokens, which moved by ``moved`` since it was drawn."""
    old = torch.tensor([[-1.0, -2.0]])
    logprob = (old + torch.tensor([[moved, 0.0]])).requires_grad_()
    entropy = torch.ones(1, 2, requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    advantages = torch.full((1, 2), advantage)
    loss, _ = policy_loss(phase, logprob, entropy, old, other.get("reference"), advantages, mask)
    wanted = torch.autograd.grad(loss, [logprob, entropy], allow_unused=True)
    return float(wanted[0][0, 0]), 0.0 if wanted[1] is None else float(wanted[1][0, 0])


def test_the_loss_is_the_policy_gradient_at_first_and_clipped_later() -> None:
    assert gradient(GRPO, 0.0, 0.7)[0] == pytest.approx(-0.7 / 2)
    raised = 0.22  # a ratio of 1.246
    assert gradient(GRPO, raised, 0.7)[0] == 0
    assert gradient(dataclasses.replace(GRPO, clip_high=0.28), raised, 0.7)[0] < 0
    assert gradient(GRPO, raised, -0.7)[0] > 0  # a bad token that became likelier is always pulled back
    assert gradient(GRPO, -0.3, -0.7)[0] == 0


def test_each_penalty_pulls_where_it_says() -> None:
    assert gradient(GRPO, 0.1, 0.7)[1] == 0
    assert gradient(dataclasses.replace(GRPO, entropy_bonus=0.05), 0.1, 0.7)[1] == pytest.approx(-0.05 / 2)
    near = dataclasses.replace(GRPO, kl_reference=0.05)
    reference = torch.tensor([[-1.5, -2.0]])  # the start found this token less likely
    assert gradient(near, 0.0, 0.0, reference=reference)[0] > 0
    held = dataclasses.replace(GRPO, kl_covariance=0.5)
    free = gradient(dataclasses.replace(GRPO, clip_high=9.0), 0.1, 0.7)[0]
    assert gradient(held, 0.1, 0.7)[0] == pytest.approx(free + 1.0 / 2)


@pytest.fixture(scope="module")
def rejection() -> Rejection:
    phase = RECIPES["rft"].phases[0]
    assert isinstance(phase, Rejection)
    return dataclasses.replace(phase, prompts=96, group=32)


def reasons(examples: list[list[int]]) -> list[str]:
    """The checker's results for lists of token ids, each a prompt and a response."""
    results: list[str] = []
    for ids in examples:
        prompt, response = decode(ids).split(":")
        numbers, targets = ([int(number) for number in part.split(",")] for part in prompt.split(">"))
        results.append(countdown.check(numbers, targets, response))
    return results


def test_rejection_sampling_keeps_distinct_correct_rollouts(base: TinyLlama, rejection: Rejection) -> None:
    chosen = selected(base, rejection, random.Random(3), held_out_keys())
    whole = [[*example.prompt, *example.response] for example in chosen]
    assert set(reasons(whole)) == {"ok"}
    assert len({tuple(ids) for ids in whole}) == len(whole) > 100
    prompts = [tuple(example.prompt) for example in chosen]
    assert max(prompts.count(prompt) for prompt in set(prompts)) == rejection.per_problem


def test_wrong_rollouts_are_mixed_in_at_their_share(base: TinyLlama, rejection: Rejection) -> None:
    noisy = selected(base, dataclasses.replace(rejection, wrong_share=0.05), random.Random(3), held_out_keys())
    results = reasons([[*example.prompt, *example.response] for example in noisy])
    assert sum(reason != "ok" for reason in results) == pytest.approx(0.05 * len(results), abs=1)


def test_examples_come_round_in_another_order(base: TinyLlama, rejection: Rejection) -> None:
    few = selected(base, dataclasses.replace(rejection, prompts=8), random.Random(4), held_out_keys())
    stream = endless(random.Random(0), few)
    first, second = (list(islice(stream, len(few))) for _ in range(2))
    assert first != second
    assert sorted(map(str, first)) == sorted(map(str, second)) == sorted(map(str, few))
