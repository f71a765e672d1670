r"""Comparisons of the written form, for distinctions that math-verify drops.

math-verify drops units ("5 cm" equals "5 m"), base subscripts (1010_2 equals 1010_3), the difference between a tuple and a
set, and a variable that looks like a unit (2t equals 2). A guard decides only where the text leaves no doubt.
"""

from __future__ import annotations

import re

__all__ = [
    "align_vectors",
    "compare_bases",
    "compare_choices",
    "compare_texts",
    "compare_times",
    "is_algebraic_tail",
    "reject_by_shape",
]

_ATTACHED_LETTER = re.compile(
    r"(?:\d|(?<![A-Za-z])[A-Za-z])[tdcol]$|(?:[-+*/=(]|\\cdot|\\times)\s*[a-zA-Z]$|(?:^|[^A-Za-z\\])[A-Za-z] [a-z]$"
)


def is_algebraic_tail(text: str) -> bool:
    """Whether the last letter is a variable that math-verify would remove as a unit: 2t, x + h."""
    return bool(_ATTACHED_LETTER.search(text[-40:]))


# ---------------------------------------------------------------------------------------------- bases, letters, texts

_BASE_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), 2
    )
} | {"sixteen": "16", "binary": "2", "octal": "8", "decimal": "10", "hexadecimal": "16", "hex": "16"}
_DIGITS = r"(?:\\(?:text|mathrm)\{)?([0-9A-Za-z]+)\}?"
_BASED = re.compile(
    rf"\(?{_DIGITS}\)?(?:_\{{?(?:\\(?:text|mathrm)\{{)?\s*(\d{{1,2}}|[a-z]+)\s*\}}?\}}?"
    r"|[\s~]*(?:\\(?:text|mathrm)\{)?[\s(]*(?:in |to )?base[\s}\-]*(?:\{)?(\d{1,2}|[a-z]+)[\s)}]*"
    r"|[\s~]*(?:\\(?:text|mathrm)\{)?[\s(]*(?:in )?(binary|octal|decimal|hexadecimal|hex)[\s)}]*)"
)
_PLAIN_DIGITS = re.compile(r"[0-9][0-9A-Fa-f]*|[A-Fa-f][0-9A-Fa-f]*[0-9][0-9A-Fa-f]*")


def compare_bases(gold: str, answer: str) -> bool | None:
    """Numbers with a base: equal digits in the same base. None unless the gold or the answer has a base.

    The digits alone equal a gold with a base. An answer in another base than the gold's is wrong, and so is an answer with
    a base where the gold has none.
    """
    ours, theirs = _based(gold), _based(answer)
    if ours is None and theirs is None:
        return None
    if ours is None or theirs is None:
        based, plain = (ours, answer) if ours else (theirs, gold)
        if not _PLAIN_DIGITS.fullmatch(plain):
            return None
        is_plain = based is not None and (ours is not None or based[1] == "10")
        return is_plain and based is not None and _same_digits(based[0], plain)
    return _same_digits(ours[0], theirs[0]) and ours[1] == theirs[1]


def _based(text: str) -> tuple[str, str] | None:
    match = _BASED.fullmatch(text.strip())
    if match is None:
        return None
    base = next(group for group in match.groups()[1:] if group)
    base = _BASE_WORDS.get(base, base)
    if not base.isdigit() or not (match[1][0].isdigit() or int(base) == 16):
        return None
    return match[1], base


def _same_digits(ours: str, theirs: str) -> bool:
    return ours.lower().lstrip("0") == theirs.lower().lstrip("0")


_FRAME = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname|boldsymbol|bm)\{([^{}]*)\}")
_TIME = re.compile(r"(\d{1,2})(?::(\d{2}))?(?:\s*(?:\\text\{)?~?\s*([ap])\.?\s*m\.?\s*\}?)?", re.IGNORECASE)


def compare_times(gold: str, answer: str) -> bool | None:
    """Times of day: 06:30 is 6:30; a.m. and p.m. must agree where both have one. None unless both are times."""
    ours, theirs = (_TIME.fullmatch(_FRAME.sub(r"\1", text).strip()) for text in (gold, answer))
    if not ours or not theirs or not (ours[2] or ours[3]) or not (theirs[2] or theirs[3]):
        return None
    halves = {match[3].lower() for match in (ours, theirs) if match[3]}
    clocks = [[int(part or 0) for part in match.group(1, 2)] for match in (ours, theirs)]
    if clocks[0] == clocks[1]:
        return len(halves) < 2
    return False if halves else None  # without a.m. or p.m. they may be ratios


_CHOICE = re.compile(r"[({\[]*([A-J])[)}\]]*")
_CHOICE_WORDS = re.compile(
    r"^(?:the )?(?:(?:correct |final )?answer|choice|option|graph|figure|statement)(?: is)?\s*:?\s*", re.IGNORECASE
)
_LABEL = re.compile(r"(?<![A-Za-z\\])([A-J])[).:](?=\s|$|\\)")
_ANOTHER = re.compile(r"\b(?:and|or)\b\W*[A-J]\b")
_LABELLED_CHOICE = re.compile(r"[({\[]*([A-J])(?:[)}\]]+[.:]?|[.:])(?:\s+|(?=\\|\$|\d)).*", re.DOTALL)


