"""Rejection-sampling fine-tuning: draw from the starting checkpoint, select rollouts by a rule, and learn from them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Set
from itertools import islice

import torch
from torch import Tensor

from rlvr_bench.countdown import Puzzle, PuzzleKey
from rlvr_bench.training.selection import Pool, choose
from rlvr_bench.zoo.demonstrations import Example, puzzles
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.recipes import Rejection
from rlvr_bench.zoo.reinforce import Batch, draw

__all__ = ["endless", "selected"]

_PROMPTS_AT_ONCE = 32


def selected(model: TinyLlama, phase: Rejection, rng: random.Random, excluded: Set[PuzzleKey]) -> list[Example]:
    """The fine-tuning set of ``phase``, drawn from ``model``; training does not change it meanwhile."""
    generator = torch.Generator().manual_seed(rng.getrandbits(62))
    source: Iterator[Puzzle] = puzzles(rng, excluded)
    batches: list[Batch] = []
    for done in range(0, phase.prompts, _PROMPTS_AT_ONCE):
        chosen = list(islice(source, min(_PROMPTS_AT_ONCE, phase.prompts - done)))
        batches.append(draw(model, chosen, phase.group, generator))
    pool = _pool(batches, phase.group)
    rows = choose(pool, phase.strategy, phase.per_problem, phase.wrong_share, seed=rng.getrandbits(31)).rows
    examples = [example for batch in batches for example in _examples(batch)]
    return [examples[row] for row in rows]


def endless(rng: random.Random, examples: list[Example]) -> Iterator[Example]:
    """The examples without end, in a new random order each round."""
    while True:
        yield from rng.sample(examples, len(examples))


def _pool(batches: list[Batch], group: int) -> Pool:
    """All rollouts in the form that the selection rules read; one that did not end is neither correct nor wrong."""
    texts: dict[str, int] = {}
    reasons = [reason for batch in batches for reason in batch.reasons]
    words = [text for batch in batches for text in batch.samples.texts()]
    correct = [reason == "ok" for reason in reasons]
    return Pool(
        problem=[row // group for row in range(len(reasons))],
        text=[texts.setdefault(word, len(texts)) for word in words],
        correct=correct,
        wrong=[not right and reason != "truncated" for right, reason in zip(correct, reasons, strict=True)],
        entropy=_means([batch.samples.entropy for batch in batches], batches),
        branching=_means([batch.samples.nucleus for batch in batches], batches),
    )


def _means(values: list[Tensor], batches: list[Batch]) -> list[float]:
    pairs = zip(values, batches, strict=True)
    return [mean for value, batch in pairs for mean in (value.sum(1) / batch.samples.lengths).tolist()]


def _examples(batch: Batch) -> Iterator[Example]:
    lengths = batch.samples.lengths.tolist()
    for row, (start, length) in enumerate(zip(batch.starts.tolist(), lengths, strict=True)):
        ids = batch.ids[row].tolist()
        yield Example(ids[:start], ids[start : start + length])
