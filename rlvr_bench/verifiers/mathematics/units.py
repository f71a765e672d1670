r"""The unit at the end of an answer: split off, in one spelling, only where it can be nothing else.

A unit is next to a number that is the rest of the answer. Framed letters (``5\,\mathrm{m}``) and words are units. A bare single
letter is a unit only after a blank and a plain number ("5 m"), and even then it may be a variable: both readings are tried.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Measured", "split_unit", "unit_of"]

# A unit with its spellings between slashes; the first spelling is the one that is compared.
_SPELLINGS = """
m meter metre / cm centimeter centimetre / mm millimeter millimetre / km kilometer kilometre / nm nanometer nanometre
um micrometer micrometre micron / angstrom / in inch inches / ft foot feet / yd yard / mi mile / light-year lightyear ly
pc parsec / AU / acre / hectare ha / l L liter litre / ml mL milliliter millilitre / gallon gal
g gram gm / kg kilogram kilo / mg milligram / lb lbs pound / oz ounce / ton tonne / mol mole
s sec second / min minute / h hr hour / ms millisecond / us microsecond / ns nanosecond / day / week wk / month / year yr
mph
N newton / dyn dyne / J joule / kJ kilojoule / cal calorie / kcal / erg / eV electronvolt / keV / MeV / GeV / W watt
kW kilowatt / MW megawatt / Hz hertz / kHz kilohertz / MHz megahertz / GHz / Pa pascal
kPa / atm atmosphere / V volt
mV millivolt / kV / A amp ampere / mA milliamp / ohm Ω / farad / coulomb / tesla / K kelvin / celsius
fahrenheit / degree deg / radian rad
dollar USD / cent ¢ / euro EUR / sterling GBP / rupee / yuan RMB / yen JPY / unit
"""
_UNITS = {
    name: names.split()[0] for line in _SPELLINGS.splitlines() for names in line.split(" / ") for name in names.split()
}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_COMPOUND = {"kmh": "km/h", "kph": "km/h", "kmph": "km/h", "mph": "mi/h", "fps": "ft/s"}
_FRAME = r"\\(?:text|mathrm|mbox|textrm|textbf|textit|operatorname|rm)\s*\{(?:[^{}]|\{[^{}]*\})*\}"
_EXPONENT = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
_BARE = r"(?<![A-Za-z\\])[A-Za-z]{2,}\.?|(?<=[\s/])[A-Za-z](?![A-Za-z])|Ω"
_ATOM = rf"(?:{_FRAME}|\\Omega|\\mu(?=\s*(?:m|s|\\))|{_BARE}){_EXPONENT}"
_JOINER = r"(?:[\s~/()]|\\[,; ]|\\cdot|\\times|\*|-)*"
_TAIL = re.compile(rf"(?:{_JOINER}{_ATOM}){{1,8}}\s*\)?$")
_FRACTION_TAIL = re.compile(
    rf"\s*\\frac\s*\{{((?:{_FRAME}|[A-Za-z]|[\s~\\,])+)\}}\s*\{{((?:{_FRAME}|[A-Za-z]|[\s~\\,])+{_EXPONENT})\}}$"
)
_BARE_LETTER = re.compile(r"(?:^|[\s~])([A-Za-z])$")
_TEMPERATURE = re.compile(
    r"\s*(?:(?:\^\s*\{?\s*\\circ\s*\}?|\\degree)[\s~]*(?:\\(?:text|mathrm)\s*\{[\s~]*)?(?P<letter>[CF])"
    r"|(?:\\(?:text|mathrm)\s*\{)?[\s~]*(?:degrees?\s+)?(?P<name>celsius|fahrenheit))\s*\}?$",
    re.IGNORECASE,
)
_WORD = re.compile(r"([A-Za-z¢Ω]+(?:-[a-z]+)?)\.?(?:\^\{?(-?\d)\}?)?|([/()])")
_LONE_LETTERS = re.compile(r"(?:^|[\s~])[A-Za-z](?![A-Za-z}])")
_ATTACHED_VARIABLES = re.compile(r"mg|ms|mA|mV|mN|gm|pc|ha|au|kg(?=h)")
_MAX_TAIL = 120


class Measured(NamedTuple):
    """The value as text, its unit in one spelling, and whether the unit is a bare letter that may be a variable."""

    value: str
    unit: str
    is_letter: bool


def split_unit(text: str) -> Measured | None:
    """An answer without its unit, or None where it ends in no known unit. Does not check the value."""
    tail = text[-_MAX_TAIL:]
    temperature = _TEMPERATURE.search(tail)
    if temperature:
        is_celsius = (temperature["letter"] or temperature["name"]).lower().startswith("c")
        return _measured(text, temperature[0], "celsius" if is_celsius else "fahrenheit")
    fraction = _FRACTION_TAIL.search(tail)
    if fraction:
        unit = canonical_unit(f"{fraction[1]}/({fraction[2]})")
        return _measured(text, fraction[0], unit) if unit is not None else None
    match = _TAIL.search(tail)
    while match:
        unit = canonical_unit(match[0])
        if unit is not None:
            return _measured(text, match[0], unit)
        match = _TAIL.search(tail, match.start() + 1)
    return None


def _measured(text: str, tail: str, unit: str) -> Measured | None:
    if (
        _ATTACHED_VARIABLES.fullmatch(tail.strip(" "))
        and not text[: len(text) - len(tail)].endswith((" ", "~"))
        and tail[0] != " "
    ):
        return None  # 2mg is two letters times 2
    if len(_LONE_LETTERS.findall(tail)) > 1 and "/" not in tail and "^" not in tail:
        return None  # 2 m g
    value = text[: len(text) - len(tail)].rstrip(" ~\\,;(")
    if not value or not any(symbol.isalnum() for symbol in value):
        return None
    return Measured(value, unit, bool(_BARE_LETTER.search(tail) and "circ" not in tail))


def canonical_unit(text: str) -> str | None:
    """Units and their powers in alphabetical order (``m*s^-2``), or None where a word is no unit."""
    plain = re.sub(
        r"\\(?:text|mathrm|mbox|textrm|textbf|textit|operatorname|rm)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r" \1 ", text
    )
    plain = (
        plain.replace("\\Omega", " ohm ")
        .replace("\\mu ", "u")
        .replace("\\mu", "u")
        .replace("\\cdot", " ")
        .replace("\\times", " ")
    )
    plain = re.sub(r"\s+\^", "^", re.sub(r"\bper\b", "/", re.sub(r"[~\\,;*]", " ", plain)))
    if _WORD.sub("", plain).strip(" -."):
        return None
    powers = _powers(_WORD.findall(plain))
    if not powers:
        return None
    return "*".join(
        f"{name}^{power}" if power != 1 else name for name, power in sorted(powers.items()) if name != "unit"
    )


def _powers(words: list[tuple[str, str, str]]) -> dict[str, int] | None:
    """The power of each unit; a slash inverts the next unit (or bracket). None where a word is no unit."""
    powers: dict[str, int] = {}
    sign, in_bracket, factor, last = 1, False, 1, ""
    for word, exponent, mark in words:
        if mark:
            sign, in_bracket = (-1 if mark == "/" else sign), mark == "(" or (in_bracket and mark != ")")
            continue
        power = _POWERS.get(word.lower())
        if power and last and word.lower().endswith("ed"):
            powers[last] *= power
        elif power:
            factor = power
        else:
            parts = _COMPOUND.get(word.lower(), word).split("/")
            units = [unit_of(part) for part in parts]
            if None in units:
                return None
            for index, unit in enumerate(units):
                last = unit or ""
                powers[last] = powers.get(last, 0) + sign * (-1) ** index * factor * int(exponent or 1)
            sign, factor = sign if in_bracket else 1, 1
    return powers


def unit_of(word: str) -> str | None:
    """The first spelling of a unit; its full name may be in any case and in the plural. None for another word."""
    lower = word.lower()
    if word in _UNITS:
        return _UNITS[word]
    if len(lower) < 3 and word not in ("Cm", "KM", "Kg", "KG", "Km", "CM", "hr", "Hr"):
        return None
    for candidate in (lower, lower.removesuffix("s"), lower.removesuffix("es")):
        if candidate in _UNITS:
            return _UNITS[candidate]
    return None
