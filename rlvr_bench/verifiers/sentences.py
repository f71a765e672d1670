r"""Sentences, their clauses, and the value that a sentence states: the end of its calculation, else what "is" leads to.

A number after a preposition ("in 3 weeks", "per 2 eggs"), in a purpose ("to clean 45 rooms") or in a reason ("because ...")
is a value only where the sentence has no other. Read on `spans.flatten`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rlvr_bench.verifiers.runs import Run, find_runs

__all__ = ["CLAUSE", "LABEL", "NEGATED", "Sentence", "Value", "leading_value", "sentences", "value_of"]
# The patterns below end in \Z where they read the words before a value, and ignore case.
NEGATED = re.compile(
    r"(?i)(?:\b(?:not|never|cannot|neither|nicht|pas|не)|n[’']t\b|不)\s*(?:(?:be|equal|equal to|exactly|just|only|the|a)\s+)*\Z"
)
_ABBREVIATION = re.compile(
    r"(?i)(?:\b(?:mr|mrs|ms|dr|st|vs|approx|e\.g|i\.e|etc|no|fig|eq|a\.m|p\.m|u\.s)|\b[a-z])\.\Z"
)
_SENTENCE_END = re.compile(r"\n|(?:[.!?](?=[\s\"'”)]|$)|[。！？；])+[\"'”)]*")
LABEL = re.compile(r"(?i)\A\s*(?:[-•*>]\s+|\(?\d{1,2}[.)]\s+|\(?[a-z][.)]\s+|step\s+\d+\s*[:.]\s*)+")
_AND = r"(?:and|or|und|oder|et|ou|y|o|и|или)\b"
CLAUSE = re.compile(
    r"(?i)(?P<reason>,\s+as\b|[,;:(]?\s+\(?(?:because|since|where|when|if|while|given that|assuming|denn|weil|da|parce que|"
    r"porque|ya que|потому что|так как)\b)"
    r"|(?P<so>[,;:]?\s+(?:so|therefore|thus|hence|which means|meaning|then|but|giving|making|leaving|yielding|and so|"
    r"we (?:get|have|find|obtain))\b)"
    r"|(?P<which>,?\s+which\b)"
    r"|(?P<and>,?\s+and\s+(?=(?:the|its|his|her|their|our|so|there|this|that|he|she|it|they|we)\b))"
    rf"|(?P<break>;|,\s+(?=(?!{_AND})[^\W\d]{{2,}})|\s[—–]\s(?=[A-Za-z])|[，；：]|:\s)"
)
_CONDITION = re.compile(r"(?i)\A\W*(?:because|since|as|if|when|given|assuming|suppose|let|while|for|where|with)\b")
_GIVEN = re.compile(r"(?i)\b(?:with|when|because|since|if|for|given|let|as|taking|setting|using)\s*\Z")
_ITEMS = re.compile(r",\s*(?=[^,]*=)")
_HOW = (
    r"(?:\s+(?:therefore|thus|hence|then|simply|just|only|exactly|approximately|about|around|roughly|equal to|given by|now|"
    r"a total of|still|also|at (?:least|most)|either))*"
)
_STATES = re.compile(
    r"(?i)(?:\b(?:is|are|was|were|be|been|equals?|equal to|becomes?|to|yields?|gives?|makes?|get|obtain|find|ist|sind|est|sont|"
    rf"es|son|é|равен|равна|равно){_HOW}|=|:|是|为|為|は|有|等于|共)\s*[$€£]?\s*\Z"
)
_TOTAL_OF = re.compile(
    r"(?i)\b(?:total|sum|profit|average|mean|cost|price|length|width|height|area|volume|perimeter|value|distance|amount|speed|"
    r"rate|probability|loss|gain|balance|rest|remainder|answer|result|score|age|weight|income|revenue|maximum|minimum)"
    r"\s+of\s*[$€£]?\s*\Z"
)
_PREPOSITION = re.compile(
    r"(?i)\b(?:in|after|for|every|per|within|by|on|at|from|over|during|of|than|with|between|among|into|through|until|before|"
    r"step|case|part|day|equation|figure|problem|question|group|row|column|chapter|grade|level|hour|week|month|year|another)\s+"
    r"(?:(?:the|those|these|this|his|her|their|its|all|each|every|other|first|last|next|remaining|only|about|another)\s+)*"
    r"[$€£]?\s*\Z"
)
_PER = re.compile(r"(?i)\b(?:than|per|every|in|after|over|within|during)\s+(?:the\s+)?\Z")
_EQUALS = re.compile(r"=\s*[$€£]?(?:[A-Za-z]+\s+){0,4}\Z")
_ROUNDED_TO = re.compile(
    r"(?i)\b(?:round|amount|com|add|reduc|increas|drop|decreas|simplif|equat|equal)\w*\s+(?:up\s+|down\s+)?to\s*[$€£]?\Z"
)
_PURPOSE = re.compile(r"(?i)(?:\A|(\w+)\s+)to (?!be\b)[a-z]+(?:\s+(?:all|the|her|his))?\s*\Z")
_DUTY = ("need", "needs", "needed", "have", "has", "had", "able", "going", "want", "wants")
_PERCENT = re.compile(r"\s?(?:\\?%|(?:percent|per cent|pct|Prozent|pour cent|por ciento)\b)")
_SCALE = re.compile(r"\s(?:thousand|million|billion|trillion)\b")
_UNIT = re.compile(
    r"\s?((?:(?:square|cubic|sq\.?)\s)?(?:mm|cm|km|m|kg|mg|g|ml|feet|foot|ft|inch(?:es)?|yards?|miles?|meters?|metres?|"
    r"centimeters?|kilometers?|hours?|minutes?|seconds?|days?|weeks?|months?|years?|grams?|kilograms?|pounds?|ounces?|liters?|"
    r"gallons?|cents|dollars?|degrees?)(?:\^\{?[23]\}?|[²³])?)(?![\w^/*(])(?!\s+(?:per|an?|each|every|old|of|and \d)\b)"
)
_OUT_OF, _CHANCE = (
    re.compile(r"\s(?:out of|in)\s(\d+)\b"),
    re.compile(r"(?i)\b(?:probability|chances?|odds|fraction)\b"),
)
_HALF_OF_DAY = re.compile(r"(?i)\s?([ap])\.?\s?m\b\.?")


class Sentence(NamedTuple):
    """A sentence, where it starts, and whether anything ends it."""

    text: str
    start: int
    ended: bool


class Value(NamedTuple):
    """A value, how surely its sentence states it (see `_strength`), and its run."""

    text: str
    strength: int
    run: Run


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text in order; the end of a line ends one."""
    found, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if match.group() != "\n" and _ABBREVIATION.search(text, max(start, match.end() - 9), match.end()):
            continue
        found.append(Sentence(text[start : match.start()], start, True))
        start = match.end()
    found.append(Sentence(text[start:], start, False))
    return [sentence for sentence in found if sentence.text.strip()]