def plain_text(text: str) -> str:
    """The text without font commands, braces and spaces."""
    return re.sub(r"[\s{}~$]|(?<!\\)\\[ ,;!]", "", _FRAME.sub(r"\1", text))


def compare_choices(gold: str, answer: str) -> bool | None:
    """Multiple choice: compares letters where the gold is a letter A to J and the answer has one; else None."""
    ours = _CHOICE.fullmatch(plain_text(gold))
    if ours is None:
        return None
    bare = _CHOICE_WORDS.sub("", _FRAME.sub(r"\1", answer).strip())
    theirs = _CHOICE.fullmatch(plain_text(bare)) or _LABELLED_CHOICE.fullmatch(bare)
    if len(set(_LABEL.findall(bare))) > 1 or _ANOTHER.search(bare):
        return False
    return ours[1] == theirs[1] if theirs else None


_ONLY_WORDS = re.compile(r"[^\W\d_]+(?:[ '’.,;:!?()-]+[^\W\d_]+)*[.!?]?")


def compare_texts(gold: str, answer: str) -> bool | None:
    """True where both are the same words in the same order; None where they differ, or contain anything else."""
    ours, theirs = (" ".join(_FRAME.sub(r" \1 ", text).replace("~", " ").split()) for text in (gold, answer))
    if not (_ONLY_WORDS.fullmatch(ours) and _ONLY_WORDS.fullmatch(theirs)):
        return None
    return True if ours == theirs else None


# ------------------------------------------------------------------------------------------------------------ shapes

_BRACED_SET = re.compile(r"\\\{.*\\\}", re.DOTALL)
_TUPLE = re.compile(r"\((?:[^()]|\([^()]*\))*,(?:[^()]|\([^()]*\))*\)", re.DOTALL)
_LIST = re.compile(r"[(\[](?:[^()\[\]]|\([^()]*\))*,(?:[^()\[\]]|\([^()]*\))*[)\]]", re.DOTALL)
_JUXTAPOSED = re.compile(r"\d\s+\d|\d\s*\\(?:ldots|dots|cdots)")
_RELATION = re.compile(r"(?<![\\<>!])=|[<>]|\\(?:leq?|geq?|lt|gt|in|neq?|approx)(?![A-Za-z])")
_SUM_SIDE = re.compile(r"[^=<>,;]*[A-Za-z)}\d][-+][^=<>,;]*=[^=<>,;]*")


_FRAMED = re.compile(r"\\(?:text|textbf|textit|textrm|mbox)\s*\{([^{}]*)\}|(?<![\\A-Za-z])([A-Za-z]{4,})")
_BOUNDED = re.compile(r"\\(?:sum|prod|int|lim|log|max|min)(?:\\limits)?\s*_")
_SUBSCRIPT = re.compile(r"_\s*(?:\{([^{}]*)\}|(\w))")
_MARKS = re.compile(
    r"'|\\prime|\\(?:bar|hat|vec|dot|ddot|tilde|overline|overrightarrow|widehat|angle|triangle|int|sum|prod|lim|det|partial)"
    r"(?![A-Za-z])"
)


def _dropped(text: str) -> tuple[list[str], list[str]]:
    """What math-verify drops: words, and marks that give a letter another meaning; each list sorted."""
    framed = " ".join(a or b for a, b in _FRAMED.findall(text))
    words = sorted(word for word in re.findall(r"[a-z]+", framed.lower()) if word not in ("and", "or"))
    return words, sorted("'" if mark == "\\prime" else mark for mark in _MARKS.findall(text))


def reject_by_shape(gold: str, answer: str) -> str | None:
    """Why two answers cannot be the same even if math-verify calls them equal, or None.

    A set is not a tuple. Adjacent numbers are not their sum (math-verify reads "5 6" as 11). An equation in several terms is
    not its right-hand side (math-verify takes 5 for x + y = 5). Words and primes must be the same.
    """
    if any(answer.count(a) != answer.count(b) for a, b in ("()", "{}", "[]")) and "\\left" not in answer:
        return "brackets"
    if sorted(_SUBSCRIPT.findall(_BOUNDED.sub("", gold))) != sorted(_SUBSCRIPT.findall(_BOUNDED.sub("", answer))) or (
        "%" in gold
    ) != ("%" in answer):
        return "subscripts"
    ours, theirs = _dropped(gold), _dropped(answer)
    if ours[1].count("'") != theirs[1].count("'"):
        return "primes"
    if ours[0] != theirs[0] or (ours[1] != theirs[1] and ours[1] and theirs[1]):
        return "words"
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
    """A column or row matrix as a tuple, else None: ``(1,2)`` and a column of 1 and 2 are the same vector."""
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
