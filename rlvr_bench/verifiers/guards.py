r"""Comparisons on the written form that a symbolic engine cannot make, because it drops what they are about.

math-verify drops units ("5 cm" equals "5 m"), base subscripts (1010_2 equals 1010_3), the difference between a tuple and a
set, and a variable that looks like a unit (2t equals 2). Each guard answers only where the text leaves no doubt.
"""

from __future__ import annotations

import re

__all__ = ["compare_bases", "compare_choices", "compare_texts", "is_algebraic_tail", "reject_by_shape", "split_unit"]

# ------------------------------------------------------------------------------------------------------------- units

_UNIT_NAMES = {
    "m": "m meter metre", "cm": "cm centimeter centimetre", "mm": "mm millimeter millimetre",
    "km": "km kilometer kilometre", "nm": "nm nanometer nanometre", "in": "in inch inches", "ft": "ft foot feet",
    "yd": "yd yard", "mi": "mi mile", "g": "g gram", "kg": "kg kilogram kilo", "mg": "mg milligram", "lb": "lb lbs pound",
    "oz": "oz ounce", "ton": "ton tonne", "s": "s sec second", "min": "min minute", "h": "h hr hour",
    "ms": "ms millisecond", "day": "day", "week": "week wk", "month": "month", "year": "year yr", "l": "l liter litre",
    "ml": "ml milliliter millilitre", "gal": "gallon gal", "dollar": "dollar", "cent": "cent ¢", "mph": "mph", "m/s": "m/s",
    "km/h": "km/h kmh kph kmph", "ft/s": "ft/s", "n": "newton", "j": "joule", "w": "watt", "hz": "hz hertz", "pa": "pascal",
    "v": "volt", "ohm": "ohm", "ev": "ev", "kev": "kev", "mev": "mev", "k": "kelvin", "degree": "degree deg",
    "radian": "radian rad", "acre": "acre", "hectare": "hectare", "rupee": "rupee", "euro": "euro",
}  # fmt: skip
_UNITS = {name: unit for unit, names in _UNIT_NAMES.items() for name in names.split()}
_POWER_WORDS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cu": "^3", "cubed": "^3"}
_FRAMED_UNIT = re.compile(r"\s*\\(?:text|mathrm|mbox|textrm|textbf|operatorname)\{([^{}]*)\}(?:\^\{?([23])\}?)?$")
_COMPOUND_UNIT = re.compile(
    r"(?<=[\d})])\s*((?:(?:\\(?:text|mathrm)\{[^{}]*\}|/|\\cdot|\\times)\s*(?:\^\{?-?\d\}?)?\s*){2,12})$"
)
_BARE_UNIT = re.compile(
    r"(?<=[\d})])\s*((?:(?:square|sq|cubic|cu)\.?\s+)?[A-Za-z]{2,}(?:/[A-Za-z]+)?|(?<=\s)[mgshl](?:/s)?)(?:\^\{?([23])\}?)?$"
)


def _canonical_unit(words: str, power: str | None) -> str | None:
    """One spelling per known unit, with its power; None for a word that is not a unit we know."""
    text = words.replace("~", " ").replace("\\", " ").replace(".", " ").strip().lower()
    text = re.sub(r"\s*(?:per|/)\s*(hour|h|hr|second|sec|s)\b", lambda m: "/" + m[1][0], text)
    inner = re.search(r"\^\{?([23])\}?$", text)
    if inner:
        text, power = text[: inner.start()], inner[1]
    parts = text.split()
    exponent = f"^{power}" if power else ""
    for position in (0, -1):
        if len(parts) > 1 and parts[position] in _POWER_WORDS:
            exponent = _POWER_WORDS[parts.pop(position)]
    name = " ".join(parts)
    for candidate in (name, name.removesuffix("s"), name.removesuffix("es")):
        if candidate in _UNITS:
            return _UNITS[candidate] + exponent
    return None


def split_unit(text: str) -> tuple[str, str | None]:
    """An answer without the known unit it ends in, and that unit in one spelling; the answer as it is, and None."""
    compound = _COMPOUND_UNIT.search(text[-120:])
    if compound:
        parts = re.findall(r"\{\s*~?\s*([^{}]*?)\s*\}", compound[1])
        if parts and _canonical_unit(parts[0], None):
            return text[: len(text) - len(compound[0])].rstrip(), re.sub(r"\\(?:text|mathrm)|[\s{}~]", "", compound[1])
    for pattern in (_FRAMED_UNIT, _BARE_UNIT):
        match = pattern.search(text[-80:])
        if match:
            unit = _canonical_unit(match[1], match[2])
            value = text[: len(text) - len(match[0])].rstrip()
            if unit and value and any(map(str.isalnum, value)):
                return value, unit
    return text, None


_ATTACHED_LETTER = re.compile(
    r"(?:\d|(?<![A-Za-z])[A-Za-z])[tdcol]$|(?:[-+*/=(]|\\cdot|\\times)\s*[a-zA-Z]$|(?:^|[^A-Za-z\\])[A-Za-z] [a-z]$"
)


def is_algebraic_tail(text: str) -> bool:
    """Whether the last letter is a variable that math-verify's unit table would strip: 2t, x + h."""
    return bool(_ATTACHED_LETTER.search(text[-40:]))


# ---------------------------------------------------------------------------------------------- bases, letters, texts

_BASED = re.compile(r"([0-9A-Za-z.]+)_\{?(?:\\text\{)?(\d{1,2}|two|three|four|five|six|seven|eight|nine|ten)\}?\}?")


