r"""Separates the mathematics of a text from its prose, and decides what a dollar sign means.

In the result of `flatten` every formula is one private character; markdown's emphasis, program code and calculator notes are
removed. There a full stop ends a sentence, a star multiplies, and a dollar sign is money. One pass from left to right; each
delimiter is read once.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["FORMULA", "Flat", "flatten"]

FORMULA = "[\ue000-\uefff]"
_FIRST = 0xE000
_PRIVATE = re.compile("[\ue000-\uf8ff]")
_DISPLAYS = r"(?:align|equation|gather|multline|eqnarray|displaymath|math|alignat|flalign)\*?"
_OPENER = re.compile(rf"\\\\|\\\[|\\\(|\\begin\{{({_DISPLAYS})\}}|\$\$|\\\$|\$")
_MONEY = re.compile(r"\s?[-+]?\s?\.?\d")
_AMOUNT = re.compile(r"\s?\.?\d")
# An unclosed formula at which the text breaks off: "$3x + 5 = 2", "$x + 1 =".
_CUT_FORMULA = re.compile(r"\d+[A-Za-z\\^_][^\n$]{0,200}[\w\\+*/^=}-]\Z")
_CUT_EQUATION = re.compile(r"[^\n$]{0,200}[=+*/^<>-][^\n$.!]{0,200}\Z")
_COMMAND = re.compile(r"\\(?:text\w*|mathrm|mbox|operatorname)\s?\{[^{}]{0,80}\}|\\[A-Za-z]+")
_WORD = re.compile(r"(?<![A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
_FUNCTION = re.compile(
    r"(?i)sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|mod|gcd|lcm|max|min|det|dim|deg|arc(?:sin|cos|tan)|sinh|cosh|tanh|lim|cis|arg|"
    r"cm|mm|km|kg|mg|ml|ft|lbs?|oz|hr|mph|kph"
)
_STOPWORD = re.compile(
    r"(?i)an?|and|are|as|at|be|but|by|can|each|every|for|from|ha[dsv]e?|her?|his|if|into?|is|its?|more|of|on|or|out|per|she|so|"
    r"than|that|the|their|then|they|this|to|total|was|we|which|who|will|with|you"
)


class Flat(NamedTuple):
    """A text with its formulas as single characters, the formulas in order, and whether the text breaks off inside one."""

    text: str
    formulas: list[str]
    open: bool


def _is_prose(content: str, digit_first: bool) -> bool:
    """Whether the text between two dollar signs is part of a sentence: ``$7 and got $3``."""
    words = [word for word in _WORD.findall(_COMMAND.sub(" ", content)) if not _FUNCTION.fullmatch(word)]
    if digit_first:
        return bool(words) and not set(words) <= {"and", "or"} and " " in content
    return any(map(_STOPWORD.fullmatch, words)) and len(words) > 1


def _is_formula(text: str, start: int, stop: int) -> bool:
    """Whether the dollar signs at ``start`` and ``stop`` enclose mathematics, and not text between two amounts of money."""
    content = text[start + 1 : stop]
    if not content.strip() or "\n\n" in content or "**" in content:
        return False
    digit_first = _AMOUNT.match(content) is not None
    if content.rstrip()[-1] in "+-*/(×=<>" and _AMOUNT.match(text, stop + 1):
        return False  # "x + $25 = $100" with money within
    if digit_first and (
        "\n" in content
        or text[stop + 1 : stop + 2].isdigit()
        or (content[-1].isspace() and not content[0].isspace())
        or (content.rstrip()[-1] in "+-*/(×" and text[stop + 1 : stop + 2] != "")
    ):
        return False
    if not digit_first and content[0].isspace() != content[-1].isspace() and not text[stop + 1 : stop + 2].strip():
        return not _WORD.search(_COMMAND.sub(" ", content))
    return not _is_prose(content, digit_first)


class _Reader:
    """Reads a text in one pass; copies prose and replaces formulas."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts: list[str] = []
        self.formulas: list[str] = []
        self.open = False

    def put(self, content: str, display: bool) -> None:
        self.formulas.append(content.strip())
        mark = chr(_FIRST + len(self.formulas) - 1)
        ended = f"{mark}." if content.rstrip()[-1:] in (".", "!", "?") else mark
        self.parts.append(f" {ended} " if display else ended)

    def enclosed(self, start: int, closer: str, display: bool) -> int:
        """Take a formula up to ``closer``; returns the index after it. Without ``closer`` the text was cut off there."""
        stop = self.text.find(closer, start)
        if stop < 0:
            self.open = True
            return len(self.text)
        self.put(self.text[start:stop], display)
        after = stop + len(closer)
        return after + 1 if display and self.text[after : after + 1] == "\n" else after

    def dollar(self, at: int) -> int:
        stop = self.text.find("$", at + 1)
        while stop > 0 and self.text[stop - 1] == "\\":
            stop = self.text.find("$", stop + 1)
        if stop > 0 and _is_formula(self.text, at, stop):
            self.put(self.text[at + 1 : stop], display=False)
            return stop + 1
        money = _MONEY.match(self.text, at + 1) is not None
        if stop < 0 and (_CUT_FORMULA if money else _CUT_EQUATION).match(self.text, at + 1):
            self.open = True
        self.parts.append("$" if money else "")
        return at + 1

    def is_money(self, at: int) -> bool:
        """Whether two dollar signs before ``at`` are a typing error before an amount."""
        return self.text.find("$$", at) < 0 and _MONEY.match(self.text, at) is not None

    def read(self) -> Flat:
        position = 0
        while opener := _OPENER.search(self.text, position):
            self.parts.append(self.text[position : opener.start()])
            symbol = opener.group()
            if symbol == "$$" and self.is_money(opener.end()):
                position = opener.start() + 1
            elif symbol == "\\[" or symbol == "\\(" or symbol == "$$":
                closer = {"\\[": "\\]", "\\(": "\\)", "$$": "$$"}[symbol]
                self.end_line(symbol != "\\(")
                position = self.enclosed(opener.end(), closer, display=symbol != "\\(")
            elif opener[1]:
                position = self.enclosed(opener.end(), f"\\end{{{opener[1]}}}", display=True)
            elif symbol == "$":
                position = self.dollar(opener.start())
            else:
                self.parts.append("$" if symbol == "\\$" else symbol)
                position = opener.end()
            if len(self.formulas) >= 4000:
                break
        self.parts.append(self.text[position:])
        return Flat("".join(self.parts), self.formulas, self.open)

    def end_line(self, display: bool) -> None:
        """Join a display to the sentence before it, unless that sentence has ended or is a heading."""
        if (
            display
            and self.parts
            and not _HEADING.search(self.parts[-1])
            and self.parts[-1].rstrip()[-1:] not in (".", "!", "?", "")
        ):
            self.parts[-1] = self.parts[-1].rstrip() + " "


