r"""How a response ends: complete, or cut off at the token limit in the middle of something."""

from __future__ import annotations

import re

from rlvr_bench.verifiers.extraction.sentences import Sentence, Value
from rlvr_bench.verifiers.extraction.spans import FORMULA, Flat

__all__ = ["is_cut", "is_dangling", "without_repeat"]

_CUT_END = re.compile(
    r"(?:[-+*/^=<>×÷(\[{,\\&]|\\(?:times|cdot|div|pm|frac|sqrt|left|text|begin|le|ge|in|quad)|\b(?i:the|of|to|and|or|an|"
    r"by|is|are|was|for|with|at|from|as|we|so|than|if|because|which|let|our|his|their|its)|\ba)\s?\Z"
)
_LABEL_ALONE = re.compile(r"\A\s*(?:\(?\d{1,2}[.)]|step\s+\d+\s*[.:]?)\s*\Z", re.IGNORECASE)
_LABEL = re.compile(r"^\s*(?:\(?\d{1,2}[.)]|[Ss]tep\s+\d+)\s", re.MULTILINE)
_OPENING = re.compile(r"(?i)\A\W*(?:so|then|therefore|thus|hence|finally|in total|altogether)\W*")
_PLAIN = re.compile(r"-?[\d.,]+(?:\\?%)?")
_CLOSED_END = re.compile(rf"(?:[.!?:。！？)\]}}\"'”`*_|>$%°]|{FORMULA})\Z|\n\s*\Z")
_CALCULATES = re.compile(r"=|\bequals\b")
_SETS_UP = re.compile(
    r"(?i)\b(?:multiply|multiplying|divide|dividing|subtract|subtracting|add|adding|(?:need|have|want|going) to|to find|"
    r"to get|let|let['’]s|suppose|assume|denote|start|consider|given|substitut\w+|plug\w*|first|next)\b"
)
_OPERATES = re.compile(
    r"(?i)\b(?:times|plus|minus|divided by|multiplied by|and(?: there (?:are|is|were))?|subtract|add)\s+[$€£]?\Z"
)
_SHORTEST_REPEAT = 6
_STOPS = (".", "!", "?", "\n", "。")


def is_cut(flat: Flat) -> bool:
    """Whether a text clearly breaks off: in a formula or bracket, after an operator, in the middle of a phrase."""
    end = flat.text.rstrip(" \t")[-300:].rpartition("\n")[2]
    unclosed = sum(map(end.count, "([{")) > sum(map(end.count, ")]}"))
    if (
        flat.open
        or (unclosed and not _CLOSED_END.search(end))
        or (end[-1:] not in ".!?" and _CUT_END.search(end[-40:]))
    ):
        return True
    return _LABEL_ALONE.match(end) is not None and _LABEL.search(flat.text[: -len(end)]) is not None


def is_dangling(value: Value, sentence: Sentence, flat: Flat) -> bool:
    """Whether a text ends at a number that may continue and that nothing marks as a result."""
    if sentence.ended or _CLOSED_END.search(flat.text.rstrip(" \t")):
        return False
    if sentence.text[value.run.end :].strip() and not sentence.text.rstrip()[-1].isdigit():
        return False
    if value.kind == "which" and value.strength < 3:
        return True
    if _OPERATES.search(sentence.text[: value.run.start]):
        return True
    if value.strength >= 2 or _CALCULATES.search(sentence.text):
        return False
    if sentence.start == 0:
        return value.kind != "so" and _SETS_UP.search(sentence.text) is not None
    before = sentence.text[: value.run.start].strip(" \t*_>#-•,:")
    return not _PLAIN.fullmatch(value.text) or _OPENING.sub("", before) != ""


def without_repeat(flat: Flat) -> Flat:
    """The text without an unfinished last sentence that only repeats the start of an earlier one, as loops do."""
    text = flat.text.rstrip()
    if text[-1:] in _STOPS:
        return flat
    start = max(text.rfind(stop) for stop in _STOPS) + 1
    beginning = text[start:].strip()
    if start == 0 or len(beginning) < _SHORTEST_REPEAT:
        return flat
    again = any(text.find(f"{before}{beginning}", 0, start) >= 0 for before in ("\n", ". ", "! ", ".\n"))
    if again or text.startswith(beginning):
        return Flat(text[:start], flat.formulas, open=False)
    return flat
