r"""Marks: the phrases that call something the answer, in many languages, and what each of them states."""

from __future__ import annotations

import re
from typing import NamedTuple

from rlvr_bench.verifiers.extraction.asides import BOUND
from rlvr_bench.verifiers.extraction.clauses import first_clause
from rlvr_bench.verifiers.extraction.sentences import (
    Value,
    leading_value,
    sentences,
    value_of,
)
from rlvr_bench.verifiers.extraction.spans import Flat
from rlvr_bench.verifiers.extraction.words import wordy, yes_or_no

__all__ = ["Mark", "find_marks", "stated_at", "without_filler"]

_MOST_MARKS = 40
_IS = r"\b(?:is|are|was|were|would be|will be|should be|must be|has to be|equals?|comes (?:out )?to|turns out to be)\b"
_ANSWER = re.compile(rf"(?i)answers?\b[^\n.:：=?!\d]{{0,80}}?(?P<is>{_IS}|[:：=]|\s[-–—](?=\s))")
_HEADING = re.compile(r"(?im)^[ \t]*\#{0,6}[ \t]*(?:the )?(?:final |correct )?answers?[ \t]*$")
_LINE = re.compile(r"\n[ \t]*(?:(?i:A|Ans|Sol)\s?[:.：]|\#{4}(?!\#)(?=[^\n\d]{0,4}\d)|<answer>)")
_TAG = re.compile(r"<answer>")
_FINAL = re.compile(r"(?i)\bfinal\s+\Z")
_POSTPOSED = re.compile(
    r"(?i)\b(?:is|as|are)\s+(?:the|our|my|your|its)\s+(?:final\s+|correct\s+|required\s+|desired\s+)?\Z"
)
_GOES_ON = re.compile(r"(?i)answers?\b\s*(?:is\b|:)")
_COMMA_LANGUAGES = (
    r"\b(?:antwort|ergebnis|lösung|réponse|respuesta|resposta|risposta|ответ|відповідь|odpowied[źz]|odpověď|antwoord|"
    r"svar(?:et)?|cevap|yanıt)\b"
)
_FOREIGN_ANSWER = re.compile(
    rf"(?i)(?:{_COMMA_LANGUAGES}|\b(?:jawaban|απάντηση)\b|đáp án|câu trả lời|उत्तर|الجواب|الإجابة|إجابة|উত্তর|คำตอบ|תשובה|"
    r"پاسخ|정답|답|答案|答え|解答|回答|答)[^\n.。:：=\d?!–—-]{0,40}?"
    r"(?P<is>[:：=–—-]|\b(?:ist|lautet|sind|beträgt|est|sont|es|son|é|são|è|sono|равен|равна|равно|это|is|är|wynosi|je|"
    r"adalah|là|είναι|to)\b|应为|应该是|等于|是|为|為|は|이|은|는|है|হল|হলো|হচ্ছে|هو|هي|คือ|היא|הוא)"
)
_COMMA = re.compile(f"(?i){_COMMA_LANGUAGES}")
_FOREIGN_IN_ASCII = ("ntwort", "rgebnis", "espuesta", "esposta", "isposta", "ntwoord", "svar", "evap", "awaban")
_DECIMALS = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+|\d+),(\d{1,2}|\d{4,})(?![\d,])")
_HYPOTHESIS = re.compile(
    r"(?i)\b(?:if|whether|suppose|unless|assuming|what|wenn|ob|si|(?:might|would|may|could|be tempted to|first) (?:think|"
    r"thought|say|guess|"
    r"assume|believe|expect)|thought|tempting|at first|first glance|looks? like|appears?|naive\w*|initially|mistaken\w*|"
    r"wrong\w*|incorrect\w*)\b[^.\n]{0,60}\Z"
)
_FILLER = re.compile(
    r"(?i)\A(?:[\s:：*_~>\"“‘=]|[-–—•](?=\s)|(?:therefore|thus|hence|then|simply|just|clearly|equal to|approximately|about|"
    r"around|roughly|exactly|given by|found to be|indeed|also|only|now|always|be|is|are|option|nur|donc|por lo tanto|"
    r"最终|约|也是)\b[,:]?)+"
)
_REFUSED = re.compile(rf"(?i)\A\s*(?:(?:not|neither|never|cannot|nicht|pas|не)\b|n[’']t\b|不|{BOUND})")
_UNFINISHED = re.compile(r"\s*[-+*/^=×÷]\s*")
_CORRECTED = re.compile(
    r"(?i)(?:\b(?:but|no|or|wait|sorry|oh|hmm)\b[^.\n\d]{0,30}?)?\b(?:actually|rather|in fact|in reality|really|I mean|"
    r"correction|scratch that|wait|sorry|oops|make that)\b"
)
_RESTATED = re.compile(r"(?:…|\.\.\.)[,;]?\s*(?:(?:that is|which is|which equals|namely|meaning|or)\b,?|i\.e\.,?|=)\s*")


