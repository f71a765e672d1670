"""The puzzle "double countdown": its rules, a generator with demonstrations, a checker, and a guessing baseline.

A puzzle gives four to six numbers and two targets, written ``12,10,4,12,13,15>37,34:``. A response is a chain of steps.
Each step replaces two of the remaining numbers by their result: ``4*13=52;52-15=37;10+12=22;22+12=34``. The response
is right when every number was used and the two numbers left are the targets, in either order.

Why two targets: with one target of the same size, random legal steps solve nearly every puzzle within 256 guesses, and
pass@256 would say nothing about a model. Two targets square the number of possible answers, and arithmetic stays below
100.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import msgspec

from rlvr_bench.errors import BadArgument

__all__ = [
    "DEVELOPMENT_SEED",
    "HELD_OUT_SEED",
    "REASONS",
    "TIERS",
    "HeldOut",
    "Puzzle",
    "PuzzleKey",
    "Reason",
    "Sizes",
    "Step",
    "canonical_key",
    "check",
    "development",
    "exact_result",
    "generate",
    "guess",
    "held_out",
    "prompt_text",
    "response_text",
    "tier_of",
]

Sizes = tuple[int, int]
PuzzleKey = tuple[tuple[int, ...], tuple[int, ...]]
Reason = Literal["ok", "format", "illegal", "arithmetic", "unused", "half", "wrong"]
REASONS: tuple[Reason, ...] = get_args(Reason)

TIERS: dict[str, tuple[Sizes, ...]] = {"easy": ((2, 2),), "medium": ((2, 3), (3, 2)), "hard": ((3, 3),)}
"""Difficulty by the sizes of the two groups of numbers; each group makes one target."""

HELD_OUT_SEED = 20250807
DEVELOPMENT_SEED = 20250808
# Five sizes in turn give exactly 20 % easy, 40 % medium and 40 % hard, in every prefix whose length is a multiple of 5.
_HELD_OUT_CYCLE: tuple[Sizes, ...] = ((2, 2), (2, 3), (3, 3), (3, 2), (3, 3))

_LARGEST_NUMBER = 15
_SMALLEST_TARGET = 10
_LARGEST_RESULT = 99
# Addition, subtraction and multiplication twice as often as division, which is rarely exact.
_OPERATORS = "++--**/"
_TRIES_PER_STEP = 12

# Four digits are enough for the largest product of two legal numbers (99 * 99), so int() never reads a long run of
# digits. [0-9] excludes the digits of other scripts, which \d accepts.
_NUMBER = r"(0|[1-9][0-9]{0,3})"
_STEP = re.compile(rf"{_NUMBER}([-+*/]){_NUMBER}={_NUMBER}")


class Puzzle(msgspec.Struct, frozen=True):
    """The given numbers, two targets, and how many numbers made each target (not shown in the prompt)."""

    numbers: tuple[int, ...]
    targets: tuple[int, int]
    sizes: Sizes


class Step(msgspec.Struct, frozen=True):
    """One line of arithmetic, ``left operator right = result``; it may be wrong."""

    left: int
    operator: str
    right: int
    result: int


class HeldOut(msgspec.Struct, frozen=True):
    """One evaluation problem with a solution that the checker accepts."""

    id: str
    puzzle: Puzzle
    solution: tuple[Step, ...]

    @property
    def tier(self) -> str:
        return tier_of(self.puzzle.sizes)


def exact_result(left: int, operator: str, right: int) -> int | None:
    """The exact whole-number value of one operation, or None for a division that leaves a remainder (or is by zero).

    Raises BadArgument for an operator other than ``+ - * /``.
    """
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "/":
        return left // right if right and left % right == 0 else None
    raise BadArgument("operator", operator, "one of + - * /")


def prompt_text(puzzle: Puzzle) -> str:
    """The prompt, such as ``12,10,4,12,13,15>37,34:``, without a final space: the response starts with a number."""
    return f"{_comma(puzzle.numbers)}>{_comma(puzzle.targets)}:"


def response_text(steps: Iterable[Step]) -> str:
    """The response that states these steps, such as ``4*13=52;52-15=37``."""
    return ";".join(f"{step.left}{step.operator}{step.right}={step.result}" for step in steps)


def canonical_key(numbers: Iterable[int], targets: Iterable[int]) -> PuzzleKey:
    """The identity of a puzzle: numbers and targets, each sorted, so that swapped targets are the same puzzle."""
    return tuple(sorted(numbers)), tuple(sorted(targets))


def tier_of(sizes: Sizes) -> str:
    """The difficulty tier of a pair of group sizes. Raises BadArgument for sizes that belong to no tier."""
    for tier, members in TIERS.items():
        if sizes in members:
            return tier
    raise BadArgument("sizes", sizes, f"one of {', '.join(str(s) for group in TIERS.values() for s in group)}")


def check(numbers: Sequence[int], targets: Sequence[int], response: str) -> Reason:
    """Decide one response, in time linear in its length; no response raises an error.

    Returns the first fault, reading from the left:

    * ``format``: not a chain of ``a?b=c`` joined by ``;`` (ASCII digits, at most four, no leading zeros, no blanks);
    * ``illegal``: a number that is not available, a result outside 1 to 99, or a step when only two numbers are left;
    * ``arithmetic``: a stated result that is not the exact one;
    * ``unused``: more than two numbers left at the end;
    * ``half`` or ``wrong``: two numbers left, of which one or none is a target;
    * ``ok``: the two numbers left are the two targets.
    """
    pool = list(numbers)
    # Splitting off one piece more than is legal is enough to see that there are too many.
    for piece in response.split(";", len(pool)):
        fault = _play(pool, piece)
        if fault is not None:
            return fault
    return _judge(pool, targets)


def _play(pool: list[int], piece: str) -> Reason | None:
    """Apply one written step to ``pool`` in place. Returns the step's fault, or None."""
    match = _STEP.fullmatch(piece)
    if match is None:
        return "format"
    step = Step(int(match[1]), match[2], int(match[3]), int(match[4]))
    if len(pool) <= 2 or not _take(pool, step):
        return "illegal"
    if exact_result(step.left, step.operator, step.right) != step.result:
        return "arithmetic"
    if not _in_range(step.result):
        return "illegal"
    pool.append(step.result)
    return None