def compare_bases(gold: str, answer: str) -> bool | None:
    """Numbers with base subscripts: equal digits in equal bases, or equal values; None unless both carry a base."""
    ours, theirs = _BASED.fullmatch(gold), _BASED.fullmatch(answer)
    if not (ours and theirs) or not gold[0].isdigit():
        return None
    if ours.groups() == theirs.groups():
        return True
    values = [_based_value(*match.groups()) for match in (ours, theirs)]
    return None if None in values else values[0] == values[1] and ours[2] == theirs[2]


def _based_value(digits: str, base: str) -> int | None:
    try:
        return int(digits, int(base))
    except ValueError:
        return None


_FRAME = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname|boldsymbol|bm)\{([^{}]*)\}")
_CHOICE = re.compile(r"[({\[]*([A-J])[)}\]]*")
_CHOICE_LETTERS = re.compile(r"\(([A-J])\)")
_WORDS = re.compile(r"^(?:the )?(?:(?:correct |final )?answer|choice|option)(?: is)?\s*:?\s*", re.IGNORECASE)
_CHOICE_WORDS = re.compile(r"^(?:the )?(?:(?:correct |final )?answer|choice|option)(?: is)?\s*:?\s*", re.IGNORECASE)
_LABELLED_CHOICE = re.compile(r"[({\[]*([A-J])(?:[)}\]]+[.:]?|[.:])(?:\s+|(?=\\|\$|\d)).*", re.DOTALL)


def plain_text(text: str) -> str:
    """Text without font commands, braces and spaces."""
    return re.sub(r"[\s{}~$]|(?<!\\)\\[ ,;!]", "", _FRAME.sub(r"\1", text))


def compare_choices(gold: str, answer: str) -> bool | None:
    """Multiple choice: the gold is one letter A to J, and the answer is a letter or a lettered option; else None."""
    ours = _CHOICE.fullmatch(plain_text(gold))
    if ours is None:
        return None
    bare = _CHOICE_WORDS.sub("", _FRAME.sub(r"\1", answer).strip())
    theirs = _CHOICE.fullmatch(plain_text(bare)) or _LABELLED_CHOICE.fullmatch(bare)
    return ours[1] == theirs[1] if theirs else None


_LETTERS = re.compile(r"\(([A-J])\)")
_WORDS = re.compile(r"[^\W\d_]{3,}")


def compare_texts(gold: str, answer: str) -> bool | None:
    """True where the texts without font commands are equal (without regard to case if they are words); else None."""
    ours, theirs = (_LETTERS.sub(r"\1", plain_text(text)) for text in (gold, answer))
    if not ours:
        return None
    if ours == theirs:
        return True
    wordy = "\\" not in ours and "\\" not in theirs and _WORDS.search(ours) is not None
    return True if wordy and ours.casefold().rstrip(".") == theirs.casefold().rstrip(".") else None


# ------------------------------------------------------------------------------------------------------------ shapes

_BRACED_SET = re.compile(r"\\\{.*\\\}", re.DOTALL)
_TUPLE = re.compile(r"\((?:[^()]|\([^()]*\))*,(?:[^()]|\([^()]*\))*\)", re.DOTALL)
_LIST = re.compile(r"[(\[](?:[^()\[\]]|\([^()]*\))*,(?:[^()\[\]]|\([^()]*\))*[)\]]", re.DOTALL)
_JUXTAPOSED = re.compile(r"\d\s+\d|\d\s*\\(?:ldots|dots|cdots)")
_RELATION = re.compile(r"(?<![\\<>!])=|[<>]|\\(?:leq?|geq?|lt|gt|in|neq?|approx)(?![A-Za-z])")
_SUM_SIDE = re.compile(r"[^=<>,;]*[A-Za-z)}\d][-+][^=<>,;]*=[^=<>,;]*")


def reject_by_shape(gold: str, answer: str) -> str | None:
    """Why two answers cannot be the same whatever a symbolic engine says, or None.

    A set is not a tuple; two numbers side by side are not their sum (math-verify reads "5 6" as 11); and an equation in
    several terms is not its right-hand side (it takes 5 for x + y = 5).
    """
    if (_BRACED_SET.fullmatch(gold) and _TUPLE.fullmatch(answer)) or (
        _TUPLE.fullmatch(gold) and _BRACED_SET.fullmatch(answer)
    ):
        return "set_or_tuple"
    if _JUXTAPOSED.search(answer) and not _JUXTAPOSED.search(gold):
        return "juxtaposed"
    if _SUM_SIDE.fullmatch(gold) and re.search(r"[A-Za-z]", gold) and not _RELATION.search(answer):
        return "equation"
    return None


_COLUMN = re.compile(r"\\begin\{([pbvBV]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)


def vector_as_tuple(text: str) -> str | None:
    """A column or row matrix as a tuple, or None: ``(1,2)`` and a column of 1 and 2 are one vector in two notations."""
    match = _COLUMN.fullmatch(text)
    if match is None or "\\begin" in match[2]:
        return None
    rows = [row.strip() for row in match[2].split("\\\\") if row.strip()]
    cells = [cell.strip() for cell in rows[0].split("&")] if len(rows) == 1 else rows
    return "(" + ",".join(cells) + ")" if len(cells) > 1 and not any("&" in cell for cell in cells) else None


def align_vectors(gold: str, answer: str) -> tuple[str, str]:
    """Both sides as tuples where one is a vector and the other a tuple; unchanged otherwise."""
    ours, theirs = vector_as_tuple(gold), vector_as_tuple(answer)
    if ours and not theirs and _LIST.fullmatch(answer):
        return ours, f"({answer[1:-1]})"
    if theirs and not ours and _LIST.fullmatch(gold):
        return f"({gold[1:-1]})", theirs
    return gold, answer