class Mark(NamedTuple):
    """A phrase that calls something the answer. ``decisive``: no solution follows it, unlike "A: ...".

    ``before``: the answer comes before the phrase. ``foreign``: the language writes a decimal comma.
    """

    start: int
    end: int
    decisive: bool
    before: bool = False
    foreign: bool = False


def _decimal_point(text: str) -> str:
    """1.234,5 as 1234.5 and 3,5 as 3.5, in a language that writes a decimal comma; 1,234 is ambiguous and stays."""
    return _DECIMALS.sub(lambda match: f"{match[1].replace('.', '')}.{match[2]}", text)


def _last_indices(text: str, word: str) -> list[int]:
    indices: list[int] = []
    index = text.rfind(word)
    while index >= 0 and len(indices) < _MOST_MARKS:
        indices.append(index)
        index = text.rfind(word, 0, index)
    return indices


def _at_word(text: str, at: int) -> Mark | None:
    """The mark at the word "answer", if the word marks anything."""
    before = text[max(0, at - 70) : at]
    if _HYPOTHESIS.search(before):
        return None
    if _POSTPOSED.search(before) and not _GOES_ON.match(text, at):
        return Mark(at, at, decisive=True, before=True)
    line = text.rfind("\n", 0, at) + 1
    heading = _HEADING.match(text, line) if at - line < 30 else None
    if heading:
        return Mark(line, heading.end(), decisive="final" in heading.group().lower())
    match = _ANSWER.match(text, at)
    if match is None or text[at - 1 : at].isalpha():
        return None
    return Mark(at, match.end(), match["is"] not in ":：=" or _FINAL.search(before) is not None)


def find_marks(text: str) -> list[Mark]:
    """The last marks of a text in order."""
    marks = {}
    for word in ("nswer", "NSWER"):
        for at in _last_indices(text, word):
            mark = _at_word(text, at - 1) if at and text[at - 1] in "aA" else None
            if mark:
                marks[mark.end] = mark
    for match in _LINE.finditer("\n" + text):
        marks.setdefault(match.end() - 1, Mark(match.start(), match.end() - 1, decisive=False))
    for match in _TAG.finditer(text):
        marks[match.end()] = Mark(match.start(), match.end(), decisive=True)
    if not text.isascii() or any(word in text for word in _FOREIGN_IN_ASCII):
        for match in _FOREIGN_ANSWER.finditer(text):
            comma = _COMMA.match(text, match.start()) is not None
            marks[match.end()] = Mark(match.start(), match.end(), match["is"] not in ":：", foreign=comma)
    return sorted(marks.values())[-_MOST_MARKS:]


def _body(text: str, start: int) -> str:
    """The line after a mark; the next line with text where that line is empty or only announces something."""
    line, _, rest = text[start : start + 1500].partition("\n")
    bare = line.strip(" \t*_:：#>\"'")
    if not bare or (line.rstrip().endswith((":", "：")) and not any(map(str.isdigit, line))):
        line = next((one for one in rest.split("\n") if one.strip(" \t*_:：#>\"'")), "")
    return line.split("</answer>")[0]


def _before(text: str, at: int) -> str:
    """The sentence that ends at a mark after the answer, with the display before it."""
    piece = text[max(0, at - 400) : at].rstrip()
    return sentences(piece)[-1].text if piece else ""


def without_filler(text: str) -> str:
    """A statement without the words and signs that only lead to it: "therefore", "exactly", quotation marks."""
    filler = _FILLER.match(text)
    return text[filler.end() :] if filler else text


def _corrected(rest: str, formulas: list[str]) -> Value | None:
    """The value that the rest of a statement replaces it with: "10, but it is actually 12", "0.333…, that is 1/3"."""
    restated = _RESTATED.match(rest)
    if restated:
        return leading_value(rest[restated.end() :], formulas)[0]
    turn = _CORRECTED.search(rest)
    return value_of(rest[turn.end() :], formulas) if turn else None


def stated_at(flat: Flat, mark: Mark) -> str | None:
    """The answer that a mark states; None for a negation, a bound, an announcement, the start of a solution."""
    if mark.before:
        value = value_of(_before(flat.text, mark.start), flat.formulas)
        return value.text if value else None
    body = _body(flat.text, mark.end)
    parts = sentences(_decimal_point(body) if mark.foreign else body)
    first = without_filler(parts[0].text) if parts else ""
    if not first.strip() or _REFUSED.match(first):
        return None
    alone = len(parts) == 1
    if agreed := yes_or_no(first):
        return agreed
    value, rest = leading_value(first, flat.formulas)
    if value is not None:
        if _UNFINISHED.fullmatch(rest) and not parts[0].ended:
            return None  # cut off in the middle of a calculation
        value = _corrected(rest, flat.formulas) or value
        compact = len(first_clause(rest).split()) <= 4
        return value.text if mark.decisive or compact or alone else None
    if not (mark.decisive or alone):
        return None
    explained = value_of(first, flat.formulas, explained=True)
    return explained.text if explained else wordy(first)