def _with_unit(run: Run, sentence: str) -> str:
    """A run with the percent sign, the multiple or the unit that follows it."""
    if _PERCENT.match(sentence, run.end) and not run.text.endswith("%"):
        return f"{run.text}\\%"
    scale = _SCALE.match(sentence, run.end)
    if scale:
        return run.text + scale.group()
    half = _HALF_OF_DAY.match(sentence, run.end)
    if half and re.fullmatch(r"\d{1,2}(?::\d\d)?", run.text):
        return f"{run.text} \\text{{ {half[1].lower()}.m.}}"
    share = _OUT_OF.match(sentence, run.end)
    if share and run.text.isdigit() and _CHANCE.search(sentence):
        return f"{run.text}/{share[1]}"
    unit = _UNIT.match(sentence, run.end)
    if unit and "=" not in run.text and "," not in run.text:
        return f"{run.text} \\text{{ {unit[1]}}}"
    return run.text


def _strength(run: Run, before: str) -> int:
    """How surely the words before a run say that it is the value.

    3: it ends an equation; 2: "is" or its like leads to it; 1: any other words; 0: a preposition or a purpose does
    ("in 3 weeks", "to clean 45 rooms"; but "needs to sell 14").
    """
    if run.is_aside or not run.says_more:
        return 0
    if run.is_equation or _EQUALS.search(before):
        return 3
    if _ROUNDED_TO.search(before):
        return 2
    purpose = _PURPOSE.search(before)
    if purpose and (purpose[1] or "").lower() not in _DUTY:
        return 0
    if _TOTAL_OF.search(before):
        return 2
    if run.is_money and not _PER.search(before):
        return 2 if _STATES.search(before) else 1
    if _PREPOSITION.search(before):
        return 0
    return 2 if _STATES.search(before) else 1