def _judge(pool: list[int], targets: Sequence[int]) -> Reason:
    if len(pool) > 2:
        return "unused"
    if sorted(pool) == sorted(targets):
        return "ok"
    return "half" if set(pool) & set(targets) else "wrong"


def _take(pool: list[int], step: Step) -> bool:
    """Remove both operands from ``pool`` in place; False (with ``pool`` perhaps changed) where one is missing."""
    for operand in (step.left, step.right):
        if operand not in pool:
            return False
        pool.remove(operand)
    return True


def generate(rng: random.Random, sizes: Sizes) -> tuple[Puzzle, tuple[Step, ...]]:
    """Draw a puzzle and its demonstration: the steps to the first target, followed by those to the second.

    Calls ``rng.random()`` only: Python guarantees its sequence across versions, and that of no other method.
    Raises BadArgument for sizes that belong to no tier.
    """
    tier_of(sizes)
    first, first_steps = _draw_group(rng, sizes[0])
    second, second_steps = _draw_group(rng, sizes[1], avoid=first_steps[-1].result)
    numbers = _shuffled(rng, first + second)
    targets = (first_steps[-1].result, second_steps[-1].result)
    return Puzzle(tuple(numbers), targets, sizes), first_steps + second_steps


def guess(rng: random.Random, puzzle: Puzzle) -> tuple[Step, ...]:
    """Random legal steps that use every number: the baseline for the pass@k that needs no skill.

    The guesser knows the group sizes. It splits the numbers at random into such groups and combines each group with
    operators drawn as the generator draws them. It ignores the targets, so it is always ``ok``, ``half`` or ``wrong``.
    """
    while True:
        numbers = _shuffled(rng, puzzle.numbers)
        first = _random_chain(rng, numbers[: puzzle.sizes[0]])
        second = _random_chain(rng, numbers[puzzle.sizes[0] :])
        if first is not None and second is not None:
            return first + second