_CALCULATOR = re.compile(r"<<[^<>\n]{0,120}>>")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([A-Za-z0-9_+-]*)[^\n]*\n?", re.MULTILINE)
_PLAIN_FENCES = (
    "",
    "output",
    "stdout",
    "console",
    "result",
    "text",
    "txt",
    "math",
    "latex",
    "tex",
    "markdown",
    "md",
    "plaintext",
    "answer",
)
# "[ x = 5 ]" alone on its line: a display whose backslashes were lost.
_BARE_DISPLAY = re.compile(r"^[ \t]*\[[ \t](?=[^\n]*[\\=])([^\n]{1,600})[ \t]\][ \t]*$", re.MULTILINE)
_STARS = re.compile(r"(?<![\w)])\*\*|\*\*(?![\w(])|(?<!\w)__|__(?!\w)")
_STAR = re.compile(r"(?<![\w*)])\*(?=[^\s*])([^*\n]{1,200})(?<=\S)\*(?![\w*(])")
_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)|<img[^<>]{0,200}>|!\[[^\[\]]{0,200}\]\([^()]{0,300}\)", re.DOTALL)
_DRAWN = re.compile(r"\[asy\]|<img|!\[")
_SPACES, _LINES = re.compile(r"[^\S\n]{3,}"), re.compile(r"\n{3,}")
_BREAK = re.compile(r"<br\s?/?>|</?(?:p|div|li|ul|ol|h[1-6])>|\\newline(?![A-Za-z])")
_TAGS = re.compile(r"</?(?:b|i|u|em|strong|span|center|code|mark|big|small|font)>")
_EMPTY_BOX = re.compile(r"\$?\\boxed\s?\{\s*\}\$?")
_HEADING = re.compile(r"(?:^|\n)[ \t]*(?:\#{1,6}[^\n]{0,80}|\*\*[^*\n]{1,80}\*\*)\s*\Z")


def _without_code(text: str) -> str:
    """The text without fenced blocks of a programming language; other blocks lose only their fences."""
    if "```" not in text and "~~~" not in text:
        return text
    kept, position, inside, drop = [], 0, False, False
    for fence in _FENCE.finditer(text):
        if not drop:
            kept.append(text[position : fence.start()])
        position = fence.end()
        inside = not inside
        drop = inside and fence[1].lower() not in _PLAIN_FENCES
    kept.append("" if drop else text[position:])
    return "\n".join(kept)


def _tidied(text: str) -> str:
    """The text without notes, code, drawings and layout. A pattern runs only where its first sign occurs: that is faster."""
    text = text if text.isascii() else _PRIVATE.sub(" ", text)
    if "<" in text:
        text = _TAGS.sub("", _CALCULATOR.sub("", text))
    text = _without_code(_DRAWING.sub("", text) if _DRAWN.search(text) else text)
    if "<" in text or "\\newline" in text:
        text = _BREAK.sub("\n", text)
    text = _EMPTY_BOX.sub("", text) if "\\boxed" in text else text
    text = _LINES.sub("\n\n", text) if "\n\n\n" in text else text
    text = _SPACES.sub("  ", text) if "   " in text or "\t" in text else text
    return _BARE_DISPLAY.sub(r"\\[\1\\]", text) if "[ " in text or "[\t" in text else text


def flatten(text: str) -> Flat:
    """The text with each formula as one character of `FORMULA`; the first character is formula 0, and so on."""
    flat = _Reader(_tidied(text)).read()
    plain = flat.text
    if "*" in plain or "__" in plain:
        plain = _STAR.sub(r"\1", _STARS.sub("", plain))
    return Flat(plain.replace("`", "").replace("...", "…"), flat.formulas, flat.open)
