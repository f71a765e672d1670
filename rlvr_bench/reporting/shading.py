"""Matching the tokens of a response with its characters, without the tokenizer, where that is possible."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["split_tokens"]

# How small and word-level tokenizers split a text: characters, numbers below one hundred, words with the space before or
# after them, words and spaces separately.
_SPLITS = (
    r".",
    r"[1-9][0-9]|[0-9]|[^0-9]",
    r"\s*\S+|\s+$",
    r"\S+\s*|^\s+",
    r"\s+|\w+|[^\w\s]",
)

REPEATS = 20


def split_tokens(responses: Sequence[tuple[str, Sequence[int]]]) -> list[list[str]] | None:
    """The pieces of each response, one per token id, or None where no pattern fits.

    A pattern fits if every response has as many pieces as tokens, except for one end token, and if over all responses
    equal ids have equal pieces and equal pieces equal ids. At least ``REPEATS`` tokens must have occurred before: in a few
    short texts almost every pattern fits.
    """
    for pattern in _SPLITS:
        split = [re.findall(pattern, text, re.DOTALL) for text, _ in responses]
        if _fits(split, responses):
            return split
    return None


def _fits(split: Sequence[list[str]], responses: Sequence[tuple[str, Sequence[int]]]) -> bool:
    piece_of: dict[int, str] = {}
    id_of: dict[str, int] = {}
    seen = 0
    for pieces, (text, ids) in zip(split, responses, strict=True):
        if len(ids) - len(pieces) not in (0, 1) or "".join(pieces) != text:
            return False
        for piece, token in zip(pieces, ids, strict=False):
            if piece_of.setdefault(token, piece) != piece or id_of.setdefault(piece, token) != token:
                return False
        seen += len(pieces)
    return seen - len(piece_of) >= REPEATS
