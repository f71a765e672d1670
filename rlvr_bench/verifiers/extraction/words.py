r"""Answers in words: "east", "no solution", "No, it is not possible", "The graph is an ellipse"."""

from __future__ import annotations

import re

from rlvr_bench.verifiers.extraction.asides import concludes
from rlvr_bench.verifiers.extraction.spans import FORMULA

__all__ = ["number_word", "predicate", "wordy", "yes_or_no"]

_ANNOUNCES = re.compile(
    r"(?i)^(?:not\b|correct|incorrect|right|wrong|valid|consistent|reasonable|clear|obvious|as follows|obtained|found|"
    r"given|shown|known|unknown|unclear|below|above|here|in\b|that\b|the (?:same|one|following|number|value|sum|"
    r"answer)\b|we\b|i\b|suppose|assume|given|find\b|you\b|it\b|this\b|something|expected|required|needed|to\b|based|"
    r"from|because|if\b|when\b|what|how|let|see\b|left\b|an? (?:integer|number|positive|real)\b)"
)
_FRAMED = re.compile(r"\\text\w*\s?\{([^{}]*)\}")
_YES_OR_NO = re.compile(r"(?i)\A[\s\"'“‘*_]*(yes|no|true|false)(?=\s*[,.;:!–—]|\s*\Z)")
_EXPLAINED = re.compile(
    r"\s*[(;–—]|\s*,?\s+(?:because|since|as|which|when|where|not)\b|,\s+(?:because|since|as|which|so|not)\b"
)
_PREDICATE = re.compile(
    r"(?i)\A\W*(?:(?:therefore|thus|hence|so|finally|in conclusion),?\s+)?(?:the|this|that|it|he|she|they|"
    r"[A-Z]\w*)\b[^,;:\n]{0,120}?\s(?:is|are|was|were|will be|would be|must be|becomes?)\s+(?:therefore\s+|thus\s+|"
    r"an?\s+|the\s+)*((?:[^\W\d]|[-'’])+(?:\s(?:[^\W\d]|[-'’])+)?)\W*\Z"
)
_NAME_IS = re.compile(
    r"\A\W*(?:(?i:therefore|thus|hence|so|finally|in conclusion),?\s+)?(?!(?:The|This|That|It|He|She|They|We|I|There|"
    r"Each|All)\b)([A-Z][a-z]+)\s+(?:(?:is|was|has|will be|must be)\s+the\s+[a-z]|w[io]ns?\b)"
)
_NUMBER_WORD = re.compile(r"(?i)\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b")
_NO_PREDICATE = re.compile(
    r"(?i)^(?:(?:complete|done|finished|solved|proved|proven|true|false|possible|impossible|satisfied|met|needed|used|"
    r"same|sufficient|enough|left|equal|different|similar|easy|simple|hard|very|also|so|too|again|there|answer|result|"
    r"solution|ready|fine|good|ok|all|now|then|just|only|and|or|by|for|of|on|at|with|positive|negative|unique|"
    r"constant|integers?)\b|.*(?:ed|ing)$)"
)


def yes_or_no(text: str) -> str | None:
    """The "yes", "no", "true" or "false" that a statement begins with: "No, it is not possible"."""
    match = _YES_OR_NO.match(text)
    return match[1] if match else None


def wordy(body: str) -> str | None:
    """An answer in a few words, without its explanation; None for words that only announce an answer."""
    if agreed := yes_or_no(body):
        return agreed
    text = body.strip().strip("*_`\"'“”‘’ .!").strip()
    cut = _EXPLAINED.search(text)
    text = text[: cut.start()].strip("*_`\"'“”‘’ .!,") if cut and cut.start() else text
    plain = _FRAMED.sub(r"\1", text)
    if not text or len(text) > 80 or len(plain.split()) > 5 or _ANNOUNCES.match(plain):
        return None
    if text.count("{") != text.count("}") or re.search(FORMULA, text):
        return None
    return text if any(map(str.isalnum, text)) else None


def number_word(text: str) -> str | None:
    """The last number that a text spells as a word, or None."""
    words = _NUMBER_WORD.findall(text)
    return words[-1] if words else None


def predicate(sentence: str, alone: bool) -> str | None:
    """What a sentence says that its subject is, if it concludes or is the whole reply: "Thus the fastest is Evelyn".

    Where the subject is a name ("Evelyn is the fastest"), the name.
    """
    if not (alone or concludes(sentence)):
        return None
    named = _NAME_IS.match(sentence)
    if named:
        return named[1]
    match = _PREDICATE.match(sentence)
    if match is None or _NUMBER_WORD.search(match[1]) or _ANNOUNCES.match(match[1]):
        return None
    return None if _NO_PREDICATE.match(match[1]) and not alone else match[1]
