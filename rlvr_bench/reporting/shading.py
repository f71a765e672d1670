"""Which characters of a response each token stands for, found without the tokenizer, or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["split_tokens"]

# Ways in which small and word-level tokenizers cut a text: characters, numbers below one hundred, words with the space
# before or after them, words and spaces apart.
_SPLITS = (
    r".",
    r"[1-9][0-9]|[0-9]|[^0-9]",
    r"\s*\S+|\s+$",
    r"\S+\s*|^\s+",
    r"\s+|\w+|[^\w\s]",
)

REPEATS = 20


def split_tokens(responses: Sequence[tuple[str, Sequence[int]]]) -> list[list[str]] | None:
    """The pieces of each response, one per token id, or None where no way of cutting fits.

    A way of cutting is accepted only if it gives every response as many pieces as it has tokens, one end token aside,
    over all responses one id always stands for one piece and one piece for one id, and this was put to the test by
    ``REPEATS`` tokens that had been seen before: in a few short texts almost anything fits.
    """
    for pattern in _SPLITS:
        found = [re.findall(pattern, text, re.DOTALL) for text, _ in responses]
        if _fits(found, responses):
            return found
    return None


def _fits(found: Sequence[list[str]], responses: Sequence[tuple[str, Sequence[int]]]) -> bool:
    piece_of: dict[int, str] = {}
    id_of: dict[str, int] = {}
    seen = 0
    for pieces, (text, ids) in zip(found, responses, strict=True):
        if len(ids) - len(pieces) not in (0, 1) or "".join(pieces) != text:
            return False
        for piece, token in zip(pieces, ids, strict=False):
            if piece_of.setdefault(token, piece) != piece or id_of.setdefault(piece, token) != token:
                return False
        seen += len(pieces)
    return seen - len(piece_of) >= REPEATS
