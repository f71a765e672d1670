r"""The clauses of a sentence: those that state something, and those that only describe it."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Clause", "clauses_of", "first_clause"]

_AND = r"(?:and|or|und|oder|et|ou|y|o|и|или)\b"
_REASON = (
    r",\s+as\b|[,;:(]?\s+\(?(?:because|since|where|when|if|while|given that|assuming|denn|weil|da|parce que|porque|ya que|"
    r"потому что|так как)\b"
)
# How a value was obtained, what it includes, what it is not.
_HOW = (
    r",?\s+(?:after|before|by|upon|without|besides)\s+(?:\w+ly\s+)?[a-z]{2,}ing\b"
    r"|\s+(?:after|before|until|unless|by the time)\s+(?:he|she|it|they|we|you|I)\b"
    r"|,?\s+(?:although|though|whereas)\b"
    r"|,?\s+(?:including|excluding|having|costing|weighing|containing|lasting|measuring|consisting of|counting|"
    r"not counting|instead of|rather than|compared (?:to|with)|(?:down|up) from|as opposed to|except(?: for)?|"
    r"made up of|priced at|worth)\b"
)
_RELATIVE = (
    r",?\s+(?:(?:for|in|of|at|on|with|to)\s+(?:which|whom)(?!\s+(?:case\b|there\s+(?:is|are)\b))|such that|whose|"
    r"that (?:satisf|make|solve|give)\w*)\b"
)
_SO = (
    r"[,;:]?\s+(?:so|therefore|thus|hence|which means|meaning|then|but|giving|making|leaving|yielding|totall?ing|and so|"
    r"from which|in which case|we (?:get|have|find|obtain))\b"
)
_CLAUSE = re.compile(
    r"(?i)(?=[\s,;:()—–，；：])(?:"  # a cheap test first: a clause can begin only there
    rf"(?P<reason>{_REASON})|(?P<how>{_HOW})|(?P<relative>{_RELATIVE})|(?P<so>{_SO})|(?P<which>,?\s+which\b)"
    r"|(?P<aside>\s\((?=[A-Za-z]{2,}\s[A-Za-z]))|(?P<and>,?\s+and\s+(?=(?:the|its|his|her|their|our|so|there|this|"
    r"that|he|she|it|they|we)\b))"
    rf"|(?P<break>;|,\s+(?=(?!{_AND})[^\W\d]{{2,}})|,\s+(?=[\ue000-\uefff]\s*\Z|[A-Za-z]\s?=)|\)\s(?=[A-Za-z]{{2,}}\s)"
    r"|\s[—–]\s(?=[A-Za-z])|[，；：]|:\s))"
)
_CONDITION = re.compile(r"(?i)\A\W*(?:because|since|as|if|when|given|assuming|suppose|let|while|for|where|with)\b")


class Clause(NamedTuple):
    """The start and end of a clause, and how it begins: a group of `_CLAUSE`, or "" at the start of a sentence."""

    start: int
    end: int
    kind: str


def clauses_of(sentence: str) -> list[Clause]:
    """The clauses of a sentence in order; they cover all of it."""
    cuts = [(match.start(), match.lastgroup or "") for match in _CLAUSE.finditer(sentence)]
    starts = [(0, "reason" if _CONDITION.match(sentence) else ""), *cuts]
    ends = [start for start, _ in cuts] + [len(sentence)]
    return [Clause(start, end, kind) for (start, kind), end in zip(starts, ends, strict=True)]


def first_clause(text: str) -> str:
    """The text before the second clause."""
    cut = _CLAUSE.search(text)
    return text[: cut.start()] if cut else text
