from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_bench import countdown
from rlvr_bench.countdown import REASONS, TIERS, Puzzle, Step, canonical_key, check, prompt_text, response_text
from rlvr_bench.errors import BadArgument

NUMBERS = (12, 10, 4, 12, 13, 15)
TARGETS = (37, 34)
RIGHT = "4*13=52;52-15=37;10+12=22;22+12=34"
HELD_OUT_SHA256 = "ff4088c8d6fe30ce1c0efce5a0a49e0f7eaad9c50aa6831acde15f5f59ea1e76"

ALL_SIZES = [sizes for group in TIERS.values() for sizes in group]


def brute_force(pool: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Every legal way to play a pool down to two numbers, found without the package: (response, numbers left)."""
    if len(pool) == 2:
        yield "", (pool[0], pool[1])
        return
    for i, j in itertools.permutations(range(len(pool)), 2):
        rest = tuple(number for index, number in enumerate(pool) if index not in (i, j))
        for operator in "+-*/":
            value = eval(f"{pool[i]} {operator} {pool[j]}") if pool[j] else 0
            if value == int(value) and 1 <= value <= 99:
                for tail, left in brute_force((*rest, int(value))):
                    yield f"{pool[i]}{operator}{pool[j]}={int(value)};{tail}", left


def test_prompt_and_response_are_written_as_documented() -> None:
    puzzle = Puzzle(NUMBERS, TARGETS, (3, 3))
    steps = [Step(4, "*", 13, 52), Step(52, "-", 15, 37), Step(10, "+", 12, 22), Step(22, "+", 12, 34)]
    assert prompt_text(puzzle) == "12,10,4,12,13,15>37,34:"
    assert response_text(steps) == RIGHT


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (RIGHT, "ok"),
        ("10+12=22;22+12=34;4*13=52;52-15=37", "ok"),
        ("", "format"),
        (RIGHT + ";", "format"),
        (" " + RIGHT, "format"),
        (RIGHT + "\n", "format"),
        (RIGHT.replace("=", " = "), "format"),
        ("04*13=52;52-15=37;10+12=22;22+12=34", "format"),
        ("4-13=-9;12+15=27;10+12=22;22+12=34", "format"),
        ("4*13=00052;52-15=37", "format"),
        ("\uff14*13=52;52-15=37;10+12=22;22+12=34", "format"),
        ("\u0664*13=52;52-15=37;10+12=22;22+12=34", "format"),
        ("4*13=52\x00;52-15=37;10+12=22;22+12=34", "format"),
        ("4*14=56", "illegal"),
        ("4*4=16", "illegal"),
        ("4*13=52;4*13=52", "illegal"),
        ("12*10=120", "illegal"),
        ("12-12=0", "illegal"),
        (RIGHT + ";37+34=71", "illegal"),
        ("4*13=53;53-15=38;10+12=22;22+12=34", "arithmetic"),
        ("15/4=3", "arithmetic"),
        ("12*10=99", "arithmetic"),
        ("4*13=52;52-15=37;10+12=22", "unused"),
        ("4*13=52", "unused"),
        ("4*13=52;52-15=37;10+12=22;22-12=10", "half"),
        ("4+13=17;17+15=32;10+12=22;22-12=10", "wrong"),
    ],
)
def test_the_first_fault_is_named(response: str, reason: str) -> None:
    assert check(NUMBERS, TARGETS, response) == reason


def test_two_equal_results_hit_only_one_of_two_targets() -> None:
    assert check((10, 10, 10, 10), (20, 30), "10+10=20;10+10=20") == "half"


@pytest.mark.parametrize("numbers", [(3, 4, 2, 6), (1, 1, 5, 8), (7, 7, 7, 2)])
def test_check_agrees_with_brute_force_on_every_legal_play(numbers: tuple[int, ...]) -> None:
    targets = (12, 8)
    seen = set()
    for response, left in brute_force(numbers):
        hits = len(set(left) & set(targets))
        expected = "ok" if sorted(left) == sorted(targets) else "half" if hits else "wrong"
        seen.add(expected)
        assert check(numbers, targets, response.rstrip(";")) == expected
    assert seen >= {"half", "wrong"}


@pytest.mark.parametrize("response", [RIGHT, "4*13=52;52-15=37;10+12=22;22-12=10"])
def test_the_order_of_targets_does_not_matter(response: str) -> None:
    assert check(NUMBERS, TARGETS, response) == check(NUMBERS, TARGETS[::-1], response)


def test_check_does_not_change_its_arguments() -> None:
    numbers, targets = list(NUMBERS), list(TARGETS)
    check(numbers, targets, RIGHT)
    assert (tuple(numbers), tuple(targets)) == (NUMBERS, TARGETS)


@pytest.mark.parametrize(
    "response",
    [
        "9" * 2_000_000,
        "4*13=" + "5" * 2_000_000,
        "4*13=52;" * 300_000,
        ";" * 2_000_000,
        "1+" * 1_000_000 + "=",
        "\x00" * 2_000_000,
        "\ud800\U0001d7d8" * 500_000,
        "\u0669" * 2_000_000 + "+1=2",
    ],
    ids=["digits", "long result", "repeated step", "semicolons", "operators", "nul", "surrogates", "arabic digits"],
)
def test_hostile_responses_are_refused_quickly(response: str) -> None:
    started = time.perf_counter()
    assert check(NUMBERS, TARGETS, response) in ("format", "illegal")
    assert time.perf_counter() - started < 0.5


@given(st.text(alphabet="0123456789+-*/=;,. \n\x00٣x", max_size=60))
def test_any_text_gets_a_reason(response: str) -> None:
    assert check(NUMBERS, TARGETS, response) in REASONS


@given(st.integers(0, 2**32), st.sampled_from(ALL_SIZES))
def test_generated_solutions_are_right_and_within_the_stated_ranges(seed: int, sizes: tuple[int, int]) -> None:
    puzzle, steps = countdown.generate(random.Random(seed), sizes)
    assert check(puzzle.numbers, puzzle.targets, response_text(steps)) == "ok"
    assert len(puzzle.numbers) == sum(sizes) == len(steps) + 2
    assert all(1 <= number <= 15 for number in puzzle.numbers)
    assert all(10 <= target <= 99 for target in puzzle.targets)
    assert puzzle.targets[0] != puzzle.targets[1]
    assert puzzle.targets == (steps[sizes[0] - 2].result, steps[-1].result)


@given(st.integers(0, 2**32), st.sampled_from(ALL_SIZES), st.data())
def test_a_near_miss_is_refused_with_its_reason(seed: int, sizes: tuple[int, int], data: st.DataObject) -> None:
    puzzle, steps = countdown.generate(random.Random(seed), sizes)
    position = data.draw(st.integers(0, len(steps) - 1))
    spoiled = list(steps)
    spoiled[position] = msgspec.structs.replace(steps[position], result=steps[position].result + 1)
    assert check(puzzle.numbers, puzzle.targets, response_text(spoiled)) == "arithmetic"
    absent = next(number for number in range(1, 100) if number not in puzzle.numbers)
    spoiled = [msgspec.structs.replace(steps[0], left=absent), *steps[1:]]
    assert check(puzzle.numbers, puzzle.targets, response_text(spoiled)) == "illegal"
    assert check(puzzle.numbers, puzzle.targets, response_text(steps[:-1])) == "unused"
    moved = (puzzle.targets[0], 100)
    assert check(puzzle.numbers, moved, response_text(steps)) == "half"


@given(st.integers(0, 2**32), st.sampled_from(ALL_SIZES))
def test_guesses_are_legal_and_complete(seed: int, sizes: tuple[int, int]) -> None:
    rng = random.Random(seed)
    puzzle, _ = countdown.generate(rng, sizes)
    assert check(puzzle.numbers, puzzle.targets, response_text(countdown.guess(rng, puzzle))) in ("ok", "half", "wrong")


def test_guesses_do_not_depend_on_the_targets() -> None:
    first, second = (Puzzle(NUMBERS, targets, (3, 3)) for targets in ((37, 34), (50, 60)))
    assert countdown.guess(random.Random(3), first) == countdown.guess(random.Random(3), second)


def test_guessing_reaches_every_solution_of_a_small_puzzle() -> None:
    rng = random.Random(0)
    puzzle = Puzzle((2, 3, 5, 7), (10, 12), (2, 2))
    reached = {tuple(sorted(step.result for step in countdown.guess(rng, puzzle))) for _ in range(4000)}
    pairs = [((2, 3), (5, 7)), ((2, 5), (3, 7)), ((2, 7), (3, 5))]
    results = {(a, b): {a + b, b - a, a * b} for pair in pairs for a, b in pair}
    assert reached == {
        tuple(sorted(both)) for one, two in pairs for both in itertools.product(results[one], results[two])
    }


def test_generate_is_reproducible_and_draws_only_through_random() -> None:
    class OnlyRandom(random.Random):
        def getrandbits(self, k: int, /) -> int:
            raise AssertionError("only random() keeps its sequence across Python versions")

    for sizes in ALL_SIZES:
        drawn = countdown.generate(OnlyRandom(5), sizes)
        assert drawn == countdown.generate(random.Random(5), sizes)
        assert drawn != countdown.generate(random.Random(6), sizes)


def test_unknown_sizes_and_operators_are_refused() -> None:
    with pytest.raises(BadArgument, match="sizes"):
        countdown.generate(random.Random(0), (4, 4))
    with pytest.raises(BadArgument, match="operator"):
        countdown.exact_result(1, "%", 2)
    with pytest.raises(BadArgument, match="n is -1"):
        countdown.held_out(-1)


@pytest.mark.parametrize(("left", "operator", "right", "value"), [(7, "/", 2, None), (8, "/", 2, 4), (8, "/", 0, None)])
def test_division_is_exact_or_nothing(left: int, operator: str, right: int, value: int | None) -> None:
    assert countdown.exact_result(left, operator, right) == value


def test_the_key_ignores_the_order_of_numbers_and_of_targets() -> None:
    assert canonical_key((3, 1, 2, 9), (40, 12)) == canonical_key((9, 2, 3, 1), (12, 40)) == ((1, 2, 3, 9), (12, 40))
    assert canonical_key((3, 1, 2, 9), (40, 12)) != canonical_key((3, 1, 2, 8), (40, 12))


def test_the_held_out_set_is_pinned() -> None:
    lines = [f"{p.id} {prompt_text(p.puzzle)} {response_text(p.solution)}\n" for p in countdown.held_out()]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == HELD_OUT_SHA256


def test_the_held_out_set_is_what_it_says() -> None:
    problems = countdown.held_out()
    tiers = [problem.tier for problem in problems]
    assert [problem.id for problem in problems] == [f"dc-{index:04d}" for index in range(300)]
    assert [tiers.count(tier) for tier in ("easy", "medium", "hard")] == [60, 120, 120]
    assert len({canonical_key(p.puzzle.numbers, p.puzzle.targets) for p in problems}) == 300
    assert all(check(p.puzzle.numbers, p.puzzle.targets, response_text(p.solution)) == "ok" for p in problems)


def test_a_shorter_held_out_set_is_a_prefix() -> None:
    assert countdown.held_out(40) == countdown.held_out()[:40]
