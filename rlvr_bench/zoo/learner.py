"""Supervised updates: batches, learning-rate schedule, optimizers, bfloat16 working copy."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlvr_bench.zoo.demonstrations import Example
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.recipes import Supervised
from rlvr_bench.zoo.tokenizer import PAD

__all__ = ["IGNORED", "Learner", "WorkingCopy", "batches", "schedule"]

IGNORED = -100
"""Label of a token that does not count in the loss."""

_BUCKETS = 16


def batches(rng: random.Random, source: Iterator[Example], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels, each (size, tokens), without end; only response tokens carry a label.

    The examples of sixteen batches are sorted by length before they are divided, which saves padding.
    """
    while True:
        group = sorted(islice(source, size * _BUCKETS), key=lambda e: len(e.prompt) + len(e.response))
        starts = list(range(0, len(group), size))
        rng.shuffle(starts)
        for start in starts:
            yield _collate(group[start : start + size])


def _collate(group: list[Example]) -> tuple[Tensor, Tensor]:
    width = max(len(example.prompt) + len(example.response) for example in group) - 1
    inputs = torch.full((len(group), width), PAD)
    labels = torch.full((len(group), width), IGNORED)
    for row, example in enumerate(group):
        sequence = torch.tensor(example.prompt + example.response)
        inputs[row, : len(sequence) - 1] = sequence[:-1]
        labels[row, len(example.prompt) - 1 : len(sequence) - 1] = sequence[len(example.prompt) :]
    return inputs, labels


def schedule(step: int, steps: int, warmup: int) -> float:
    """The fraction of the peak learning rate at a step from 0: linear rise, plateau, linear fall over the last half.

    The fall ends at 2 % rather than 0, so that no step is wasted.
    """
    return min(1.0, (step + 1) / max(1, warmup)) * min(1.0, 0.02 + (steps - step) / (0.5 * steps))


class WorkingCopy:
    """A bfloat16 copy, ``network``, of a float32 model. The copy computes, the model is updated: much faster where the
    CPU multiplies bfloat16.
    """

    def __init__(self, model: TinyLlama) -> None:
        self.model, self.network = model, copy.deepcopy(model).bfloat16()

    def learn(self, loss: Tensor, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Apply the gradients of ``loss``, clipped to norm 1, to the float32 weights and copy these back."""
        self.network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        pairs = list(zip(self.model.parameters(), self.network.parameters(), strict=True))
        for master, working in pairs:
            master.grad = None if working.grad is None else working.grad.float()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            for master, working in pairs:
                working.copy_(master)


class Learner:
    """Trains ``model`` in place from demonstrations.

    Muon (Jordan et al. 2024) moves the hidden matrices, AdamW the embedding and the norms.
    """

    def __init__(self, model: TinyLlama, phase: Supervised) -> None:
        self.model, self.phase = model, phase
        self.working = WorkingCopy(model)
        hidden = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
        chosen = {id(p) for p in hidden}
        rest = [p for p in model.parameters() if id(p) not in chosen]
        muon = torch.optim.Muon(hidden, lr=phase.muon_lr, momentum=0.95, weight_decay=0.0, ns_steps=4)
        adam = torch.optim.AdamW(rest, lr=phase.adam_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (muon, adam)
        self.peaks = (phase.muon_lr, phase.adam_lr)

    def step(self, number: int, inputs: Tensor, labels: Tensor) -> float:
        """One update at the learning rate of step ``number``; returns the loss before it (nats per response token)."""
        self._set_rates(schedule(number, self.phase.steps, self.phase.warmup))
        scored = labels != IGNORED
        loss = functional.cross_entropy(self.working.network(inputs)[scored].float(), labels[scored])
        self.working.learn(loss, self.optimizers)
        return loss.item()

    def _set_rates(self, fraction: float) -> None:
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * fraction
