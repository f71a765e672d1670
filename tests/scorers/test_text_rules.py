"""The rules for low-quality text: examples on both sides of each, and linear time on hostile text."""

from __future__ import annotations

import time

import pytest

from rlvr_bench.text_rules import TextFlags, text_flags

WORKED = (
    "Let x be the number of apples. Then 3x + 7 = 40, so 3x = 33 and x = 11. We check: 3 * 11 = 33, and 33 + 7 = 40, "
    "as it should be. Now the second part asks for the remainder of 11^5 modulo 13. Since 11 = -2 (mod 13), we have "
    "11^5 = -32 = 7 (mod 13), because 39 - 32 = 7. Adding the two parts gives 11 + 7 = 18. Hence \\boxed{18}."
)


@pytest.mark.parametrize("text", ["", "7", WORKED, WORKED * 2, "α ≤ β → naïve ½ \\boxed{é}", "<think>a</think>b"])
def test_ordinary_text_is_not_flagged(text: str) -> None:
    assert text_flags(text) == TextFlags(format_violation=False, repetition=False, language_mixing=False)


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{1} " * 5,
        "<think> never closed",
        "<think>a</think>b</think>",
        "the end <|im_end|>",
        "It is 7.\nQuestion: what is 8 + 1?",
    ],
)
def test_broken_format(text: str) -> None:
    assert text_flags(text).format_violation


@pytest.mark.parametrize("text", [WORKED + "0" * 500, "the answer is 5. " * 100, (WORKED + "\n") * 40, "ab" * 2000])
def test_loops(text: str) -> None:
    assert text_flags(text).repetition


@pytest.mark.parametrize("text", ["0" * 499, WORKED + "-" * 80, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"])
def test_short_runs_are_no_loop(text: str) -> None:
    assert not text_flags(text).repetition


@pytest.mark.parametrize("before", [0, 1, 249, 250, 251, 499, 1000])
@pytest.mark.parametrize("character", ["x", "\n", "é"])
def test_a_run_is_found_wherever_it_begins(before: int, character: str) -> None:
    words = " ".join(map(str, range(before)))[:before]
    assert text_flags(words + character * 500 + words).repetition
    assert not text_flags(character * 499 + words[:1]).repetition


@pytest.mark.parametrize(
    ("text", "flagged"), [("Question: 1?", False), ("x\nHuman : 1", True), ("\nUser:", True), ("a Question: 1?", False)]
)
def test_a_new_turn_is_at_the_start_of_a_line_after_the_first(text: str, flagged: bool) -> None:
    assert text_flags(text).format_violation == flagged


@pytest.mark.parametrize("text", ["so we get 答案 \\boxed{4}", "The answer, значит, is four", "it is 그래서 four"])
def test_a_second_script(text: str) -> None:
    assert text_flags(text).language_mixing


def test_another_language_throughout_is_not_mixing() -> None:
    assert not text_flags("所以答案是四, 因为二加二等于四 \\frac12").language_mixing


@pytest.mark.parametrize(
    "unit", ["a", "\\boxed{", "<think>", "Question:\n", "中a", "<|im_", "\n", "\ud800", "😀", "User :"]
)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    text = unit * (2_000_000 // len(unit))
    started = time.process_time()
    text_flags(text)
    assert time.process_time() - started < 2.0
