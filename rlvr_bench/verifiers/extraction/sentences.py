r"""Sentences and the value that each states: the end of its calculation, else the value after "is" or the like.

A number after a preposition ("in 3 weeks", "per 2 eggs"), in a purpose ("to clean 45 rooms") or in a reason ("because ...")
is the value only where the sentence has no other. Reads the result of `spans.flatten`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rlvr_bench.verifiers.extraction.asides import gives
from rlvr_bench.verifiers.extraction.clauses import Clause, clauses_of
from rlvr_bench.verifiers.extraction.runs import Run, find_runs

__all__ = ["LABEL", "Sentence", "Value", "leading_value", "sentences", "value_of"]
# The patterns below that end in \Z read the words before a value. They ignore case.
_NEGATED = re.compile(
    r"(?i)(?:\b(?:not|never|cannot|neither|nicht|pas|не)|n[’']t\b|不)\s*(?:(?:be|equal|equal to|exactly|just|only|the|a)\s+)*\Z"
)
_ABBREVIATION = re.compile(
    r"(?i)(?:\b(?:mr|mrs|ms|dr|st|vs|approx|e\.g|i\.e|etc|no|fig|eq|a\.m|p\.m|u\.s)|\b[a-z])\.\Z"
)
_SENTENCE_END = re.compile(r"(?=[\n.!?。！？；])(?:\n|(?:[.!?](?=[\s\"'”)]|$)|[。！？；])+[\"'”)]*)")
LABEL = re.compile(r"(?i)\A\s*(?:[-•*>]\s+|\(?\d{1,2}[.)]\s+|\(?[a-z][.)]\s+|step\s+\d+\s*[:.]\s*)+")
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
# "at a rate of 9" describes, and so does "out of a total of 40"; "for a total of 9" is a result.
_DETAIL_OF = re.compile(
    r"(?i)\b(?:(?:at|with|by|given)\s+(?:an?|the|his|her|its|their)\s+(?!total)(?:\w+\s+){0,2}|of\s+(?:an?|the)\s+(?:\w+\s+)?)\w+\s+of"
    r"\s*[$€£]?\s*\Z"
)
_BOUND = re.compile(
    r"(?i)\b(?:more|less|fewer|greater|smaller|larger|bigger|higher|lower)\s+than\s+[$€£]?\s*\Z"
    r"|(?<!that )\b(?:is|are|was|were|be)\s+at\s+(?:most|least)\s+[$€£]?\s*\Z"
)
_REFERS = re.compile(
    r"(?i)\b(?:chapter|figure|fig\.|section|theorem|lemma|appendix|problem|exercise|equation|level|footnote|line)\s+\(?\Z"
)
_COMPARED = re.compile(
    r"(?i)(?:\\?%)?\s(?:[a-z]+\s){0,2}?(?:(?:more|less|fewer|greater|larger|smaller|bigger|higher|lower|older|younger|longer|shorter|"
    r"taller|faster|slower|heavier|lighter|farther|further)(?:\s[a-z]+){0,2}\sthan|times)\b"
)
_TIMES = re.compile(r"(?i)\b(?:twice|thrice|half|double|triple)\s")
_EACH = re.compile(r"(?i)\s(?:(?:for\s)?each|apiece|per|for\severy|an?\s(?:hour|day|week|month|year|piece|person))\b")
_PART = re.compile(r"(?i)\s(?:of|among)\s(?:which|whom|them|these|those)\b")
_NAMED = re.compile(r"(?i)\s(?:(?:is|are)\s(?:the|our|an?)\s|satisf(?:y|ies)\s|works?\b)")
_SUBJECT = re.compile(r"(?i)\s(?:has|have|had|contains?|possess(?:es)?)\s")
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
_PURPOSE = re.compile(
    r"(?i)(?:\A|(\w+)\s+)to (?!(?:be|get|give|obtain|yield|equal|total)\b)[a-z]+(?:\s+(?:all|the|her|his))?\s*\Z"
)
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
    """A sentence, its start in the text, and whether it has an end (a full stop or the like)."""

    text: str
    start: int
    ended: bool


class Value(NamedTuple):
    """A value, how surely its sentence states it (see `_strength`), its run, and how its clause begins (see `Clause`)."""

    text: str
    strength: int
    run: Run
    kind: str = ""


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text in order; the end of a line also ends a sentence."""
    parts, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if match.group()[0] == "." and _ABBREVIATION.search(text, max(start, match.end() - 9), match.end()):
            continue
        parts.append(Sentence(text[start : match.start()], start, True))
        start = match.end()
    parts.append(Sentence(text[start:], start, False))
    return [sentence for sentence in parts if sentence.text.strip()]


def _with_unit(run: Run, sentence: str) -> str:
    """The text of a run with the percent sign, the multiple or the unit that follows it."""
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


def _strength(run: Run, before: str, sentence: str) -> int:
    """How surely the words around a run mark it as the value.

    3: it ends an equation; 2: "is" or the like comes before it; 1: other words; 0: a preposition or a purpose comes before
    it ("in 3 weeks", "to clean 45 rooms"; but "needs to sell 14" is 1). A value that is compared ("3 times as") or that has
    something is 1 at most.
    """
    if run.is_aside or not run.says_more:
        return 0
    if run.is_equation or _EQUALS.search(before):
        return 3
    if _ROUNDED_TO.search(before):
        return 2
    purpose = _PURPOSE.search(before)
    if (purpose and (purpose[1] or "").lower() not in _DUTY) or _DETAIL_OF.search(before):
        return 0
    if _TOTAL_OF.search(before):
        return 2
    if _PREPOSITION.search(before) and not (run.is_money and not _PER.search(before)):
        return 0
    if _PART.match(sentence, run.end):
        return 0
    if _COMPARED.match(sentence, run.end) or _SUBJECT.match(sentence, run.end):
        return 1
    return 2 if _STATES.search(before) else 1


