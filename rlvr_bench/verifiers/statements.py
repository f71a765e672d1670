r"""What a text without a box states as its answer: "the answer is 14", "Final Answer: 14", "so she makes 18 dollars".

The order: the last place that calls something the answer; else the last sentence that concludes or states a value; else a
short reply as a whole. Only the last 4,000 characters are read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rlvr_bench.verifiers.expressions import reduce
from rlvr_bench.verifiers.runs import Run, find_runs
from rlvr_bench.verifiers.spans import FORMULA, Flat, flatten

__all__ = ["answer_of_line", "conclude"]

_READ = 4000
_MOST_MARKS = 40
_MOST_SENTENCES = 80

# ------------------------------------------------------------------------------------------------------------- marks

_IS = r"\b(?:is|are|was|were|would be|will be|should be|must be|has to be|equals?|comes (?:out )?to|turns out to be)\b"
_ANSWER = re.compile(
    rf"(?i)(?:\b(?:final|correct|right|numerical|overall)?\s*answers?\b[^\n.:：=?!\d]{{0,80}}?(?P<is>{_IS}|[:：=])"
    r"|^[ \t]*(?:A|Ans|Sol)\s?(?P<colon>[:.：])"
    r"|^[ \t]*\#{0,6}[ \t]*(?:the )?(?:final |correct )?answers?[ \t]*(?P<heading>$)"
    r"|^[ \t]*(?P<hashes>\#{4})(?!\#)(?=[^\n\d]{0,4}\d)"
    r"|(?P<tag><answer>))",
    re.MULTILINE,
)
_FOREIGN_ANSWER = re.compile(
    r"(?i)(?:\b(?:antwort|ergebnis|lösung|réponse|respuesta|resposta|risposta|ответ|відповідь|odpowied[źz]|odpověď|antwoord|svar(?:et)?|"
    r"cevap|yanıt|jawaban|απάντηση)\b|đáp án|câu trả lời|उत्तर|الجواب|الإجابة|إجابة|উত্তর|คำตอบ|תשובה|پاسخ|정답|답|答案|答え|解答|回答|答)"
    r"[^\n.。:：=\d?!–—-]{0,40}?"
    r"(?P<is>[:：=–—-]|\b(?:ist|lautet|sind|beträgt|est|sont|es|son|é|são|è|sono|равен|равна|равно|это|is|är|wynosi|je|adalah|là|είναι|to)\b|"
    r"应为|应该是|等于|是|为|為|は|:|이|은|는|है|হল|হলো|হচ্ছে|هو|هي|คือ|היא|הוא)"
)
_POSTPOSED = re.compile(
    r"(?i)\b(?:is|as|are)\s+(?:the|our|my|your|its)\s+(?:final\s+|correct\s+|required\s+|desired\s+)?answers?\b(?!\s*(?:is\b|:))"
)
_DECIMAL_COMMA = re.compile(r"(?i)\b(?:antwort|ergebnis|lösung|réponse|respuesta|resposta|risposta|ответ|відповідь|odpowied|odpověď|antwoord|svar|cevap)")
_DECIMALS = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+|\d+),(\d{1,2}|\d{4,})(?![\d,])")
_HYPOTHESIS = re.compile(r"(?i)\b(?:if|whether|suppose|unless|assuming|what|wenn|ob|si)\b[^.\n]{0,60}\Z")
_FILLER = re.compile(
    r"(?i)\A(?:[\s:：*_~>\"“‘=]|[-–—•](?=\s)|"
    r"(?:therefore|thus|hence|then|simply|just|clearly|equal to|approximately|about|around|roughly|exactly|given by|found to be|"
    r"indeed|also|only|now|always|be|is|are|option|最终|约|也是|nur|also|donc|por lo tanto)\b[,:]?)+"
)
_NEGATED = re.compile(r"(?i)(?:\bnot|\bnever|\bcannot|n[’']t|\bneither|\bnicht|\bpas|\bно? не|不)\s*(?:(?:be|equal|equal to|exactly|just|only|the|a)\s+)*\Z")
_NO_ANSWER_WORDS = re.compile(
    r"(?i)^(?:not\b|correct|incorrect|right|wrong|valid|consistent|reasonable|clear|obvious|as follows|obtained|found|given|shown|known|"
    r"unknown|unclear|below|above|here|in\b|that\b|the (?:same|one|following|number|value|sum|answer)\b|we\b|i\b|you\b|it\b|this\b|"
    r"something|expected|required|needed|to\b|based|from|because|if\b|when\b|what|how|let|an? (?:integer|number|positive|real)\b)"
)

# ----------------------------------------------------------------------------------------------------------- sentences

_ABBREVIATION = re.compile(r"(?i)(?:\b(?:mr|mrs|ms|dr|st|vs|approx|e\.g|i\.e|etc|no|fig|eq|a\.m|p\.m|u\.s)|\b[a-z])\.\Z")
_SENTENCE_END = re.compile(r"\n|(?:[.!?](?=[\s\"'”)]|$)|[。！？；])+[\"'”)]*")
_LABEL = re.compile(r"\A\s*(?:[-•*>]\s+|\(?\d{1,2}[.)]\s+|\(?[a-zA-Z][.)]\s+|step\s+\d+\s*[:.]\s*)+", re.IGNORECASE)
_STRONG = re.compile(
    r"(?i)\A\W*(?:therefore|thus|hence|consequently|in conclusion|to conclude|in summary|finally|altogether|in total|"
    r"so,? (?:the|our) (?:final |correct )?answer|we conclude|this means|final result|result|因此|所以|故|综上|总共|"
    r"also|daher|somit|folglich|donc|ainsi|par conséquent|por (?:lo )?tanto|así que|portanto|quindi|dunque|следовательно|поэтому|итак|"
    r"таким образом|よって|したがって|ゆえに|따라서|그러므로)(?=\W|[^\x00-\x7f]|\Z)"
)
_CHECK = re.compile(
    r"(?i)\A\W*(?:let'?s |to |(?:we|you|one) (?:can |may |could |might )?(?:also )?|now,? )*"
    r"(?:check|verif|double.check|confirm|note\b|recall|remember|for example|alternative|have (?:also )?(?:recogni|used|done|paired))"
    r"|\A\s*\([^()]*(?:\([^()]*\)[^()]*)*\)?\s*\Z|✓|✔|✅"
)
_ANAPHORA = re.compile(r"(?i)\A\W*(?:this|that|it|each|these|those|they)\s+(?:is|are|was|were|because|shows|satisf|match|agree|hold)")
_CLAUSE = re.compile(
    r"(?i)(?P<reason>,\s+as\b|[,;:(]?\s+\(?(?:because|since|where|when|if|while|given that|assuming|denn|weil|da|parce que|porque|ya que|потому что|так как)\b)"
    r"|(?P<so>[,;:]?\s+(?:so|therefore|thus|hence|which means|meaning|then|but|giving|making|leaving|yielding|and so|we (?:get|have|find|obtain))\b)"
    r"|(?P<which>,?\s+which\b)"
    r"|(?P<and>,?\s+and\s+(?=(?:the|its|his|her|their|our|so|there|this|that|he|she|it|they|we)\b))"
    rf"|(?P<break>;|,\s+(?=(?!(?:and|or|und|oder|et|ou|y|o|и|или)\b)[^\W\d]{{2,}})|\s[—–]\s(?=[A-Za-z])|[，；：]|:\s)"
)
_REASON_FIRST = re.compile(r"(?i)\A\W*(?:because|since|as|if|when|given|assuming|suppose|let|while|for|where)\b")
_STATES = re.compile(
    r"(?i)(?:\b(?:is|are|was|were|be|been|equals?|equal to|becomes?|to|yields?|gives?|makes?|get|obtain|find|ist|sind|est|sont|es|son|é|равен|равна|равно)"
    r"(?:\s+(?:therefore|thus|hence|then|simply|just|only|exactly|approximately|about|around|roughly|equal to|given by|now|a total of|still|also|at (?:least|most)|either))*"
    r"|=|:|是|为|為|は|有|等于|共)\s*[$€£]?\s*\Z"
)
_TOTAL_OF = re.compile(
    r"(?i)\b(?:total|sum|profit|average|mean|cost|price|length|width|height|area|volume|perimeter|value|distance|amount|speed|rate|"
    r"probability|loss|gain|balance|rest|remainder|answer|result|score|age|weight|income|revenue|maximum|minimum)\s+of\s*[$€£]?\s*\Z"
)
_PREPOSITION = re.compile(
    r"(?i)\b(?:in|after|for|every|per|within|by|on|at|from|over|during|of|than|with|between|among|into|through|until|before|"
    r"step|case|part|day|equation|figure|problem|question|group|row|column|chapter|grade|level|hour|week|month|year|another|"
    r"one of|out of|each of)\s+(?:(?:the|those|these|this|his|her|their|its|all|each|every|other|first|last|next|remaining|only|about|another)\s+)*[$€£]?\s*\Z"
)
_EQUALS_BEFORE = re.compile(r"=\s*[$€£]?(?:[A-Za-z]+\s+){0,4}\Z")
_ROUNDED = re.compile(r"(?i)\b(?:round|amount|com|add|reduc|increas|drop|decreas|simplif|equat|equal)\w*\s+(?:up\s+|down\s+)?to\s*[$€£]?\Z")
# "to clean 45 rooms" is what it is for; "needs to sell 14" is what is asked.
_PURPOSE = re.compile(r"(?i)(?<!need )(?<!needs )(?<!needed )(?<!have )(?<!has )(?<!had )(?<!able )(?<!going )\bto (?!be\b)[a-z]+(?:\s+(?:all|the|her|his))?\s*\Z")
_AFTER_PER = re.compile(r"(?i)\b(?:than|per|every|in|after|over|within|during)\s+(?:the\s+)?\Z")
_PERCENT = re.compile(r"\s?(?:\\?%|percent\b|per cent\b|pct\b|Prozent\b|pour cent\b|por ciento\b)")
_SCALE = re.compile(r"\s(?:thousand|million|billion|trillion)\b")
_UNIT = re.compile(
    r"\s?((?:(?:square|cubic|sq\.?)\s)?(?:mm|cm|km|m|kg|mg|g|ml|feet|foot|ft|inch(?:es)?|yards?|miles?|meters?|metres?|centimeters?|"
    r"kilometers?|hours?|minutes?|seconds?|days?|weeks?|months?|years?|grams?|kilograms?|pounds?|ounces?|liters?|gallons?|cents|"
    r"dollars?|degrees?)(?:\^\{?[23]\}?|[²³])?)(?![\w^/*(])(?!\s+(?:per|an?|each|every|old|of|and \d)\b)"
)
_OUT_OF = re.compile(r"\s(?:out of|in)\s(\d+)\b")
_CHANCE = re.compile(r"(?i)\b(?:probability|chances?|odds|fraction)\b")
_MERIDIEM = re.compile(r"\s?([ap])\.?\s?m\b\.?", re.IGNORECASE)


class _Sentence(NamedTuple):
    text: str
    start: int
    ended: bool


class _Value(NamedTuple):
    """A value with how surely a sentence states it (0 to 3), its run, and whether it ends its sentence without more."""

    text: str
    strength: int
    run: Run
    end: int


def _sentences(text: str) -> list[_Sentence]:
    """Sentences in order; each line ends one."""
    found, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if match.group() != "\n" and _ABBREVIATION.search(text, max(start, match.end() - 9), match.end()):
            continue
        found.append(_Sentence(text[start : match.start()], start, True))
        start = match.end()
    found.append(_Sentence(text[start:], start, False))
    return [sentence for sentence in found if sentence.text.strip()]


def _with_unit(run: Run, sentence: str) -> str:
    """A run with the percent sign, the multiple or the unit that follows it."""
    if _PERCENT.match(sentence, run.end) and not run.text.endswith("%"):
        return f"{run.text}\\%"
    scale = _SCALE.match(sentence, run.end)
    if scale:
        return run.text + scale.group()
    half = _MERIDIEM.match(sentence, run.end)
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
    """How surely the words before a run say that it is the value: 3 an equation, 2 a copula, 1 any verb, 0 an aside."""
    if run.is_aside or not run.says_more:
        return 0
    if run.is_equation or _EQUALS_BEFORE.search(before):
        return 3
    if _ROUNDED.search(before):
        return 2
    if _PURPOSE.search(before):
        return 0
    if _TOTAL_OF.search(before):
        return 2
    if run.is_money and not _AFTER_PER.search(before):
        return 2 if _STATES.search(before) else 1
    if _PREPOSITION.search(before):
        return 0
    return 2 if _STATES.search(before) else 1


def _clauses(sentence: str) -> list[tuple[int, int, str]]:
    """(start, end, how it begins) of the clauses of a sentence: "", "so", "reason", "which" or "break"."""
    cuts = [(match.start(), match.lastgroup or "") for match in _CLAUSE.finditer(sentence)]
    first = "reason" if _REASON_FIRST.match(sentence) else ""
    starts = [(0, first), *cuts]
    ends = [start for start, _ in cuts] + [len(sentence)]
    return [(start, end, kind) for (start, kind), end in zip(starts, ends, strict=True)]


def _clause_value(runs: list[Run], sentence: str, start: int, end: int) -> _Value | None:
    """The last value of the surest kind in a clause."""
    best: _Value | None = None
    for run in runs:
        if not start <= run.start < end or not run.says_more:
            continue
        before = sentence[max(start, run.start - 60) : run.start]
        if _NEGATED.search(before):
            continue
        strength = _strength(run, before)
        if best is None or strength >= best.strength:
            best = _Value(_with_unit(run, sentence), strength, run, run.end)
    return best


def _value(sentence: str, formulas: list[str], explained: bool = False) -> _Value | None:
    """The value a sentence ends on; with ``explained`` the one it begins with, because the rest explains it."""
    label = _LABEL.match(sentence)
    sentence = " " * label.end() + sentence[label.end() :] if label else sentence
    runs = find_runs(sentence, formulas)
    if not runs:
        return None
    reasons: list[_Value] = []
    said: list[_Value] = []
    reason = False
    for start, end, kind in _clauses(sentence):
        reason = kind == "reason" or (reason and kind == "which")
        value = _clause_value(runs, sentence, start, end)
        if value is not None:
            (reasons if reason else said).append(value)
        if explained and said and not reason:
            break
    calculated = [value for value in reasons if value.strength == 3]
    sure = [value for value in said if value.strength > 0]
    values = sure or calculated or said or reasons
    return values[-1] if values else None


# -------------------------------------------------------------------------------------------------------- conclusions


def _ascii_digits(text: str) -> str:
    return text if text.isascii() else "".join(str(int(c)) if c.isdecimal() and not c.isascii() else c for c in text)


def _decimal_point(text: str) -> str:
    """1.234,5 as 1234.5 and 3,5 as 3.5, in a language that writes them so; 1,234 may be either and stays."""
    return _DECIMALS.sub(lambda match: f"{match[1].replace('.', '')}.{match[2]}", text)


def _leading_value(body: str, formulas: list[str]) -> tuple[_Value | None, str]:
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
    return _Value(_with_unit(run, body), 3, run, run.end), body[run.end :]


def _wordy(body: str) -> str | None:
    """An answer in a few words: "east", "no solution"."""
    text = body.strip().strip("*_`\"'“”‘’ .!").strip()
    plain = re.sub(r"\\text\w*\s?\{([^{}]*)\}", r"\1", text)
    if not text or len(text) > 80 or len(plain.split()) > 5 or _NO_ANSWER_WORDS.match(plain):
        return None
    if text.count("{") != text.count("}") or re.search(FORMULA, text):
        return None
    return text if any(map(str.isalnum, text)) else None


class _Mark(NamedTuple):
    """A place that calls something the answer; ``decisive`` unless a whole solution may follow it ("A: ...")."""

    start: int
    end: int
    decisive: bool
    before: bool = False
    foreign: bool = False


def _marks(text: str) -> list[_Mark]:
    found = []
    for match in _ANSWER.finditer(text):
        decisive = bool(match["is"]) and match["is"] not in ":：=" or bool(match["tag"]) or "final" in match.group().lower()
        if not _HYPOTHESIS.search(text, max(0, match.start() - 70), match.start()):
            found.append(_Mark(match.start(), match.end(), decisive))
    if not text.isascii() or _DECIMAL_COMMA.search(text):
        for match in _FOREIGN_ANSWER.finditer(text):
            comma = _DECIMAL_COMMA.match(text, match.start()) is not None
            found.append(_Mark(match.start(), match.end(), match["is"] not in ":：", foreign=comma))
    found += [_Mark(match.start(), match.start(), True, before=True) for match in _POSTPOSED.finditer(text)]
    return sorted(found)[-_MOST_MARKS:]


def _body(text: str, start: int) -> str:
    """The line after a mark, or the next one with anything on it where that line is empty or only announces."""
    line, _, rest = text[start : start + 1500].partition("\n")
    bare = line.strip(" \t*_:：#>\"'")
    if not bare or (line.rstrip().endswith((":", "：")) and not any(map(str.isdigit, line))):
        line = next((one for one in rest.split("\n") if one.strip(" \t*_:：#>\"'")), "")
    return line.split("</answer>")[0]


def _before(text: str, at: int) -> str:
    """The sentence that ends at a postposed mark, with the display before it."""
    piece = text[max(0, at - 400) : at].rstrip()
    return _sentences(piece)[-1].text if piece else ""


def _at_mark(flat: Flat, mark: _Mark) -> str | None:
    """The answer that a mark states, or None: a negation, an announcement, or a solution that only starts there."""
    if mark.before:
        value = _value(_before(flat.text, mark.start), flat.formulas)
        return value.text if value else None
    body = _body(flat.text, mark.end)
    body = _decimal_point(body) if mark.foreign else body
    sentences = _sentences(body)
    if not sentences:
        return None
    filler = _FILLER.match(sentences[0].text)
    first = sentences[0].text[filler.end() :] if filler else sentences[0].text
    if not first.strip() or _NEGATED.search(first[:12].split(" ")[0] + " ") or re.match(r"(?i)\s*(?:not|neither)\b", first):
        return None
    value, rest = _leading_value(first, flat.formulas)
    if value is not None:
        if re.fullmatch(r"\s*[-+*/^=×÷]\s*", rest) and not sentences[0].ended:
            return None  # cut off in the middle of a calculation
        compact = len(_CLAUSE.split(rest, maxsplit=1)[0].split()) <= 4
        return value.text if mark.decisive or compact or len(sentences) == 1 else None
    found = _value(first, flat.formulas, explained=True) if mark.decisive or len(sentences) == 1 else None
    if found is not None and (found.strength > 0 or mark.decisive):
        return found.text
    return _wordy(first) if len(sentences) == 1 or mark.decisive else None


_CUT_END = re.compile(
    r"(?i)(?:[-+*/^=<>×÷(\[{,\\&|]|\\[A-Za-z]+|\b(?:the|of|to|and|or|a|an|by|is|are|was|for|with|at|from|as|we|so|than|if|because|"
    r"which|let|our|his|their|its))\s?\Z"
)
_CLOSED_END = re.compile(r"[.!?:。！？)\]}\"'”`*_|>$%°]\Z|\n\s*\Z")


def _is_cut(flat: Flat) -> bool:
    """Whether a text plainly breaks off: inside a formula, after an operator or in the middle of a phrase."""
    end = flat.text.rstrip(" \t")
    return flat.open or _CUT_END.search(end, max(0, len(end) - 40)) is not None


def _is_dangling(value: _Value, sentence: _Sentence, flat: Flat) -> bool:
    """Whether a value is the last thing of a longer text that says nothing after it and does not say it is a result."""
    if sentence.ended or sentence.start == 0 or value.strength >= 2 or _CLOSED_END.search(flat.text):
        return False
    return not sentence.text[value.run.end :].strip() and bool(sentence.text[: value.run.start].strip(" \t*_>#-•"))


def _last_statement(flat: Flat) -> _Value | None:
    """The value of the last sentence that has one; an earlier "therefore" wins over sentences that calculate nothing."""
    last: _Value | None = None
    for sentence in reversed(_sentences(flat.text)[-_MOST_SENTENCES:]):
        text = sentence.text
        if text.lstrip().startswith("#") or flat.text[sentence.start + len(text) :][:1] == "?":
            continue
        value = _value(text, flat.formulas)
        if value is None:
            continue
        if last is None and _is_dangling(value, sentence, flat):
            return None
        strong = _STRONG.match(text) is not None
        if strong and value.strength > 0:
            return value
        if last is None and not (_CHECK.search(text) and sentence.start > 0):
            last = value
        if last is value and (_CALCULATES.search(text) or (value.strength >= 2 and not _ANAPHORA.match(text))):
            break
    return last


_CALCULATES = re.compile(r"=|\bequals\b")
_NUMBER_WORD = re.compile(r"(?i)\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b")
_WHOLE = re.compile(r"[^\n]{1,400}\Z")


def _whole_reply(text: str, flat: Flat) -> str | None:
    """A reply that is one expression and nothing else."""
    stripped = _LABEL.sub("", flat.text).strip().rstrip(".")
    runs = find_runs(stripped, flat.formulas)
    if len(runs) == 1 and not stripped[: runs[0].start].strip() and not stripped[runs[0].end :].strip():
        return runs[0].text
    bare = text.strip()
    return reduce(bare) if bare.startswith("\\") and _WHOLE.fullmatch(bare) and not re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", bare) else None


def conclude(text: str) -> tuple[str | None, int]:
    """(answer, how many different answers are stated) of a text without boxes."""
    flat = flatten(text[-_READ:])
    whole = _whole_reply(text, flat) if len(text) <= 400 and not flat.open else None
    if whole:
        return _ascii_digits(whole), 1
    stated = []
    for mark in _marks(flat.text):
        answer = _at_mark(flat, mark)
        if answer:
            stated.append(answer)
    if stated:
        return _ascii_digits(stated[-1]), len(set(stated))
    if _is_cut(flat):
        return None, 0
    value = _last_statement(flat)
    if value is not None:
        return _ascii_digits(value.text), 1
    words = _NUMBER_WORD.findall(flat.text[-300:])
    short = words[-1] if words else _wordy(text) if "\n" not in text.strip() else None
    return short, 1 if short else 0


def answer_of_line(line: str) -> str | None:
    """The answer in a line that is one, whatever the line adds: ``3 (three)``, ``**72**``, ``The answer is 5``."""
    flat = flatten(line)
    marks = _marks(flat.text)
    if marks:
        return next(filter(None, (_at_mark(flat, mark) for mark in reversed(marks))), None)
    filler = _FILLER.match(flat.text)
    body = flat.text[filler.end() :] if filler else flat.text
    value, _ = _leading_value(body, flat.formulas)
    return value.text if value else None
