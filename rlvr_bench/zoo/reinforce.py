"""RLVR on the puzzle: groups of rollouts, verified, turned into advantages, and learned with a clipped policy gradient.

The loss is DAPO's (arXiv 2503.14476, token-level) over GRPO's groups (arXiv 2402.03300), with the additions of a recipe. The
advantages and the masks of KL-Cov (arXiv 2505.22617) are those of ``rlvr_bench.training.advantages``.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Set
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from rlvr_bench import countdown
from rlvr_bench.countdown import Puzzle, PuzzleKey
from rlvr_bench.training import advantages
from rlvr_bench.zoo.demonstrations import puzzles
from rlvr_bench.zoo.learner import WorkingCopy
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.recipes import Reinforcement
from rlvr_bench.zoo.sample import Samples, Sampling, sample
from rlvr_bench.zoo.tokenizer import BOS, PAD, encode

__all__ = ["Batch", "Reinforcer", "RlvrLine", "draw", "policy_loss", "shaped"]


class RlvrLine(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the log: mean reward, token entropy (nats) and length (tokens) of its rollouts, drawn before updating.

    ``informative`` is the share of rollouts in groups whose rewards differ, ``clipped`` the share of learned tokens whose
    ratio left the clip range, ``illegal`` the share of rollouts that used a number that was not available.
    """

    phase: str
    step: int
    reward: float
    entropy: float
    tokens: float
    informative: float
    clipped: float
    illegal: float


@dataclass(frozen=True)
class Batch:
    """Rollouts of P prompts, G each, as rows: ``ids`` (R, W) prompt and response, padded on the right.

    ``starts`` (R,) is the index where the response begins, ``samples`` holds the rollouts with their statistics (at most
    T tokens), ``reward`` (P, G) is 1 for a correct one, ``reasons`` (R,) are the results of the checker.
    """

    puzzles: list[Puzzle]
    ids: Tensor
    starts: Tensor
    samples: Samples
    reward: Tensor
    reasons: list[str]

    @property
    def mask(self) -> Tensor:
        """Which response tokens exist, (R, T) booleans."""
        return torch.arange(self.samples.ids.shape[1])[None] < self.samples.lengths[:, None]

    def mean_logprob(self) -> Tensor:
        """Log-probability per token of each rollout, (P, G)."""
        return (self.samples.logprob.sum(1) / self.samples.lengths).view(self.reward.shape)