def held_out(n: int = 300) -> tuple[HeldOut, ...]:
    """The evaluation problems ``dc-0000`` onwards, always the same; a shorter set is a prefix of a longer one.

    One in five is easy, two are medium, two are hard; all canonical keys differ. Training must exclude all 300
    keys. Raises BadArgument for n < 0.
    """
    if n < 0:
        raise BadArgument("n", n, "0 or more")
    return tuple(problem for _, problem in zip(range(n), _stream(HELD_OUT_SEED, "dc"), strict=False))


def development(n: int = 100) -> tuple[HeldOut, ...]:
    """Problems ``dev-0000`` onwards, always the same, for choosing settings: none is among the evaluation's 300.

    Sizes as in ``held_out``. Raises BadArgument for n < 0.
    """
    if n < 0:
        raise BadArgument("n", n, "0 or more")
    reported = frozenset(canonical_key(p.puzzle.numbers, p.puzzle.targets) for p in held_out())
    stream = _stream(DEVELOPMENT_SEED, "dev", reported)
    return tuple(problem for _, problem in zip(range(n), stream, strict=False))


def _stream(seed: int, prefix: str, excluded: frozenset[PuzzleKey] = frozenset()) -> Iterator[HeldOut]:
    rng = random.Random(seed)
    seen: set[PuzzleKey] = set()
    while True:
        puzzle, solution = generate(rng, _HELD_OUT_CYCLE[len(seen) % len(_HELD_OUT_CYCLE)])
        key = canonical_key(puzzle.numbers, puzzle.targets)
        if key not in seen and key not in excluded:
            yield HeldOut(f"{prefix}-{len(seen):04d}", puzzle, solution)
            seen.add(key)


def _draw_group(rng: random.Random, size: int, avoid: int | None = None) -> tuple[list[int], tuple[Step, ...]]:
    """Numbers and a chain over them that ends in a target other than ``avoid``."""
    while True:
        numbers = [1 + _below(rng, _LARGEST_NUMBER) for _ in range(size)]
        steps = _random_chain(rng, numbers)
        if steps is not None and steps[-1].result >= _SMALLEST_TARGET and steps[-1].result != avoid:
            return numbers, steps


def _random_chain(rng: random.Random, numbers: Sequence[int]) -> tuple[Step, ...] | None:
    """Random legal steps until one number is left, or None where a step was not found within the allowed tries."""
    pool, steps = list(numbers), []
    while len(pool) > 1:
        drawn = (_random_step(rng, pool) for _ in range(_TRIES_PER_STEP))
        step = next((step for step in drawn if step is not None), None)
        if step is None:
            return None
        _take(pool, step)
        pool.append(step.result)
        steps.append(step)
    return tuple(steps)


def _random_step(rng: random.Random, pool: Sequence[int]) -> Step | None:
    """One random step, or None where it is illegal or changes nothing (times one, by one)."""
    first = _below(rng, len(pool))
    second = _below(rng, len(pool) - 1)
    left, right = pool[first], pool[second + (second >= first)]
    operator = _OPERATORS[_below(rng, len(_OPERATORS))]
    if operator in "-/":
        left, right = max(left, right), min(left, right)
    if operator in "*/" and min(left, right) == 1:
        return None
    result = exact_result(left, operator, right)
    if result is None or not _in_range(result):
        return None
    return Step(left, operator, right, result)


def _shuffled(rng: random.Random, items: Sequence[int]) -> list[int]:
    shuffled = list(items)
    for last in range(len(shuffled) - 1, 0, -1):
        other = _below(rng, last + 1)
        shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
    return shuffled


def _below(rng: random.Random, limit: int) -> int:
    """A random whole number from 0 to ``limit - 1``, from ``rng.random()`` alone."""
    return int(rng.random() * limit)


def _in_range(result: int) -> bool:
    return 1 <= result <= _LARGEST_RESULT


def _comma(numbers: Iterable[int]) -> str:
    return ",".join(str(number) for number in numbers)