def _ends_in_equation(runs: list[Run], sentence: str) -> bool:
    last = runs[-1]
    return last.is_equation and not last.is_aside and not any(_NAMED.match(sentence, run.end) for run in runs[:-1])


def _clause_value(runs: list[Run], sentence: str, clause: Clause, last: bool = False) -> Value | None:
    """The surest value of a clause, the last one if several are; with ``last`` the last one after no preposition."""
    best: Value | None = None
    paid = False
    within = [run for run in runs if clause.start <= run.start < clause.end and run.says_more]
    if within and _ends_in_equation(within, sentence):
        within = within[-1:]  # nothing before it can be surer
    for run in within:
        before = sentence[max(clause.start, run.start - 60) : run.start]
        if (
            _NEGATED.search(before)
            or (run.text.isdigit() and _REFERS.search(before))
            or (not run.is_equation and _BOUND.search(before))
        ):
            continue
        strength = _strength(run, before, sentence)
        if run.is_money and paid and strength == 1 and (_PREPOSITION.search(before) or _EACH.match(sentence, run.end)):
            strength = 0  # "paid $1,250 for rooms at $250"
        if best is not None and best.strength > 0 and strength == 1 and _COMPARED.match(sentence, run.end):
            continue  # "has 20 marbles, 5 more than Tom"
        paid = paid or (
            run.is_money and strength > 0 and not _PREPOSITION.search(before) and not _EACH.match(sentence, run.end)
        )
        if best is None or strength >= (min(best.strength, 1) if last else best.strength):
            text = _with_unit(run, sentence)
            if run.relates and _GIVEN.search(before):
                text = _ITEMS.split(text)[-1]  # "with T = 8, n = 23"
            best = Value(text, strength, run, clause.kind)
            if strength and _NAMED.match(sentence, run.end):
                break  # "x = 5 is the only root of ..."
    return best


def _is_breakdown(runs: list[Run], sentence: str, clause: Clause) -> bool:
    """Whether a clause lists the parts of a total before it: "140 in total: 90 roses and 50 tulips"."""
    if sentence[clause.start] not in ":—–":
        return False
    parts = [run for run in runs if clause.start <= run.start < clause.end and not run.is_aside]
    return len(parts) > 1 and not any(run.is_equation for run in parts)


def _is_demoted(value: Value, before: Value | None, runs: list[Run], sentence: str, clause: Clause) -> bool:
    """Whether a clause only describes the value ``before`` it: how it was obtained, what it is of, what it consists of."""
    if clause.kind == "how":
        return value.strength < 3
    if clause.kind == "aside":
        return True
    if before is None or before.strength == 0:
        return False
    if clause.kind == "which":
        words = sentence[clause.start : value.run.start]
        return value.strength < 3 and (_TIMES.search(words) or _COMPARED.match(sentence, value.run.end)) is not None
    return clause.kind == "relative" or _is_breakdown(runs, sentence, clause)


def _stating_clauses(sentence: str) -> list[Clause]:
    """The clauses of a sentence without those that say what is given."""
    clauses = clauses_of(sentence)
    if not gives(sentence):
        return clauses
    first = (at for at, clause in enumerate(clauses) if clause.kind == "so" or sentence[clause.start] == ",")
    return clauses[next(first, len(clauses)) :]


def value_of(sentence: str, formulas: list[str], explained: bool = False) -> Value | None:
    """The value that a sentence ends with; with ``explained`` the one it begins with, as the rest explains it."""
    label = LABEL.match(sentence)
    sentence = " " * label.end() + sentence[label.end() :] if label else sentence
    runs = find_runs(sentence, formulas)
    if not runs:
        return None
    reasons: list[Value] = []
    stated: list[Value] = []
    before: Value | None = None
    reason = False
    for clause in _stating_clauses(sentence):
        reason = clause.kind == "reason" or (reason and clause.kind == "which")
        value = _clause_value(runs, sentence, clause, last=clause.kind == "relative" and before is None)
        if value is not None and (reason or _is_demoted(value, before, runs, sentence, clause)):
            reasons.append(value if value.strength == 3 else value._replace(strength=0))
        elif value is not None:
            stated.append(value)
        before = value
        if explained and stated and not reason:
            break
    sure = [value for value in stated if value.strength > 0]
    calculated = [value for value in reasons if value.strength == 3]
    values = sure or calculated or stated or reasons
    return values[-1] if values else None


def leading_value(body: str, formulas: list[str]) -> tuple[Value | None, str]:
    """The value that a statement begins with (None if it begins with words), and the rest of its sentence."""
    runs = find_runs(body, formulas)
    if not runs or body[: runs[0].start].strip("([{ \t\"'“”‘’$"):
        return None, body
    run = runs[0]
    rest = body[run.end :]
    if not run.says_more and not re.match(r"\W*\Z|\W*[,;.]", rest) and len(runs) > 1:
        return None, body
    clause_end = clauses_of(body)[0].end
    later = [other for other in runs[1:] if other.is_equation and other.start < clause_end and not other.is_aside]
    run = later[-1] if later and not run.is_equation else run
    return Value(_with_unit(run, body), 3, run), body[run.end :]
