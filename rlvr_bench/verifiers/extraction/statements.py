r"""The answer that a text without a box states: "the answer is 14", "Final Answer: 14", "so she makes 18 dollars".

The order: the last phrase that calls something the answer; else the last sentence that concludes or states a value; else a
short reply as a whole. Only the last 4,000 characters are read.
"""

from __future__ import annotations

import re

from rlvr_bench.verifiers.extraction.asides import (
    asks,
    concludes,
    gives,
    is_aside,
    points_back,
    refuses,
    sets_a_task,
    turns,
)
from rlvr_bench.verifiers.extraction.endings import is_cut, is_dangling, without_repeat
from rlvr_bench.verifiers.extraction.formulas import reduce
from rlvr_bench.verifiers.extraction.marks import find_marks, stated_at, without_filler
from rlvr_bench.verifiers.extraction.runs import find_runs
from rlvr_bench.verifiers.extraction.sentences import LABEL, Value, leading_value, sentences, value_of
from rlvr_bench.verifiers.extraction.spans import Flat, flatten
from rlvr_bench.verifiers.extraction.words import number_word, predicate, wordy, yes_or_no

__all__ = ["answer_of_line", "conclude"]

_READ = 4000
_LAST = 400
_MOST_SENTENCES = 80


def _ascii_digits(text: str) -> str:
    return text if text.isascii() else "".join(str(int(c)) if c.isdecimal() and not c.isascii() else c for c in text)


def _is_final(value: Value, sentence: str) -> bool:
    """Whether a value wins over all earlier sentences: it is calculated, stated or concluded."""
    if value.kind == "so" and value.strength > 0:
        return True
    if (
        "|" not in sentence
        and not _WORDS.search(sentence[: value.run.start])
        and not _WORDS.search(sentence[value.run.end :])
    ):
        return True  # a line that is the value alone
    return _CALCULATES.search(sentence) is not None or (value.strength >= 2 and not points_back(sentence))


def _last_statement(flat: Flat) -> Value | None:
    """The value of the last sentence that has one; but an earlier "therefore" wins over sentences that do not calculate."""
    last: Value | None = None
    for sentence in reversed(sentences(flat.text)[-_MOST_SENTENCES:]):
        text = sentence.text
        if text.lstrip().startswith("#"):
            continue
        if flat.text[sentence.start + len(text) :][:1] == "?":
            if last is None and asks(text):
                return None  # the problem repeated, or another problem
            continue
        if last is None and (
            refuses(text) or sets_a_task(text) or (sentence.start == 0 and text.rstrip().endswith(":"))
        ):
            return None
        value = None if sentence.start > 0 and is_aside(text) else value_of(text, flat.formulas)
        if value is not None:
            if last is None and is_dangling(value, sentence, flat):
                return None
            if value.strength > 0 and concludes(text):
                return value
            last = last or value
            if last is value and _is_final(value, text):
                break
        if last is not None and turns(text):
            break
    return last


_CALCULATES = re.compile(r"=|\bequals\b")
_FIRST = re.compile(
    r"\A\s*[$€£]?(\d[\d,]*(?:\.\d+)?%?)((?:\s(?!(?:is|are|was|were|has|have|can)\b)[a-z]+){0,2})(?:\.\s+(?=[A-Z])|"
    r"\s[-–—]\s+(?=[a-z]))"
)
_CALCULATES_ON = re.compile(r"(?i)=|\b(?:equals|total|altogether|in all|now|left|result|answer|sum)\b")
_LISTED = re.compile(r"^\s*\d{1,2}[.)]\s", re.MULTILINE)
_WORDS = re.compile(r"[^\W_]")
_PROSE = re.compile(r"(?<![{ ])[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}(?! ?\})")
_WHOLE = re.compile(r"[^\n]{1,400}\Z")


def _whole_reply(text: str, flat: Flat) -> str | None:
    """A reply that is a single expression."""
    stripped = LABEL.sub("", flat.text).strip().rstrip(".")
    runs = [] if _PROSE.search(stripped) else find_runs(stripped, flat.formulas)
    if len(runs) == 1 and not stripped[: runs[0].start].strip() and not stripped[runs[0].end :].strip():
        return runs[0].text
    bare = text.strip()
    return (
        reduce(bare)
        if bare.startswith("\\") and _WHOLE.fullmatch(bare) and not re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", bare)
        else None
    )


