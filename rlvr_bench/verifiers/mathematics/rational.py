r"""Plain numbers as exact fractions: decided exactly, without a symbolic engine.

A number is an integer, a decimal, ``a/b``, ``\frac{a}{b}``, a mixed number or ``m \times 10^{k}``, with an optional sign and
percent sign. For anything else the result is None, and another rule decides.
"""

from __future__ import annotations

import re
from fractions import Fraction

import msgspec

__all__ = ["PlainNumber", "Tolerance", "numbers_agree", "read_number", "rounded"]

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
_E_NOTATION = re.compile(rf"{_SIGN}(?P<number>\d+\.?\d*|\.\d+)\s?(?:\\?e|E)(?P<plus>\+)?(?P<power>-?\d{{1,4}})")
_PARENTHESES = re.compile(r"\(([^(),]*)\)")


class Tolerance(msgspec.Struct, frozen=True):
    """When a decimal equals an exact number.

    It needs at least ``places`` decimals and must be the exact value, rounded or cut to its number of decimals. Or it may
    differ from the gold by at most ``relative`` times the gold, where a task allows that.
    """

    places: int = 6
    relative: float = 0.0


_SIX_DECIMALS = Tolerance()


class PlainNumber(msgspec.Struct, frozen=True):
    """A number as written: its value without the percent sign, and its number of decimals (None if it has no point)."""

    value: Fraction
    places: int | None
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
    _, point, decimals = number.rstrip(".").partition(".")
    places = len(decimals) if point else None
    return PlainNumber(_signed(_fraction(number), match["sign"]), places, bool(match["percent"]))


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
    return PlainNumber(_signed(value, match["sign"]), None, bool(match["percent"]))


def _read_scientific(text: str) -> PlainNumber | None:
    match = _SCIENTIFIC.fullmatch(text)
    if match is None or bool(match["number"]) != bool(match["times"]):
        return None
    power = int(match["power"] or match["power1"])
    mantissa = _fraction(match["number"]) if match["number"] else Fraction(1)
    if abs(power) > _MAX_EXPONENT:
        return None
    return PlainNumber(_signed(mantissa * Fraction(10) ** power, match["sign"]), None, False)


def _read_e_notation(text: str) -> PlainNumber | None:
    """4.5e33 as a number; not 2e+1, which means 2·e + 1."""
    match = _E_NOTATION.fullmatch(text)
    if match is None or (match["plus"] and len(match["power"]) == 1 and match["number"].isdigit()):
        return None
    value = _fraction(match["number"]) * Fraction(10) ** int(match["power"])
    return PlainNumber(_signed(value, match["sign"]), None, False)


def read_number(text: str) -> PlainNumber | None:
    """The plain number that a normalised answer writes, or None. Exact, in bounded time."""
    if not text or len(text) > _MAX_CHARS or not any(map(str.isdigit, text)):
        return None
    framed = _PARENTHESES.fullmatch(text)
    text = framed[1].strip() if framed else text
    return _read_decimal(text) or _read_ratio(text) or _read_scientific(text) or _read_e_notation(text)


def rounded(ours: Fraction, theirs: Fraction, places: tuple[int | None, int | None], tolerance: Tolerance) -> bool:
    """Whether two exact values, written with so many decimals (None: not as a decimal), are the same number.

    An integer is never a rounded value: 42.0000001 is not 42.
    """
    if ours == theirs or _within(ours, theirs, tolerance):
        return True
    sides = list(zip((ours, theirs), (theirs, ours), places, strict=True))
    decimals = [side for side in sides if side[2] is not None]
    if not decimals or any(count is None and value.denominator == 1 for value, _, count in sides):
        return False
    value, other, count = min(decimals, key=lambda side: side[2] or 0)
    return _is_rounding(value, other, count or 0, tolerance.places)


def _is_rounding(value: Fraction, other: Fraction, places: int, least: int) -> bool:
    scale = 10**places
    digits = len(str(abs(value.numerator) * scale // value.denominator))
    if places < least or digits < min(4, least):
        return False
    return value in (Fraction(round(other * scale), scale), Fraction(int(other * scale), scale))


def _within(ours: Fraction, theirs: Fraction, tolerance: Tolerance) -> bool:
    return bool(tolerance.relative) and abs(ours - theirs) <= Fraction(tolerance.relative) * abs(ours)


def numbers_agree(
    gold: PlainNumber, value: PlainNumber, percent: str = "either", tolerance: Tolerance = _SIX_DECIMALS
) -> bool:
    """Whether two plain numbers are the same answer.

    ``percent`` is the meaning of a percent sign on one side only: ``either`` (25% is 25 and 0.25, math-verify's rule),
    ``value`` (25% is 0.25 only), ``sign`` (25% is 25 only).
    """
    if gold.is_percent == value.is_percent:
        return rounded(gold.value, value.value, (gold.places, value.places), tolerance)
    if percent != "sign" and rounded(*_as_fractions(gold, value), tolerance):
        return True
    # A bare 0.5 and 0.5% differ a hundredfold, and both are plausible; a bare 12.5 can only mean 12.5%.
    bare_is_plausible = percent != "value" and (gold.is_percent or abs(gold.value) >= 1)
    return bare_is_plausible and rounded(gold.value, value.value, (gold.places, value.places), tolerance)


def _as_fractions(gold: PlainNumber, value: PlainNumber) -> tuple[Fraction, Fraction, tuple[int | None, int | None]]:
    """Both values, divided by 100 where they have a percent sign, and their decimals."""
    sides = [(side.value / 100, None if side.places is None else side.places + 2) if side.is_percent
             else (side.value, side.places) for side in (gold, value)]  # fmt: skip
    return sides[0][0], sides[1][0], (sides[0][1], sides[1][1])
