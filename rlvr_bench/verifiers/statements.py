r"""What a text without a box states as its answer: "the answer is 14", "Final Answer: 14", "so she makes 18 dollars".

The order: the last place that calls something the answer; else the last sentence that concludes or states a value; else a
short reply as a whole. Only the last 4,000 characters are read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rlvr_bench.verifiers.expressions import reduce
from rlvr_bench.verifiers.runs import find_runs
from rlvr_bench.verifiers.sentences import CLAUSE, LABEL, NEGATED, Sentence, Value, leading_value, sentences, value_of
from rlvr_bench.verifiers.spans import FORMULA, Flat, flatten

__all__ = ["answer_of_line", "conclude"]

_READ = 4000
_MOST_MARKS = 40
_MOST_SENTENCES = 80

# ------------------------------------------------------------------------------------------------------------- marks

_IS = r"\b(?:is|are|was|were|would be|will be|should be|must be|has to be|equals?|comes (?:out )?to|turns out to be)\b"
_ANSWER = re.compile(
    rf"(?i)(?:\b(?:final|correct|right|numerical|overall)?\s*answers?\b[^\n.:：=?!\d]{{0,80}}?(?P<is>{_IS}|[:：=]|\s[-–—](?=\s))"
    r"|^[ \t]*(?:A|Ans|Sol)\s?(?P<colon>[:.：])"
    r"|^[ \t]*\#{0,6}[ \t]*(?:the )?(?:final |correct )?answers?[ \t]*(?P<heading>$)"
    r"|^[ \t]*(?P<hashes>\#{4})(?!\#)(?=[^\n\d]{0,4}\d)"
    r"|(?P<tag><answer>))",
    re.MULTILINE,
)
_COMMA_LANGUAGES = (
    r"\b(?:antwort|ergebnis|lösung|réponse|respuesta|resposta|risposta|ответ|відповідь|odpowied[źz]|odpověď|antwoord|"
    r"svar(?:et)?|cevap|yanıt)\b"
)
_FOREIGN_ANSWER = re.compile(
    rf"(?i)(?:{_COMMA_LANGUAGES}|\b(?:jawaban|απάντηση)\b|đáp án|câu trả lời|उत्तर|الجواب|الإجابة|إجابة|উত্তর|คำตอบ|תשובה|"
    r"پاسخ|정답|답|答案|答え|解答|回答|答)[^\n.。:：=\d?!–—-]{0,40}?"
    r"(?P<is>[:：=–—-]|\b(?:ist|lautet|sind|beträgt|est|sont|es|son|é|são|è|sono|равен|равна|равно|это|is|är|wynosi|je|adalah|là|"
    r"είναι|to)\b|应为|应该是|等于|是|为|為|は|이|은|는|है|হল|হলো|হচ্ছে|هو|هي|คือ|היא|הוא)"
)
_COMMA = re.compile(f"(?i){_COMMA_LANGUAGES}")
_POSTPOSED = re.compile(
    r"(?i)\b(?:is|as|are)\s+(?:the|our|my|your|its)\s+(?:final\s+|correct\s+|required\s+|desired\s+)?answers?\b"
    r"(?!\s*(?:is\b|:))"
)
_DECIMALS = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+|\d+),(\d{1,2}|\d{4,})(?![\d,])")
_HYPOTHESIS = re.compile(r"(?i)\b(?:if|whether|suppose|unless|assuming|what|wenn|ob|si)\b[^.\n]{0,60}\Z")
_FILLER = re.compile(
    r"(?i)\A(?:[\s:：*_~>\"“‘=]|[-–—•](?=\s)|(?:therefore|thus|hence|then|simply|just|clearly|equal to|approximately|about|"
    r"around|roughly|exactly|given by|found to be|indeed|also|only|now|always|be|is|are|option|nur|donc|por lo tanto|"
    r"最终|约|也是)\b[,:]?)+"
)
_ANNOUNCES = re.compile(
    r"(?i)^(?:not\b|correct|incorrect|right|wrong|valid|consistent|reasonable|clear|obvious|as follows|obtained|found|given|"
    r"shown|known|unknown|unclear|below|above|here|in\b|that\b|the (?:same|one|following|number|value|sum|answer)\b|we\b|i\b|"
    r"you\b|it\b|this\b|something|expected|required|needed|to\b|based|from|because|if\b|when\b|what|how|let|see\b|"
    r"an? (?:integer|number|positive|real)\b)"
)
_CONCLUDES = re.compile(
    r"(?i)\A\W*(?:therefore|thus|hence|consequently|in conclusion|to conclude|in summary|finally|altogether|in total|"
    r"so,? (?:the|our) (?:final |correct )?answer|we conclude|this means|final result|result|因此|所以|故|综上|总共|"
    r"also|daher|somit|folglich|donc|ainsi|par conséquent|por (?:lo )?tanto|así que|portanto|quindi|dunque|"
    r"следовательно|поэтому|итак|таким образом|よって|したがって|ゆえに|따라서|그러므로)(?=\W|[^\x00-\x7f]|\Z)"
)
_CHECKS = re.compile(
    r"(?i)\A\W*(?:let'?s |to |(?:we|you|one) (?:can |may |could |might )?(?:also )?|now,? )*(?:check|verif|"
    r"double.check|confirm|note\b|recall|remember|for example|alternative|have (?:also )?(?:recogni|used|done|paired))|✓|✔|✅"
)
_IN_PARENTHESES = re.compile(r"\s*\([^()]*(?:\([^()]*\)[^()]*)*\)?\s*")
_POINTS_BACK = re.compile(
    r"(?i)\A\W*(?:this|that|it|each|these|those|they)\s+(?:is|are|was|were|because|shows|satisf|match|agree|hold)"
)


def _ascii_digits(text: str) -> str:
    return text if text.isascii() else "".join(str(int(c)) if c.isdecimal() and not c.isascii() else c for c in text)


def _decimal_point(text: str) -> str:
    """1.234,5 as 1234.5 and 3,5 as 3.5, in a language that writes them so; 1,234 may be either and stays."""
    return _DECIMALS.sub(lambda match: f"{match[1].replace('.', '')}.{match[2]}", text)


def _wordy(body: str) -> str | None:
    """An answer in a few words: "east", "no solution"."""
    text = body.strip().strip("*_`\"'“”‘’ .!").strip()
    plain = re.sub(r"\\text\w*\s?\{([^{}]*)\}", r"\1", text)
    if not text or len(text) > 80 or len(plain.split()) > 5 or _ANNOUNCES.match(plain):
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
        decisive = (
            (bool(match["is"]) and match["is"] not in ":：=") or bool(match["tag"]) or "final" in match.group().lower()
        )
        if not _HYPOTHESIS.search(text, max(0, match.start() - 70), match.start()):
            found.append(_Mark(match.start(), match.end(), decisive))
    if not text.isascii() or _COMMA.search(text):
        for match in _FOREIGN_ANSWER.finditer(text):
            comma = _COMMA.match(text, match.start()) is not None
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
    return sentences(piece)[-1].text if piece else ""


def _at_mark(flat: Flat, mark: _Mark) -> str | None:
    """The answer that a mark states, or None: a negation, an announcement, or a solution that only starts there."""
    if mark.before:
        value = value_of(_before(flat.text, mark.start), flat.formulas)
        return value.text if value else None
    body = _body(flat.text, mark.end)
    body = _decimal_point(body) if mark.foreign else body
    said = sentences(body)
    if not said:
        return None
    filler = _FILLER.match(said[0].text)
    first = said[0].text[filler.end() :] if filler else said[0].text
    if (
        not first.strip()
        or NEGATED.search(first[:12].split(" ")[0] + " ")
        or re.match(r"(?i)\s*(?:not|neither)\b", first)
    ):
        return None
    value, rest = leading_value(first, flat.formulas)
    if value is not None:
        if re.fullmatch(r"\s*[-+*/^=×÷]\s*", rest) and not said[0].ended:
            return None  # cut off in the middle of a calculation
        compact = len(CLAUSE.split(rest, maxsplit=1)[0].split()) <= 4
        return value.text if mark.decisive or compact or len(said) == 1 else None
    found = value_of(first, flat.formulas, explained=True) if mark.decisive or len(said) == 1 else None
    if found is not None and (found.strength > 0 or mark.decisive):
        return found.text
    return _wordy(first) if len(said) == 1 or mark.decisive else None


_CUT_END = re.compile(
    r"(?:[-+*/^=<>×÷(\[{,\\&]|\\(?:times|cdot|div|pm|frac|sqrt|left|text|begin|le|ge|in|quad)|\b(?i:the|of|to|and|or|an|by|is|are|"
    r"was|for|with|at|from|as|we|so|than|if|because|which|let|our|his|their|its)|\ba)\s?\Z"
)
_OPENING = re.compile(r"(?i)\A\W*(?:so|then|therefore|thus|hence|finally|in total|altogether)\W*")
_PLAIN = re.compile(r"-?[\d.,]+(?:\\?%)?")
_CLOSED_END = re.compile(rf"(?:[.!?:。！？)\]}}\"'”`*_|>$%°]|{FORMULA})\Z|\n\s*\Z")


def _is_cut(flat: Flat) -> bool:
    """Whether a text plainly breaks off: inside a formula or a bracket, after an operator, in the middle of a phrase."""
    end = flat.text.rstrip(" \t")[-300:].rpartition("\n")[2]
    unclosed = sum(map(end.count, "([{")) > sum(map(end.count, ")]}"))
    return flat.open or (unclosed and not _CLOSED_END.search(end)) or _CUT_END.search(end[-40:]) is not None


def _is_dangling(value: Value, sentence: Sentence, flat: Flat) -> bool:
    """Whether a longer text ends at a number of which nothing says that it is a result, and that may go on."""
    if sentence.ended or sentence.start == 0 or value.strength >= 2 or _CLOSED_END.search(flat.text):
        return False
    if sentence.text[value.run.end :].strip() and not sentence.text.rstrip()[-1].isdigit():
        return False
    before = sentence.text[: value.run.start].strip(" \t*_>#-•,:")
    return not _PLAIN.fullmatch(value.text) or _OPENING.sub("", before) != ""


def _is_epilogue(sentence: str) -> bool:
    return _CHECKS.search(sentence) is not None or _IN_PARENTHESES.fullmatch(sentence) is not None


def _last_statement(flat: Flat) -> Value | None:
    """The value of the last sentence that has one; an earlier "therefore" wins over sentences that calculate nothing."""
    last: Value | None = None
    for sentence in reversed(sentences(flat.text)[-_MOST_SENTENCES:]):
        text = sentence.text
        if text.lstrip().startswith("#") or flat.text[sentence.start + len(text) :][:1] == "?":
            continue
        value = value_of(text, flat.formulas)
        if value is None:
            continue
        if last is None and _is_dangling(value, sentence, flat):
            return None
        strong = _CONCLUDES.match(text) is not None
        if strong and value.strength > 0:
            return value
        if last is None and not (sentence.start > 0 and _is_epilogue(text)):
            last = value
        if last is value and (_CALCULATES.search(text) or (value.strength >= 2 and not _POINTS_BACK.match(text))):
            break
    return last


_CALCULATES = re.compile(r"=|\bequals\b")
_NUMBER_WORD = re.compile(r"(?i)\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b")
_WHOLE = re.compile(r"[^\n]{1,400}\Z")


def _whole_reply(text: str, flat: Flat) -> str | None:
    """A reply that is one expression and nothing else."""
    stripped = LABEL.sub("", flat.text).strip().rstrip(".")
    runs = find_runs(stripped, flat.formulas)
    if len(runs) == 1 and not stripped[: runs[0].start].strip() and not stripped[runs[0].end :].strip():
        return runs[0].text
    bare = text.strip()
    return (
        reduce(bare)
        if bare.startswith("\\") and _WHOLE.fullmatch(bare) and not re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", bare)
        else None
    )


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
    value, _ = leading_value(body, flat.formulas)
    return value.text if value else None
