r"""Integers as people write them: ``073``, ``m+n=73``, ``73^\circ``, ``\frac{146}{2}``, ``73 \text{ units}``.

A small reader, never `eval`: tokens, then sums, products and powers as exact fractions. A text that it cannot read to the end
is no integer, nor is a text that names two values (``43=42``, ``73 \text{ or } 74``). Linear in the text; every intermediate
number is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["MAX_DIGITS", "read_integer"]

MAX_DIGITS = 1000  # no question asks for a longer integer, and int() is quadratic in the digits
_MAX_CHARS = 2 * MAX_DIGITS
_MAX_BITS = 3321  # below 10 ** MAX_DIGITS
_MAX_DEPTH = 20
_MAX_UNIT_WORDS = 5

_FRAME = r"\\(?:text(?:bf|rm|it|sf|up|normal)?|math(?:rm|bf|it|sf|normal)|mbox|boldsymbol|bm|boxed|fbox|operatorname)"
_SPACE = r"""\s|~|\\[,;:!>\ ]|\\?\$|[€£¥]
    |\\(?:q?quad|(?:display|text)style|[Ll]arge|LARGE|[Hh]uge|bf|rm|left|right|[Bb]igg?[lr]?)(?![A-Za-z])"""
_THOUSANDS = r"(?:,\\!|,|\\[,!;]|\{,\}|[\u2009\u202f\u00a0])"
_TOKEN = re.compile(
    rf"""(?P<number>(?:\d{{1,3}}(?:{_THOUSANDS}\d{{3}})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)
    |(?P<suffix>\^\s*(?:\\circ|\{{\s*\\circ\s*\}})|°|\\degrees?(?![A-Za-z])|\\?%|¢)
    |(?P<space>{_SPACE}|{_FRAME}(?=\s*\d))
    |(?P<power>\^|\*\*)
    |(?P<times>[*×·⋅]|\\(?:cdot|times|ast)(?![A-Za-z]))
    |(?P<over>/|÷|\\div(?![A-Za-z]))
    |(?P<sign>[-+−–])
    |(?P<fraction>\\[dtc]?frac(?![A-Za-z]))
    |(?P<open>(?:{_FRAME}\s*)?\{{|[(\[])
    |(?P<close>[)\]}}])
    |(?P<word>[A-Za-z]+)""",
    re.VERBOSE,
)
_DECORATION = re.compile(
    rf"(?:{_FRAME})\s*\{{([^{{}}]*)\}}|\\\((.*)\\\)|\\\[(.*)\\\]|\$+([^$]*)\$+|\*\*(.*)\*\*|`+([^`]*)`+", re.DOTALL
)
_LEAD_IN = re.compile(
    r"(?i)(?:\\text\s?\{\s*)?(?:(?:so|thus|therefore|hence),?\s)?(?:the\s|my\s|our\s)?(?:final\s|correct\s)?(?:answer|result)"
    r"(?:\sis)?\s?[:=]?\s?(?P<closed>\})?(?=[\s\\${(\d+-])"
)
_OTHER_RELATION = re.compile(
    r"[<>≤≥≠≈±∓]|[!:]=|\.\.|\\(?:n?eq?|[lg]eq?(?:slant)?|[lg]t|approx|sim|simeq|cong|equiv|pm|mp|not|in|to|lor|land|vee|wedge|ldots|dots)(?![A-Za-z])"
)
# Words that change the meaning of the number before them, so they are no unit of it.
_OTHER_WORDS = """\
or and not no non but if to than then more less fewer least most about approximately roughly around nearly almost
maybe perhaps either neither both between hundred hundreds thousand thousands million millions billion billions trillion dozen
dozens half halves third thirds fourth fourths fifth fifths tenth tenths quarter quarters hundredth hundredths squared cubed
factorial base mod modulo remainder plus minus negative below under over above point except unless when where for all any even
odd infinity infinite is was wrong incorrect"""
_NO_UNIT = frozenset(_OTHER_WORDS.split())
_UNIT_LETTERS = frozenset("mgsLlhJNWVAKCF")  # not e, i, d or a variable
_SHORT_UNITS = frozenset(["cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "lb", "hr", "mi"])
_ARITHMETIC = re.compile(rf"{_FRAME}|\\(?:[dtc]?frac|cdot|times|div|left|right|q?quad)(?![A-Za-z])")


class _UnreadableError(ValueError):
    """Not a number, or one that is too large."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    spaced: bool  # white space comes before it


def read_integer(text: str) -> int | None:
    r"""The integer that a text writes, in any notation, or None."""
    bare = _undecorated(text) if len(text) <= _MAX_CHARS else ""
    if not bare or _OTHER_RELATION.search(text):
        return None
    sides = _sides(bare)
    values = [_value(side) for side in sides]
    numbers = {value for value in values if value is not None}
    if len(numbers) != 1 or not _is_equation(sides, values):
        return None
    number = numbers.pop()
    return int(number) if number.denominator == 1 else None


def _undecorated(text: str) -> str:
    """The text without layout around all of it: dollar signs, bold face, a full stop at the end."""
    for _ in range(_MAX_DEPTH):
        bare = text.strip().removesuffix(".").strip()
        lead = _LEAD_IN.match(bare)
        if lead and bool(lead["closed"]) == lead.group().startswith("\\text"):
            bare = bare[lead.end() :].strip()
        frame = _DECORATION.fullmatch(bare)
        if frame:
            bare = next((content for content in frame.groups() if content is not None), "")
        if bare == text:
            break
        text = bare
    return text


def _sides(text: str) -> list[str]:
    """The text split at the equals signs outside brackets."""
    sides, depth, start = [], 0, 0
    for at, symbol in enumerate(text):
        depth += (symbol in "([{") - (symbol in ")]}")
        if symbol == "=" and depth == 0:
            sides.append(text[start:at])
            start = at + 1
    return [*sides, text[start:]]


def _is_equation(sides: list[str], values: list[Fraction | None]) -> bool:
    """Whether the sides without a value are names: before all values (``S = m+n = 73``), or one after them."""
    named = [value is None for value in values]
    if not all(_is_name(side, first=at == 0) for at, side in enumerate(sides) if named[at]):
        return False
    return named == sorted(named, reverse=True) or (sum(named) == 1 and named[-1])


def _is_name(side: str, first: bool) -> bool:
    if first and not side.strip():
        return True
    words = _ARITHMETIC.sub(" ", side)
    return (
        re.search(r"[A-Za-z]", words) is not None
        and (first or not re.match(r"[\s$]*[\d.]", words))  # "n=73 m=2" is two equations
        and not _has_list(side)
        and not _NO_UNIT.intersection(re.findall(r"[a-z]+", words.lower()))
    )


def _has_list(side: str) -> bool:
    depth = 0
    for symbol in side.replace("\\,", " ").replace("\\;", " "):
        depth += (symbol in "([{") - (symbol in ")]}")
        if symbol in ",;\n" and depth == 0:
            return True
    return "\\\\" in side


def _tokens(text: str) -> list[_Token]:
    tokens, at, spaced = [], 0, False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _UnreadableError
        at, kind = match.end(), str(match.lastgroup)
        if kind != "space":
            tokens.append(_Token(kind, match.group(), spaced))
        spaced = kind == "space"
    return tokens


def _value(side: str) -> Fraction | None:
    """The number that a side writes with its unit, or None."""
    try:
        reader = _Reader(_tokens(side))
        value = reader.measure()
    except (_UnreadableError, ZeroDivisionError):
        return None
    return value if reader.ended else None


class _Reader:
    """Recursive descent over tokens; every method raises _UnreadableError where its part of the grammar is not met."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0

    @property
    def ended(self) -> bool:
        return self._at == len(self._tokens)

    def measure(self) -> Fraction:
        """A sum and its unit, if it has one."""
        value = self._sum()
        self._unit()
        return value

    def _kind(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at].kind if at < len(self._tokens) else ""

    def _take(self, kind: str) -> _Token | None:
        if self._kind() != kind:
            return None
        self._at += 1
        return self._tokens[self._at - 1]

    def _sum(self) -> Fraction:
        total = self._product()
        while sign := self._take("sign"):
            total = _bounded(total + self._product() if sign.text == "+" else total - self._product())
        return total

    def _product(self) -> Fraction:
        product = self._factor()
        while True:
            if self._take("times") or self._is_bracketed_factor():
                product = _bounded(product * self._factor())
            elif self._take("over"):
                product = _bounded(product / self._factor())
            else:
                return product

    def _is_bracketed_factor(self) -> bool:
        """``2(3+4)`` is a product; ``2 (apples)`` is not, and nobody writes ``2{3}``."""
        return self._kind() == "open" and self._tokens[self._at].text in "([" and self._kind(1) != "word"

    def _factor(self) -> Fraction:
        if sign := self._take("sign"):
            with_sign = self._nested(self._factor)
            return with_sign if sign.text == "+" else -with_sign
        base = self._atom()
        if self._take("power"):
            base = _power(base, self._nested(self._factor))
        while self._take("suffix"):
            pass  # a degree or percent sign
        return base

    def _atom(self) -> Fraction:
        if number := self._take("number"):
            return _number(number.text)
        if self._take("fraction"):
            above, below = self._nested(self._argument), self._nested(self._argument)
            return _bounded(above / below)
        if self._take("open"):
            value = self._nested(self.measure)
            if self._take("close"):
                return value
        raise _UnreadableError

    def _argument(self) -> Fraction:
        r"""The argument of a fraction command: a group, or one digit (``\frac12``)."""
        if self._kind() != "number":
            return self._atom()
        token = self._tokens[self._at]
        self._tokens[self._at : self._at + 1] = [
            _Token("number", part, token.spaced) for part in (token.text[:1], token.text[1:]) if part
        ]
        self._at += 1
        return _number(token.text[:1])

    def _unit(self) -> None:
        """Skip a unit: words in a bracket or after white space, with their powers."""
        while self._kind() == "word" or (self._kind() == "open" and self._kind(1) == "word"):
            framed = self._take("open") is not None
            self._unit_words(framed)
            if framed and not self._take("close"):
                raise _UnreadableError
            while self._take("power"):
                self._factor()  # square metres are metres here

    def _unit_words(self, framed: bool) -> None:
        words, ratio = 0, False
        while word := self._take("word"):
            words += 1
            short = len(word.text) < 3 and word.text not in _SHORT_UNITS
            if framed or ratio:
                short = len(word.text) == 1 and word.text not in _UNIT_LETTERS
            if (
                short
                or word.text.lower() in _NO_UNIT
                or words > _MAX_UNIT_WORDS
                or not (framed or ratio or word.spaced)
            ):
                raise _UnreadableError
            ratio = self._take("over") is not None  # km/h

    def _nested(self, read: Callable[[], Fraction]) -> Fraction:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _UnreadableError
        value = read()
        self._depth -= 1
        return value


def _number(text: str) -> Fraction:
    whole, _, decimals = text.partition(".")
    digits = re.sub(r"\D", "", whole)
    if len(digits) + len(decimals) > MAX_DIGITS or not digits + decimals:
        raise _UnreadableError
    return Fraction(int(digits + decimals), 10 ** len(decimals))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or abs(exponent) * size > _MAX_BITS:
        raise _UnreadableError
    return base ** int(exponent)


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise _UnreadableError
    return value
