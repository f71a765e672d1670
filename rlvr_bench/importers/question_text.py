r"""The text of a question as it is compared between programs: two spellings of one question become equal.

Compatibility forms are unified (Unicode NFKC), curly quotes and long dashes become plain ones, invisible characters go.
LaTeX's spaces and line breaks (``\,``, ``\quad``, ``~``, ``\\``) and the marks around formulas (``$``, ``\(``, ``\[``) count
as white space, which is kept only between two words, as one space. Upper and lower case stay different.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

__all__ = ["QuestionIndex", "holds", "is_specific", "plain_question"]

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", None),
        **dict.fromkeys("\u2018\u2019\u201a\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    }
)
_SPACES = re.compile(r"\\(?:[\\,;:!\s$()\[\]]|(?:quad|qquad|thinspace|enspace)(?![A-Za-z]))|[$~]")
_AROUND_MARKS = re.compile(r" ?([^\w ]) ?")  # one optional space on each side: linear in the text
_WORD = re.compile(r"\w+")
_FEWEST_CHARACTERS = 8


def plain_question(text: str) -> str:
    """The normal form of a question, for comparison only; empty for a text without any letter, digit or mark."""
    unified = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    return _AROUND_MARKS.sub(r"\1", " ".join(_SPACES.sub(" ", unified).split()))


def is_specific(question: str) -> bool:
    """Whether a normal form has the two words and the characters that make it more than a chance part of a text."""
    return len(question) >= _FEWEST_CHARACTERS and len(_WORD.findall(question)) >= 2


def holds(text: str, part: str) -> bool:
    """Whether one normal form is contained in another, without cutting a word or a number in two."""
    start = text.find(part) if part else -1
    while start >= 0:
        end = start + len(part)
        cut_before = part[0].isalnum() and text[start - 1 : start].isalnum()
        if not cut_before and not (part[-1].isalnum() and text[end : end + 1].isalnum()):
            return True
        start = text.find(part, start + 1)
    return False


class QuestionIndex:
    """Finds the questions, given in normal form, that a longer text contains. It takes one pass over the words of the text.

    Questions that are not ``is_specific`` are never looked for: any text may hold them.
    """

    def __init__(self, questions: Sequence[str]) -> None:
        self._by_beginning: dict[tuple[str, str], list[str]] = defaultdict(list)
        for question in dict.fromkeys(questions):
            if is_specific(question):
                first, second, *_ = _WORD.findall(question)
                self._by_beginning[first, second].append(question)

    def contained(self, text: str) -> list[str]:
        """The questions contained in ``text``. A question within a longer one of them counts only where it occurs alone."""
        begun = {question for pair in _pairs(text) for question in self._by_beginning.get(pair, ())}
        counted: list[str] = []
        for question in sorted(begun, key=lambda question: (-len(question), question)):
            if holds(text, question):
                counted.append(question)
                text = text.replace(question, "\n")
        return counted


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    before = ""
    for match in _WORD.finditer(text):
        yield before, match[0]
        before = match[0]
