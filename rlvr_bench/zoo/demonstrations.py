"""Demonstrations for training without end, generated during training and never of a held-out problem."""

from __future__ import annotations

import random
from collections.abc import Iterator, Set
from dataclasses import dataclass

from rlvr_bench import countdown
from rlvr_bench.countdown import Puzzle, PuzzleKey, Step
from rlvr_bench.zoo.recipes import Noise
from rlvr_bench.zoo.tokenizer import BOS, EOS, encode

__all__ = ["Example", "demonstrations", "examples", "held_out_keys", "puzzles"]

_SIZES: tuple[countdown.Sizes, ...] = ((2, 2), (2, 3), (3, 3), (3, 2), (3, 3))
_SLIPS = (-10, -2, -1, 1, 2, 10)


@dataclass(frozen=True)
class Example:
    """Token ids of one demonstration: ``prompt`` starts with ``<bos>``, ``response`` ends with ``<eos>``."""

    prompt: list[int]
    response: list[int]


def held_out_keys() -> frozenset[PuzzleKey]:
    """Canonical keys of all evaluation problems; training must exclude them."""
    return frozenset(countdown.canonical_key(p.puzzle.numbers, p.puzzle.targets) for p in countdown.held_out())


def demonstrations(
    rng: random.Random, noise: Noise, excluded: Set[PuzzleKey]
) -> Iterator[tuple[Puzzle, tuple[Step, ...]]]:
    """Puzzles and the steps shown for them, without end, in the evaluation's mix of sizes.

    A puzzle is left out where its key is ``excluded``: its key before the targets are mislabelled (the steps would solve
    an excluded problem), and its key after that.
    """
    while True:
        puzzle, steps = countdown.generate(rng, rng.choice(_SIZES))
        shown = _mislabelled(rng, puzzle) if rng.random() < noise.mislabel else puzzle
        spoiled = _spoiled(rng, steps, noise)
        # Decided last, so that excluding a problem leaves the rest of the stream as it is.
        if _key(puzzle) not in excluded and _key(shown) not in excluded:
            yield shown, spoiled


def puzzles(rng: random.Random, excluded: Set[PuzzleKey]) -> Iterator[Puzzle]:
    """Puzzles without end in the evaluation's mix of sizes, none of which has an excluded key."""
    for puzzle, _ in demonstrations(rng, Noise(), excluded):
        yield puzzle


def examples(rng: random.Random, noise: Noise, excluded: Set[PuzzleKey]) -> Iterator[Example]:
    """The same demonstrations as token ids."""
    for puzzle, steps in demonstrations(rng, noise, excluded):
        prompt = [BOS, *encode(countdown.prompt_text(puzzle))]
        yield Example(prompt, [*encode(countdown.response_text(steps)), EOS])


def _key(puzzle: Puzzle) -> PuzzleKey:
    return countdown.canonical_key(puzzle.numbers, puzzle.targets)


def _mislabelled(rng: random.Random, puzzle: Puzzle) -> Puzzle:
    first, second = rng.sample(range(10, 100), 2)
    return Puzzle(puzzle.numbers, (first, second), puzzle.sizes)


def _spoiled(rng: random.Random, steps: tuple[Step, ...], noise: Noise) -> tuple[Step, ...]:
    kept = steps[:-1] if rng.random() < noise.early_stop else steps
    return tuple(_slipped(rng, step) if rng.random() < noise.slip else step for step in kept)


def _slipped(rng: random.Random, step: Step) -> Step:
    """The step with a nearby wrong result from 1 to 99."""
    wrong = [step.result + slip for slip in _SLIPS if 1 <= step.result + slip <= 99]
    return Step(step.left, step.operator, step.right, rng.choice(wrong))