def draw(model: TinyLlama, chosen: list[Puzzle], group: int, generator: torch.Generator) -> Batch:
    """Draw and check ``group`` rollouts of each puzzle; one that did not end is ``truncated`` and gets reward 0."""
    prompts = [[BOS, *encode(countdown.prompt_text(puzzle))] for puzzle in chosen]
    samples = sample(model, prompts, Sampling(group), generator)
    rows = zip(samples.texts(), samples.finished().tolist(), strict=True)
    reasons = [_reason(chosen[row // group], text, ended) for row, (text, ended) in enumerate(rows)]
    reward = torch.tensor([float(reason == "ok") for reason in reasons]).view(len(chosen), group)
    starts = torch.tensor([len(prompt) for prompt in prompts]).repeat_interleave(group)
    return Batch(chosen, _joined(prompts, samples, group), starts, samples, reward, reasons)


def _reason(puzzle: Puzzle, text: str, ended: bool) -> str:
    return countdown.check(puzzle.numbers, puzzle.targets, text) if ended else "truncated"


def _joined(prompts: list[list[int]], samples: Samples, group: int) -> Tensor:
    width = max(map(len, prompts)) + samples.ids.shape[1]
    ids = torch.full((len(samples.ids), width), PAD)
    for row in range(len(ids)):
        prompt = prompts[row // group]
        ids[row, : len(prompt)] = torch.tensor(prompt)
        ids[row, len(prompt) : len(prompt) + samples.ids.shape[1]] = samples.ids[row]
    return ids


def shaped(phase: Reinforcement, batch: Batch) -> Tensor:
    """The advantage of every response token, (R, T), zero after the end, by the rule of the recipe."""
    if phase.advantage == "pass_at_k":
        per_rollout = advantages.pass_at_k(batch.reward, phase.k)
    else:
        per_rollout = advantages.group_normalised(batch.reward)
    if phase.advantage == "perplexity":
        per_rollout = advantages.perplexity_shaped(per_rollout, batch.mean_logprob(), phase.alpha, favour="low")
    flat = per_rollout.reshape(-1)
    if phase.advantage == "position":
        width = batch.samples.ids.shape[1]
        return torch.as_tensor(advantages.position_shaped(flat, batch.samples.lengths, width, phase.alpha))
    return torch.as_tensor(flat)[:, None] * batch.mask


def policy_loss(
    phase: Reinforcement,
    logprob: Tensor,
    entropy: Tensor,
    old: Tensor,
    reference: Tensor | None,
    advantage: Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """Loss per token (to minimise) and the share of tokens outside the clip range; every array is (R, T).

    ``logprob`` is of the sampled tokens now, ``old`` when they were drawn, ``reference`` under the starting checkpoint.
    """
    ratio = (logprob - old).exp()
    gain = ratio * advantage
    outside = (ratio < 1 - phase.clip_low) | (ratio > 1 + phase.clip_high)
    if phase.kl_covariance:
        chosen = advantages.covariance_mask(logprob.detach(), advantage, mask, phase.kl_covariance)
        loss = -gain + phase.kl_covariance_weight * (logprob - old).abs() * chosen
    else:
        loss = -torch.minimum(gain, ratio.clamp(1 - phase.clip_low, 1 + phase.clip_high) * advantage)
    if phase.entropy_bonus:
        loss = loss - phase.entropy_bonus * entropy
    if reference is not None:
        apart = reference - logprob
        loss = loss + phase.kl_reference * (apart.exp() - apart - 1)
    tokens = mask.sum()
    return (loss * mask).sum() / tokens, (outside & mask).sum() / tokens


class Reinforcer:
    """Trains ``model`` in place through a bfloat16 copy, drawing from the float32 weights."""

    def __init__(self, model: TinyLlama, phase: Reinforcement, seed: str, excluded: Set[PuzzleKey]) -> None:
        self.model, self.phase = model, phase
        self.working = WorkingCopy(model)
        self.reference = copy.deepcopy(self.working.network) if phase.kl_reference else None
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=phase.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(rng.getrandbits(62))
        self.puzzles: Iterator[Puzzle] = puzzles(rng, excluded)

    def step(self, number: int) -> RlvrLine:
        """Draw, verify and learn; ``number`` counts from 0."""
        phase = self.phase
        for group in self.optimizer.param_groups:
            group["lr"] = phase.lr * min(1.0, (number + 1) / phase.warmup)
        chosen = [next(self.puzzles) for _ in range(phase.prompts)]
        batch = draw(self.model, chosen, phase.group, self.generator)
        advantage = shaped(phase, batch)
        rows = (advantage != 0).any(1).nonzero().squeeze(1)
        clipped = self._learn(batch, advantage, rows) if len(rows) else 0.0
        tokens = batch.samples.lengths.sum()
        return RlvrLine(
            phase=phase.name,
            step=number + 1,
            reward=round(float(batch.reward.mean()), 4),
            entropy=round(float(batch.samples.entropy.sum() / tokens), 4),
            tokens=round(float(tokens) / len(batch.ids), 2),
            informative=round(len(rows) / len(batch.ids), 4),
            clipped=round(clipped, 4),
            illegal=round(batch.reasons.count("illegal") / len(batch.ids), 4),
        )

    def _learn(self, batch: Batch, advantage: Tensor, rows: Tensor) -> float:
        """One pass over the informative rows in minibatches; returns the mean share of tokens outside the clip range."""
        shuffled = rows[torch.randperm(len(rows), generator=self.generator)]
        # The old log-probabilities come from the copy that is updated, so that the ratio starts at exactly one.
        with torch.no_grad():
            old = self._score(self.working.network, batch, shuffled)[0]
            reference = None if self.reference is None else self._score(self.reference, batch, shuffled)[0]
        shares = []
        for part in torch.arange(len(shuffled)).chunk(self.phase.minibatches):
            chosen = shuffled[part]
            logprob, entropy = self._score(self.working.network, batch, chosen)
            loss, share = policy_loss(
                self.phase,
                logprob,
                entropy,
                old[part],
                None if reference is None else reference[part],
                advantage[chosen],
                batch.mask[chosen],
            )
            self.working.learn(loss, [self.optimizer])
            shares.append(float(share))
        return sum(shares) / len(shares)

    @staticmethod
    def _score(model: TinyLlama, batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of the sampled tokens and entropy, each (rows, T) in float32."""
        ids, sampled = batch.ids[rows], batch.samples.ids[rows]
        positions = batch.starts[rows, None] - 1 + torch.arange(sampled.shape[1])[None]
        logits = model(ids[:, :-1])
        rowwise = torch.arange(len(rows))[:, None]
        logprobs = logits[rowwise, positions].float().log_softmax(-1)
        return logprobs.gather(-1, sampled[..., None]).squeeze(-1), -(logprobs.exp() * logprobs).sum(-1)