def _clauses(sentence: str) -> list[tuple[int, int, str]]:
    """(start, end, how it begins) of the clauses of a sentence: "", "so", "reason", "which" or "break"."""
    cuts = [(match.start(), match.lastgroup or "") for match in CLAUSE.finditer(sentence)]
    first = "reason" if _CONDITION.match(sentence) else ""
    starts = [(0, first), *cuts]
    ends = [start for start, _ in cuts] + [len(sentence)]
    return [(start, end, kind) for (start, kind), end in zip(starts, ends, strict=True)]


def _clause_value(runs: list[Run], sentence: str, start: int, end: int) -> Value | None:
    """The last value of the surest kind in a clause."""
    best: Value | None = None
    for run in runs:
        if not start <= run.start < end or not run.says_more:
            continue
        before = sentence[max(start, run.start - 60) : run.start]
        if NEGATED.search(before):
            continue
        strength = _strength(run, before)
        if best is None or strength >= best.strength:
            text = _with_unit(run, sentence)
            if run.relates and _GIVEN.search(before):
                text = _ITEMS.split(text)[-1]  # "with T = 8, n = 23"
            best = Value(text, strength, run)
    return best


def value_of(sentence: str, formulas: list[str], explained: bool = False) -> Value | None:
    """The value a sentence ends on; with ``explained`` the one it begins with, because the rest explains it."""
    label = LABEL.match(sentence)
    sentence = " " * label.end() + sentence[label.end() :] if label else sentence
    runs = find_runs(sentence, formulas)
    if not runs:
        return None
    reasons: list[Value] = []
    said: list[Value] = []
    reason = False
    for start, end, kind in _clauses(sentence):
        reason = kind == "reason" or (reason and kind == "which")
        value = _clause_value(runs, sentence, start, end)
        if value is not None and reason:
            reasons.append(value if value.strength == 3 else value._replace(strength=0))
        elif value is not None:
            said.append(value)
        if explained and said and not reason:
            break
    calculated = [value for value in reasons if value.strength == 3]
    sure = [value for value in said if value.strength > 0]
    values = sure or calculated or said or reasons
    return values[-1] if values else None


def leading_value(body: str, formulas: list[str]) -> tuple[Value | None, str]:
    """The value that a statement begins with, and the words that follow it in its sentence; None if it begins with words."""
    runs = find_runs(body, formulas)
    if not runs or body[: runs[0].start].strip("([{ \t\"'“”‘’$"):
        return None, body
    run = runs[0]
    rest = body[run.end :]
    if not run.says_more and not re.match(r"\W*\Z|\W*[,;.]", rest) and len(runs) > 1:
        return None, body
    clause_end = _clauses(body)[0][1]
    later = [other for other in runs[1:] if other.is_equation and other.start < clause_end and not other.is_aside]
    run = later[-1] if later and not run.is_equation else run
    return Value(_with_unit(run, body), 3, run), body[run.end :]
