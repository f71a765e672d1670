r"""Plain numbers as exact fractions: what can be decided without a symbolic engine, and decided exactly.

A number is an integer, a decimal, ``a/b``, ``\frac{a}{b}``, a mixed number, ``m \times 10^{k}``, each with an optional sign and
percent sign. Everything else is None here and goes to math-verify.
"""

from __future__ import annotations

import re
from fractions import Fraction

import msgspec

__all__ = ["PlainNumber", "numbers_agree", "read_number"]

_MAX_CHARS = 1200
_MAX_EXPONENT = 4000
_UNSIGNED = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+\.?\d*|\.\d+)"
_SIGN = r"(?P<sign>[-+]*)\s*"
_PERCENT = r"\s*(?P<percent>\\%)?"
_DECIMAL = re.compile(rf"{_SIGN}\{{?(?P<number>{_UNSIGNED})\}}?{_PERCENT}")
_FRACTION = re.compile(
    rf"{_SIGN}(?P<whole>\d+)?\s*(?:\\frac\s*(?:\{{\s*(?P<top>-?{_UNSIGNED})\s*\}}|(?P<top1>\d))\s*"
    rf"(?:\{{\s*(?P<bottom>-?{_UNSIGNED})\s*\}}|(?P<bottom1>\d))){_PERCENT}"
)
_SLASH = re.compile(rf"{_SIGN}[({{]?(?P<top>-?{_UNSIGNED})[)}}]?\s*/\s*[({{]?(?P<bottom>-?{_UNSIGNED})[)}}]?{_PERCENT}")
_SCIENTIFIC = re.compile(
    rf"{_SIGN}(?P<number>{_UNSIGNED})?\s*(?P<times>\\times|\\cdot|\*|x|X)?\s*10\s*\^\s*"
    r"(?:\{\s*(?P<power>[-+]?\d{1,4})\s*\}|(?P<power1>\d))"
)
_PARENTHESES = re.compile(r"\(([^(),]*)\)")


class PlainNumber(msgspec.Struct, frozen=True):
    """A number as written: its value without the percent sign; a decimal point or a power of ten makes it a decimal."""

    value: Fraction
    is_decimal: bool
    is_percent: bool


def _fraction(text: str) -> Fraction:
    return Fraction(text.replace(",", "").rstrip("."))


def _signed(value: Fraction, sign: str) -> Fraction:
    return -value if sign.count("-") % 2 else value


def _read_decimal(text: str) -> PlainNumber | None:
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return None
    number = match["number"]
    return PlainNumber(_signed(_fraction(number), match["sign"]), "." in number.rstrip("."), bool(match["percent"]))


def _read_ratio(text: str) -> PlainNumber | None:
    match = _FRACTION.fullmatch(text)
    whole = Fraction(0)
    if match:
        top, bottom = match["top"] or match["top1"], match["bottom"] or match["bottom1"]
        whole = Fraction(match["whole"] or 0)
        if match["whole"] and (top.startswith("-") or bottom.startswith("-") or "." in top + bottom):
            return None
    else:
        match = _SLASH.fullmatch(text)
        if match is None:
            return None
        top, bottom = match["top"], match["bottom"]
    divisor = _fraction(bottom)
    if not divisor:
        return None
    value = whole + _fraction(top) / divisor
    return PlainNumber(_signed(value, match["sign"]), "." in top + bottom, bool(match["percent"]))


def _read_scientific(text: str) -> PlainNumber | None:
    match = _SCIENTIFIC.fullmatch(text)
    if match is None or bool(match["number"]) != bool(match["times"]):
        return None
    power = int(match["power"] or match["power1"])
    mantissa = _fraction(match["number"]) if match["number"] else Fraction(1)
    if abs(power) > _MAX_EXPONENT:
        return None
    return PlainNumber(_signed(mantissa * Fraction(10) ** power, match["sign"]), bool(match["number"]), False)


def read_number(text: str) -> PlainNumber | None:
    """The plain number a normalised answer writes, or None; exact, and bounded in time."""
    if not text or len(text) > _MAX_CHARS or not any(map(str.isdigit, text)):
        return None
    framed = _PARENTHESES.fullmatch(text)
    text = framed[1].strip() if framed else text
    return _read_decimal(text) or _read_ratio(text) or _read_scientific(text)


def _close(gold: PlainNumber, value: PlainNumber, shift: tuple[int, int] = (0, 0)) -> bool:
    """Equality as math-verify means it: exact, or to 6 decimals where one was written as a decimal and neither as an integer.

    Rounding to 6 decimals makes every two numbers below 5e-7 equal, so small ones must also agree to 6 digits. ``shift``
    divides each side by that power of ten first.
    """
    ours, theirs = gold.value / 10 ** shift[0], value.value / 10 ** shift[1]
    if ours == theirs:
        return True
    is_whole = any(not side.is_decimal and side.value.denominator == 1 for side in (gold, value)) and shift == (0, 0)
    if is_whole or not (gold.is_decimal or value.is_decimal) or abs(ours - theirs) > Fraction(1, 10**6):
        return False
    largest = max(abs(ours), abs(theirs))
    if largest < Fraction(1, 1000):
        return bool(abs(ours - theirs) <= largest / 10**6)
    return bool(round(ours, 6) == round(theirs, 6))


def numbers_agree(gold: PlainNumber, value: PlainNumber, percent: str = "either") -> bool:
    """Whether two plain numbers are the same answer.

    ``percent`` says what a percent sign on one side only means: ``either`` (25% is 25 and 0.25, math-verify's rule),
    ``value`` (25% is 0.25 only), ``sign`` (25% is 25 only).
    """
    if gold.is_percent == value.is_percent:
        return _close(gold, value)
    if percent != "sign" and _close(gold, value, (2 * gold.is_percent, 2 * value.is_percent)):
        return True
    # A bare 0.5 and 0.5% are a hundredfold apart and both plausible; a bare 12.5 can only mean 12.5%.
    return percent != "value" and (gold.is_percent or abs(gold.value) >= 1) and _close(gold, value)
