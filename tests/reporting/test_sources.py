from __future__ import annotations

import pytest

from rlvr_bench.reporting.shading import split_tokens
from rlvr_bench.reporting.sources import short_names
from rlvr_bench.zoo.tokenizer import encode


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["a/x", "a/y"], ["x", "y"]),
        (["a/x", "b/x", "b/y"], ["a/x", "b/x", "b/y"]),
        (["zoo:base", "org/model"], ["zoo:base", "model"]),
        (["x", "a/x"], ["x", "a/x"]),
        (["only/one/"], ["one"]),
    ],
)
def test_names_are_as_short_as_they_can_be_and_stay_apart(names: list[str], short: list[str]) -> None:
    assert short_names(names) == short


def test_tokens_of_the_zoo_are_found_without_its_tokenizer() -> None:
    """The zoo's own tokenizer is the oracle: numbers below one hundred are single tokens, all else characters."""
    texts = ["14+7=21;15*6=90", "07*100=700", "3-1=2", "15+6=21;14*7=98"] * 2
    pieces = split_tokens([(text, [*encode(text), 2]) for text in texts])
    assert pieces is not None
    assert pieces[0] == ["14", "+", "7", "=", "21", ";", "15", "*", "6", "=", "90"]
    assert [len(result) for result in pieces] == [len(encode(text)) for text in texts]


def test_words_and_characters_are_found() -> None:
    words = [("a cat sat", [5, 6, 7, 0]), ("a cat", [5, 6])]
    assert split_tokens(words * 10) == [["a", " cat", " sat"], ["a", " cat"]] * 10
    assert split_tokens([("abca", [1, 2, 3, 1])] * 10) == [["a", "b", "c", "a"]] * 10


@pytest.mark.parametrize(
    "responses",
    [
        [("abca" * 9, [1, 2, 3, 4] * 9)],  # one piece, two ids
        [("abc" * 9, [1, 1, 2] * 9)],  # one id, two pieces
        [("the cat the" * 9, [5, 6, 5] * 9)],  # "the" with and without a space, "thethe"
        [("hello world", [9, 8, 7, 6, 5, 4])] * 9,  # as many tokens as no way of cutting gives
        [("hello world", [9, 8, 7])],  # three pieces indeed, but nothing that would have shown a mistake
        [("abca", [1, 2, 3, 1])] * 9 + [("ab", [2, 1])],  # contradicted by one other response
    ],
)
def test_what_does_not_fit_stays_unshaded(responses: list[tuple[str, list[int]]]) -> None:
    assert split_tokens(responses) is None
