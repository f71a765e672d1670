r"""The expressions in a sentence, between its words: ``14``, ``x^2 + 1``, ``(2, 5]``, ``\frac{1}{2}``, ``$9,500``.

A sentence is a piece of `spans.flatten`: each formula is one character. An expression is a run of numbers, operators,
brackets, LaTeX commands and formulas without a word between them. Runs with only commas, "and" or "or" between them are a list.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rlvr_bench.verifiers.extraction.formulas import is_value, reduce, solved_name
from rlvr_bench.verifiers.extraction.spans import FORMULA
from rlvr_bench.verifiers.mathematics.rational import read_number

__all__ = ["Run", "find_runs", "is_same_number"]

_NUMBER = r"(?:\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s?[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])?|\.\d+"
_TOKEN = re.compile(
    r"(?P<prose>(?:(?!(?:sin|cos|tan|log|ln|sqrt|pi)\s)[A-Za-zÀ-ÿ]{2,}(?:['’][a-z]+)?,?\s+)+)"  # words, several at once
    rf"|(?P<space>\s+)|(?P<formula>{FORMULA})|(?P<label>\d+(?:st|nd|rd|th)\b|\d+-[A-Za-z]{{2,}}|(?:[A-Za-z]{{2,}}-?|"
    rf"[A-Z])\d+(?![\d.]*\s?[/^*=]))"
    rf"|(?P<number>(?:[$€£¥₹]\s?)?(?:\d+(?::\d+)+|{_NUMBER})(?:\s?\\?%)?)"
    r"|(?P<command>\\(?:begin|end)\{[a-z]*\*?\}(?:\{[lcr|]*\})?|\\text\w*\s?\{[^{}]*\}|\\[A-Za-z]+|√|∞|π|∅|°)"
    r"|(?P<word>(?:sin|cos|tan|log|ln|sqrt|pi)(?=\s?[(\d{])|[A-Za-zÀ-ÿ]{2,}(?:['’][a-z]+)?)|(?P<letter>[A-Za-z])"
    r"|(?P<operator>\\\\|\\[,;:! ]|<=|>=|!=|\.\.\.|[-+*/^=<>≤≥≠≈±×÷·−–&|!_∪∩²³…~])"
    r"|(?P<opens>\\\{|[(\[{])|(?P<closes>\\\}|[)\]}])|(?P<other>.)",
    re.DOTALL,
)
_FUNCTIONS = frozenset(("sin", "cos", "tan", "log", "ln", "sqrt", "pi"))
_FINAL_KINDS = ("number", "formula", "closes", "letter", "command")
_AROUND_LETTER = re.compile(r"\s?\\(?:in|leq?|geq?|neq?|cdot|times)(?![a-z])|\s?[=^_+*/<>≤≥|∪]|\s-\s|\(|\d")
_DANGLING = re.compile(r"(?:\s|[-+*/^=<>≤≥≈×÷·−–&_…(\[~]|\\[,;: ])+\Z")
_LEADING = re.compile(r"\A(?:[\s*/^<>≤≥≠≈×÷·–&_~!²³…]|\\[,;:! ]|\\\\|\.\.\.|(?:[-+−]\s)(?=[-+−]\s)|[)\]}])+")
_GLUE = re.compile(r"\s*(?:,|;|,?\s*(?:and|or|und|oder|et|ou|y|o|e|и|или|和|或|及|、)\b|、|和|或)\s*")
_MONEY = re.compile(r"[$€£¥₹]\s?(?=[-+]?\s?\.?\d)")
_RELATION = re.compile(r"[=<>≤≥∈]|\\(?:leq?|geq?|neq?|in|approx|equiv)(?![A-Za-z])")
_OR, _PERCENT = re.compile(r"\b(?:or|oder|ou|o|или)\b|或"), re.compile(r"\\?%")
_INEQUALITY = re.compile(r"[<>≤≥]|\\[lg]eq?(?![a-z])")
_TIMES = re.compile(r"(?<=\d)\s?[xX]\s?(?=\.?\d)(?=.*=)")
_DOTS = re.compile(r"\s*,?\s*(?:\.\.\.|…|\\[lc]?dots)")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\Z")
_FACTOR = re.compile(r"\s?[$€£]?\.?\d")
_GROUP = re.compile(r"\d{3}(?![\d.])")
_DASH = re.compile(r"[–−](?=\d)")  # a minus sign if nothing is before it
_MINUS = re.compile(r"(?i)(?<!\d\s)\b(?:minus|negative)\s\Z")
_SUM = re.compile(r"[\d., ]+(?:[-+*×÷·][\d., ]+)+")
_NUMBER_ALONE = re.compile(r"[\d,]+(?:\.\d+)?")
_DIGITS = re.compile(r"\d+(?:[.,]\d+)*%?")
_FORMULA = re.compile(FORMULA)
_RATIO = re.compile(r"(?i)\b(?:ratio|odds)\b")
_MONTH = re.compile(
    r"\b(January|February|March|April|May|June|July|August|September|October|November|December|(?:Jan|Feb|Mar|Apr|Jun|"
    r"Jul|Aug|Sept?|"
    r"Oct|Nov|Dec)\.?)\s\Z"
)
_PROPER = re.compile(r"(\d+)/(\d+)")
_WHOLE = re.compile(r"\d+")
_AND = re.compile(r"\s+and\s+")
_LARGE_UNIT = re.compile(
    r"\s(hours?|hrs?|minutes?|mins?|feet|foot|ft|pounds?|lbs?|years?|weeks?|days?|months?|meters?|metres?|kilometers?|"
    r"dollars?|degrees?)"
    r",?\s(?:and\s)?"
)
_SMALL_UNIT = re.compile(
    r"\s(?:minutes?|mins?|seconds?|secs?|inch(?:es)?|ounces?|oz|months?|weeks?|days?|hours?|centimeters?|cm|millimeters?|"
    r"meters?|cents)\b"
)
_RANK = re.compile(r"(?<![\w-])(\d+(?:st|nd|rd|th))(?:\splace)?\W*\Z")
_VERB = re.compile(r"\s(?:is|are|was|were|has|have|does|divides|equals)\b")
_FRACTION = re.compile(r"\d+/\d+")


class Run(NamedTuple):
    """An expression and its start and end in the sentence; ``says_more``: it is more than a name."""

    start: int
    end: int
    text: str
    is_equation: bool
    relates: bool
    solves: tuple[str, bool]
    says_more: bool
    is_aside: bool
    is_money: bool


class _Scanner:
    """Collects the runs of a sentence, one token at a time."""

    def __init__(self, sentence: str, formulas: list[str]) -> None:
        self.sentence = sentence
        self.formulas = formulas
        self.runs: list[Run] = []
        self.start = -1
        self.stack: list[tuple[str, int]] = []
        self.last = ""
        self.gap = False

    def in_braces(self) -> bool:
        return bool(self.stack) and any(symbol != "(" for symbol, _ in self.stack)

    def flush(self, end: int) -> None:
        if self.start >= 0:
            if self.stack and self.stack[0][0] not in ("{", "\\begin") and self.stack[0][1] > self.start:
                end = self.stack[0][1]
            if not self.stack or self.stack[0][0] not in ("{", "\\begin"):
                self.keep(self.start, end)
        self.start, self.stack, self.last = -1, [], ""

    def keep(self, start: int, end: int) -> None:
        raw = self.sentence[start:end]
        dash = _DASH.match(raw) is not None and not self.sentence[:start].rstrip("$ ")[-1:].isdigit()
        lead = None if dash else _LEADING.match(raw)
        start += lead.end() if lead else 0
        raw = self.sentence[start:end]
        ending = _DANGLING.search(raw)
        raw = raw[: ending.start()] if ending else raw
        if not raw:
            return
        length = len(raw)
        if _DIGITS.fullmatch(raw) and not _MINUS.search(self.sentence, max(0, start - 12), start):
            month = _MONTH.search(self.sentence, max(0, start - 11), start)
            date = _plain_run(month.start(), f"{month[1]} {raw}") if month else None
            self.runs.append(date or _plain_run(start, raw))
            return
        raw = f"-{raw[1:]}" if dash else raw
        raw = f"-{raw}" if raw[0].isdigit() and _MINUS.search(self.sentence, max(0, start - 12), start) else raw
        if raw[0] == "{" and raw[-1] == "}" and "," in raw:
            raw = f"\\{{{raw[1:-1]}\\}}"  # braces outside of mathematics are printed: a set
        raw = raw.strip("| ") if raw.startswith("| ") else raw  # a cell of a table
        expanded = _FORMULA.sub(lambda mark: self.formula(mark.group()), _MONEY.sub("", raw))
        text = _ORDINAL.sub("", reduce(_TIMES.sub(" × ", expanded)))
        if text.strip("().[]"):
            aside = raw.startswith("(") and bool(self.runs) and "," not in raw
            equation = "=" in expanded or "≈" in expanded or "\\approx" in expanded
            says_more = is_value(text) or text in ("\\pi", "π", "√", "∞", "\\infty", "∅", "\\emptyset", "\\varnothing")
            self.runs.append(
                Run(
                    start=start,
                    end=start + length,
                    text=text,
                    is_equation=equation,
                    relates=_RELATION.search(text) is not None or equation,
                    solves=solved_name(expanded) if _RELATION.search(expanded) else ("", False),
                    says_more=says_more,
                    is_aside=aside,
                    is_money=_MONEY.match(raw) is not None,
                )
            )

    def formula(self, mark: str) -> str:
        index = ord(mark) - 0xE000
        return self.formulas[index] if index < len(self.formulas) else ""

    def starts_anew(self, kind: str, at: int) -> bool:
        """Whether a number or formula after a finished value begins another value: ``7 8``, but not ``3 1/2``."""
        if self.last not in _FINAL_KINDS or self.in_braces():
            return False
        if kind == "formula" or self.last == "formula":
            return True
        if not self.gap or self.last == "command":
            return False
        return not (_FRACTION.match(self.sentence, at) or _GROUP.match(self.sentence, at))

    def letter(self, token: re.Match[str]) -> bool:
        """Whether a single letter is a symbol: next to an operator or a number, and not an article."""
        if self.in_braces() or (self.stack and self.last in ("opens", "operator")):
            return True
        if self.start >= 0 and self.last == "operator" and self.sentence[token.start() - 1] != ",":
            return not re.match(r"\s[A-Za-z]{2,}", self.sentence[token.end() : token.end() + 3]) or not self.gap
        attached = self.start >= 0 and self.last in _FINAL_KINDS and not self.gap
        return attached or _AROUND_LETTER.match(self.sentence, token.end()) is not None

    def after_equals(self, token: re.Match[str]) -> bool:
        """Whether an ordinal is a result: ``1 + 5 = 6th``."""
        return self.start >= 0 and self.sentence[: token.start()].rstrip().endswith("=")

    def multiplies(self, token: re.Match[str]) -> bool:
        """Whether an x is a multiplication sign: ``6 x 9``."""
        return token.group() in "xX" and self.last == "number" and _FACTOR.match(self.sentence, token.end()) is not None

    def open(self, token: re.Match[str]) -> None:
        if self.start >= 0 and token.group() != "{" and self.gap and self.last in ("number", "formula", "closes"):
            self.flush(token.start())
        self.begin(token)
        self.stack.append(("{" if token.group() == "{" else "(", token.start()))

    def begin(self, token: re.Match[str]) -> None:
        if self.start < 0:
            self.start = token.start()

    def take(self, token: re.Match[str]) -> None:
        kind, symbol = token.lastgroup or "", token.group()
        if kind == "space":
            self.gap = True
            return
        if kind == "prose":
            self.prose(token.start())
            return
        if self.in_braces() and kind in ("word", "label", "other", "letter"):
            self.last = "letter"
        elif kind in ("number", "formula") or (kind == "label" and self.after_equals(token)):
            kind = "number" if kind == "label" else kind
            if self.starts_anew(kind, token.start()):
                self.flush(token.start())
            self.begin(token)
            self.last = kind
        elif kind == "command" or (kind == "word" and symbol in _FUNCTIONS):
            self.command(token, symbol)
        elif kind == "letter" and (self.letter(token) or self.multiplies(token)):
            self.begin(token)
            self.last = "operator" if self.multiplies(token) else kind
        elif kind == "operator":
            self.begin(token)
            self.last = kind
        elif kind == "opens":
            self.open(token)
            self.last = kind
        elif kind == "closes" and self.stack:
            self.stack.pop()
            self.last = kind
        elif symbol in ",;" and self.stack:
            self.last = "operator"
        else:
            self.flush(token.start())
        self.gap = False

    def prose(self, at: int) -> None:
        if self.in_braces():
            self.last = "letter"
        else:
            self.flush(at)
        self.gap = True

    def command(self, token: re.Match[str], symbol: str) -> None:
        new = self.starts_anew("formula" if self.last == "formula" else "command", token.start())
        if new and (symbol.startswith("\\begin") or self.last == "formula"):
            self.flush(token.start())
        self.begin(token)
        if symbol.startswith("\\begin"):
            self.stack.append(("\\begin", token.start()))
        elif symbol.startswith("\\end") and self.stack:
            self.stack.pop()
        self.last = "operator" if symbol.startswith("\\text") else "command"


def _is_list(sentence: str, first: Run, second: Run) -> bool:
    """Whether two runs are items of one list: values, or equations that each give a name its number."""
    glue = sentence[first.end : second.start]
    if len(glue) > 12 or first.is_aside or second.is_aside or not _GLUE.fullmatch(glue):
        return False
    if ";" in glue and _VERB.match(sentence, second.end):
        return False  # another sentence begins: "0; 2004 is divisible by 12"
    if not (first.relates or second.relates):
        return first.says_more == second.says_more
    (name, is_number), (other, other_is_number) = first.solves, second.solves
    if second.relates:
        return (is_number and other_is_number) or (bool(name) and name == other)
    return is_number and "," not in glue and not glue.isspace()


def is_same_number(first: str, second: str) -> bool:
    r"""Whether two texts write one fraction in two ways: ``\frac{3}{4}`` or 0.75, 2/3 or 0.667, 1/4 or 25%."""
    ours, theirs = (read_number(_PERCENT.sub(r"\\%", text).replace("\\dfrac", "\\frac")) for text in (first, second))
    if ours is None or theirs is None:
        return False
    values = [number.value / 100 if number.is_percent else number.value for number in (ours, theirs)]
    rounded = (ours.places is None) != (theirs.places is None) and all(value.denominator > 1 for value in values)
    return values[0] == values[1] or (rounded and abs(values[0] - values[1]) * 200 <= abs(values[0]))


def _joined(sentence: str, first: Run, second: Run) -> Run:
    either = _OR.search(sentence[first.end : second.start]) is not None
    if either and _NUMBER_ALONE.fullmatch(second.text) and _SUM.fullmatch(first.text):
        return first._replace(end=second.end, text=second.text)  # 30 + 12, or 42
    if either and is_same_number(first.text, second.text):
        return first._replace(end=second.end)  # the same value in another form
    parts = _PROPER.fullmatch(second.text)
    if (
        parts
        and int(parts[1]) < int(parts[2])
        and _WHOLE.fullmatch(first.text)
        and _AND.fullmatch(sentence, first.end, second.start)
    ):
        return first._replace(end=second.end, text=f"{first.text} {second.text}")  # 2 and 1/2
    glue = " or " if either and _INEQUALITY.search(second.text) else ", "
    return first._replace(
        end=second.end,
        text=f"{first.text}{glue}{second.text}",
        is_equation=first.is_equation or second.is_equation,
        says_more=first.says_more or second.says_more,
    )


def _open_list(sentence: str, run: Run) -> Run:
    """A list with an ellipsis where it goes on."""
    goes_on = "," in run.text and _DOTS.match(sentence, run.end)
    return run._replace(text=f"{run.text}, \\ldots") if goes_on else run


def _is_ratio(sentence: str, first: Run, second: Run) -> bool:
    """Whether two runs are the two sides of a ratio: "the ratio is 3 to 2"."""
    return sentence[first.end : second.start] == " to " and _RATIO.search(sentence, 0, first.start) is not None


def _is_measure(sentence: str, first: Run, second: Run) -> bool:
    """Whether two runs are one quantity in two units: "3 hours 20 minutes"."""
    if not (_WHOLE.fullmatch(first.text) and _WHOLE.match(second.text)) or second.relates:
        return False
    return _LARGE_UNIT.fullmatch(sentence, first.end, second.start) is not None and (
        _SMALL_UNIT.match(sentence, second.end) is not None
    )


def _plain_run(start: int, text: str) -> Run:
    return Run(
        start, start + len(text), text, False, False, ("", False), says_more=True, is_aside=False, is_money=False
    )


def _ordinal(sentence: str) -> list[Run]:
    """The rank at the end of a sentence without other numbers: "He finished 1st"."""
    rank = _RANK.search(sentence)
    return [] if rank is None else [_plain_run(rank.start(1), rank[1])]


def find_runs(sentence: str, formulas: list[str]) -> list[Run]:
    """The expressions of a sentence in order; the items of a list are joined."""
    scanner = _Scanner(sentence, formulas)
    for token in _TOKEN.finditer(sentence):
        scanner.take(token)
    scanner.flush(len(sentence))
    joined: list[Run] = []
    for run in scanner.runs:
        if joined and _is_ratio(sentence, joined[-1], run):
            joined[-1] = joined[-1]._replace(end=run.end, text=f"{joined[-1].text}:{run.text}")
        elif joined and _is_measure(sentence, joined[-1], run):
            unit = _LARGE_UNIT.match(sentence, joined[-1].end)
            text = f"{joined[-1].text} \\text{{ {unit[1] if unit else ''} }} {run.text}"
            joined[-1] = joined[-1]._replace(end=run.end, text=text)
        elif joined and _is_list(sentence, joined[-1], run):
            joined[-1] = _joined(sentence, joined[-1], run)
        else:
            joined.append(run)
    return [_open_list(sentence, run) for run in joined] or _ordinal(sentence)
