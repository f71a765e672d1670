r"""The unit an answer ends in: split off, in one spelling, and only where it can be nothing else.

A unit stands beside a number that is the rest of the answer. Framed letters (``5\,\mathrm{m}``) and words are units; a bare
single letter is one only after a blank and a plain number ("5 m"), and even then it may be a variable: both readings are tried.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Measured", "split_unit", "unit_of"]

_NAMES = {
    "m": "m meter metre", "cm": "cm centimeter centimetre", "mm": "mm millimeter millimetre", "km": "km kilometer kilometre",
    "nm": "nm nanometer nanometre", "um": "um micrometer micrometre micron", "angstrom": "angstrom", "pm": "picometer",
    "in": "in inch inches", "ft": "ft foot feet", "yd": "yd yard", "mi": "mi mile", "ly": "light-year lightyear ly",
    "pc": "pc parsec", "au": "AU", "g": "g gram gm", "kg": "kg kilogram kilo", "mg": "mg milligram", "lb": "lb lbs pound",
    "oz": "oz ounce", "ton": "ton tonne", "mol": "mol mole", "s": "s sec second", "min": "min minute", "h": "h hr hour",
    "ms": "ms millisecond", "us": "us microsecond", "ns": "ns nanosecond", "day": "day", "week": "week wk", "month": "month",
    "year": "year yr", "l": "l L liter litre", "ml": "ml mL milliliter millilitre", "gal": "gallon gal", "dollar": "dollar USD",
    "cent": "cent ¢", "N": "N newton", "J": "J joule", "kJ": "kJ kilojoule", "cal": "cal calorie", "kcal": "kcal", "W": "W watt",
    "kW": "kW kilowatt", "MW": "MW megawatt", "Hz": "Hz hertz", "kHz": "kHz kilohertz", "MHz": "MHz megahertz", "GHz": "GHz",
    "Pa": "Pa pascal", "kPa": "kPa", "atm": "atm atmosphere", "V": "V volt", "mV": "mV millivolt", "kV": "kV", "A": "A amp ampere",
    "mA": "mA milliamp", "ohm": "ohm Ω", "F": "farad", "C": "coulomb", "T": "tesla", "eV": "eV electronvolt", "keV": "keV",
    "MeV": "MeV", "GeV": "GeV", "erg": "erg", "dyn": "dyn dyne", "K": "K kelvin", "celsius": "celsius", "fahrenheit": "fahrenheit",
    "degree": "degree deg", "radian": "radian rad", "acre": "acre", "hectare": "hectare ha", "rupee": "rupee", "euro": "euro EUR",
    "yuan": "yuan RMB", "yen": "yen JPY", "sterling": "sterling GBP", "mph": "mph", "unit": "unit",
}  # fmt: skip
_UNITS = {name: unit for unit, names in _NAMES.items() for name in names.split()}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_WHOLE = {"kmh": "km/h", "kph": "km/h", "kmph": "km/h", "mph": "mi/h", "fps": "ft/s"}
_FRAME = r"\\(?:text|mathrm|mbox|textrm|textbf|textit|operatorname|rm)\s*\{(?:[^{}]|\{[^{}]*\})*\}"
_EXPONENT = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
_ATOM = rf"(?:{_FRAME}|\\Omega|\\mu(?=\s*(?:m|s|\\))|(?<![A-Za-z\\])[A-Za-z]{{2,}}\.?|(?<=[\s/])[A-Za-z](?![A-Za-z])|Ω){_EXPONENT}"
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
_WORD = re.compile(r"([A-Za-z¢Ω]+(?:-[a-z]+)?)\.?(?:\^\{?(-?\d)\}?)?|(/)|(\()|(\))")
_MAX_TAIL = 120


class Measured(NamedTuple):
    """The value as text, its unit in one spelling, and whether the unit is a bare letter that may be a variable."""

    value: str
    unit: str
    is_letter: bool


def split_unit(text: str) -> Measured | None:
    """An answer without the unit it ends in, or None where it ends in none that is known. The value is not looked at."""
    tail = text[-_MAX_TAIL:]
    temperature = _TEMPERATURE.search(tail)
    if temperature:
        is_celsius = (temperature["letter"] or temperature["name"]).lower().startswith("c")
        return _measured(text, temperature[0], "celsius" if is_celsius else "fahrenheit")
    fraction = _FRACTION_TAIL.search(tail)
    if fraction:
        unit = canonical_unit(f"{fraction[1]}/({fraction[2]})")
        return _measured(text, fraction[0], unit) if unit is not None else None
    found = _TAIL.search(tail)
    while found:
        unit = canonical_unit(found[0])
        if unit is not None:
            return _measured(text, found[0], unit)
        found = _TAIL.search(tail, found.start() + 1)
    return None


def _measured(text: str, tail: str, unit: str) -> Measured | None:
    value = text[: len(text) - len(tail)].rstrip(" ~\\,;(")
    if not value or not any(symbol.isalnum() for symbol in value):
        return None
    return Measured(value, unit, bool(_BARE_LETTER.search(tail) and "circ" not in tail))


def canonical_unit(text: str) -> str | None:
    """Units and their powers in alphabetical order (``m*s^-2``), or None where a word is no unit."""
    plain = re.sub(
        r"\\(?:text|mathrm|mbox|textrm|textbf|textit|operatorname|rm)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r" \1 ", text
    )
    plain = plain.replace("\\Omega", " ohm ").replace("\\mu", "u").replace("\\cdot", " ").replace("\\times", " ")
    plain = re.sub(r"\bper\b", "/", re.sub(r"[~\\,;*]", " ", plain))
    plain = re.sub(r"\s+\^", "^", plain)
    powers: dict[str, int] = {}
    sign, once, factor, last = 1, False, 1, ""
    position = 0
    for match in _WORD.finditer(plain):
        if plain[position : match.start()].strip(" -"):
            return None
        position = match.end()
        word, exponent, slash, opened, closed = match.groups()
        if slash:
            sign, once = -1, True
        elif opened or closed:
            once = not opened and once
        elif word.lower() in _POWERS:
            if last and word.lower() in ("squared", "cubed"):
                powers[last] *= _POWERS[word.lower()]
            else:
                factor = _POWERS[word.lower()]
        else:
            whole = _WHOLE.get(word.lower())
            unit = unit_of(word) if whole is None else None
            if whole is None and unit is None:
                return None
            for name, direction in (
                ((whole.split("/")[0], 1), (whole.split("/")[1], -1)) if whole else ((unit or "", 1),)
            ):
                powers[name] = powers.get(name, 0) + sign * direction * factor * int(exponent or 1)
                last = name
            if once:
                sign, once = 1, False
            factor = 1
    if plain[position:].strip(" ."):
        return None
    if not powers:
        return None
    return "*".join(
        f"{name}^{power}" if power != 1 else name for name, power in sorted(powers.items()) if power and name != "unit"
    )


def unit_of(word: str) -> str | None:
    """A unit by its full name, in any case and number."""
    lower = word.lower()
    if word in _UNITS:
        return _UNITS[word]
    if len(lower) < 3 and word not in ("Cm", "KM", "Kg", "KG", "Km", "CM", "hr", "Hr"):
        return None
    for candidate in (lower, lower.removesuffix("s"), lower.removesuffix("es")):
        if candidate in _UNITS:
            return _UNITS[candidate]
    return None