def _answer_first(flat: Flat) -> str | None:
    """The value of a reply that begins with it and then explains it: "38. There are 19 people with 2 bottles each."."""
    first = _FIRST.match(flat.text)
    if first is None or _LISTED.search(flat.text, first.end()):
        return None
    rest = sentences(flat.text[first.end() :])
    concluded = any(concludes(sentence.text) or turns(sentence.text) for sentence in rest)
    return None if concluded or (first[2] and _CALCULATES_ON.search(flat.text, first.end())) else first[1]


def _after_turn(flat: Flat, start: int) -> Value | None:
    """The value that a text states after it withdraws its earlier answer: "Wait, 4 x 3 is 12, not 10."."""
    turned = next((sentence for sentence in sentences(flat.text[start:]) if turns(sentence.text)), None)
    if turned is None:
        return None
    value = _last_statement(Flat(flat.text[start + turned.start :], flat.formulas, flat.open))
    return value if value is not None and value.strength >= 2 else None


def _in_words(text: str, flat: Flat) -> str | None:
    """The answer of a text without one in figures: a number word, or a few words."""
    number = None if any(map(str.isdigit, flat.text)) else number_word(flat.text[-300:])
    if gives(text) or refuses(text):
        return None
    return number or (wordy(text) if "\n" not in text.strip() else None)


def _named(flat: Flat) -> str | None:
    """What the last sentence names where it has no value: "Thus the fastest is Evelyn"."""
    last_sentences = sentences(flat.text[-_LAST:])
    if len(last_sentences) == 1 and len(flat.text) < _LAST and (agreed := yes_or_no(last_sentences[0].text)):
        value = value_of(last_sentences[0].text, flat.formulas)
        return agreed if value is None or value.strength == 0 else None
    name = (
        predicate(last_sentences[-1].text, alone=len(last_sentences) == 1 and len(flat.text) < _LAST)
        if last_sentences
        else None
    )
    return None if name and find_runs(last_sentences[-1].text, flat.formulas) else name


_NEXT_QUESTION = re.compile(r"\n[ \t]*[#*]*[ \t]*(?:Question|Problem|Q|Exercise|Human|User)[ \t]*\d*[ \t]*[:：.]")


def _before_next_question(text: str) -> str:
    """A text up to the next question that a base model asks itself, if it states an answer before that."""
    match = _NEXT_QUESTION.search(text)
    if match is None:
        return text
    before = text[: match.start()]
    flat = flatten(before[-_READ:])
    return before if any(stated_at(flat, mark) for mark in find_marks(flat.text)) else text


def conclude(text: str) -> tuple[str | None, int]:
    """The answer of a text without boxes, and how many different answers it states."""
    text = _before_next_question(text)
    flat = flatten(text[-_READ:])
    whole = _whole_reply(text, flat) if len(text) <= 400 and not flat.open else None
    if whole:
        return _ascii_digits(whole), 1
    marks = [(mark, answer) for mark in find_marks(flat.text) if (answer := stated_at(flat, mark))]
    if marks:
        mark, answer = marks[-1]
        turned = _after_turn(flat, mark.end)
        return _ascii_digits(turned.text if turned else answer), len({answer for _, answer in marks})
    flat = without_repeat(flat)
    if is_cut(flat):
        return None, 0
    named = _named(flat) or _answer_first(flat)
    value = None if named else _last_statement(flat)
    answer = named or (value.text if value else _in_words(text, flat))
    return (_ascii_digits(answer), 1) if answer else (None, 0)


def answer_of_line(line: str) -> str | None:
    """The answer in a line that holds one, without additions: ``3 (three)``, ``**72**``, ``The answer is 5``."""
    flat = flatten(line)
    marks = find_marks(flat.text)
    if marks:
        return next(filter(None, (stated_at(flat, mark) for mark in reversed(marks))), None)
    value, _ = leading_value(without_filler(flat.text), flat.formulas)
    return value.text if value else None
