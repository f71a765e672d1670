r"""Limits on the text that a symbolic parser gets: past them an answer is an ``error`` of kind ``limit``, not a hang.

The figures follow inspect_ai's table for its math scorer; some are larger, because real answers need it. What they prevent
was measured: ``\boxed{1E1000000}`` (15 characters) hangs sympy in C code, where no signal handler can stop it; 200 nested
fractions, 2,000 parentheses or a million digits keep ANTLR busy for minutes; ``9^{9^{9}}`` fills the memory.
"""

from __future__ import annotations

import re

__all__ = ["breaks_limits"]

_MAX_CHARS = 2048
_MAX_NESTING = 24
_MAX_COMMANDS = 400
_MAX_DIGITS = 1200
_MAX_EXPONENT_DIGITS = 5
_MAX_POWER_TOWER = 3
_MAX_ITEMS = 400
_MAX_BARS = 40

_OPENERS, _CLOSERS = frozenset("([{"), frozenset(")]}")
_DIGIT_RUN = re.compile(rf"\d{{{_MAX_DIGITS + 1}}}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_E_NOTATION = re.compile(rf"\d\.?[eE][+\-]?\d{{{_MAX_EXPONENT_DIGITS - 1}}}")
_BIG_EXPONENT = re.compile(rf"\^\s*(?:\{{\s*)?[+\-(]*\d{{{_MAX_EXPONENT_DIGITS}}}")
_BIG_FACTORIAL = re.compile(r"\d{5}[)}\]\s]*!|!\s*[)}\]]+\s*!")
_BIG_BOUND = re.compile(r"\\(?:sum|prod)(?![A-Za-z]).{0,80}?\^\s*(?:\{[^{}]*?\d{6}|\d{6}|\{[^{}]*\^)")
_BIG_BINOMIAL = re.compile(r"\\[dt]?binom\s*\{?\s*(?:\d{5}|\d+\s*\^)")


def _nesting(text: str) -> int:
    depth = deepest = 0
    for symbol in text:
        if symbol in _OPENERS:
            depth += 1
            deepest = max(deepest, depth)
        elif symbol in _CLOSERS:
            depth -= 1
    return deepest


def _tower(text: str) -> int:
    """The deepest stack of exponents: open braces that began right after ``^``, and chains without braces (``2^3^4``)."""
    deepest, stack, previous = 0, [], ""
    for symbol in text:
        if symbol == "{":
            stack.append(previous == "^")
        elif symbol == "}" and stack:
            stack.pop()
        elif symbol == "^":
            deepest = max(deepest, 1 + sum(stack))
        if not symbol.isspace():
            previous = symbol
    chain = max((run.count("^") for run in re.findall(r"(?:\^\(*[\w.]+\)*)+", text)), default=0)
    return max(deepest, chain)


_NUMBER_TOWER = re.compile(r"\^[\s{(]*(\d{1,9})[\s})]*\^[\s{(]*(\d{1,9})")


def _is_huge_tower(text: str) -> bool:
    """Whether an exponent is a power with more than 5 digits: 9^{9^{9}} has 370 million."""
    return any(
        len(base) * int(power) > _MAX_EXPONENT_DIGITS and int(base) > 1 for base, power in _NUMBER_TOWER.findall(text)
    )


def breaks_limits(text: str) -> str | None:
    """The name of the first limit that ``text`` breaks, or None. Linear in its length."""
    if len(text) > _MAX_CHARS:
        return "length"
    checks = (
        ("nesting", _nesting(text) > _MAX_NESTING),
        ("commands", len(_COMMAND.findall(text)) > _MAX_COMMANDS),
        ("items", text.count(",") + text.count("=") + text.count("/") > _MAX_ITEMS),
        ("bars", text.count("|") > _MAX_BARS),
        ("digits", bool(_DIGIT_RUN.search(text))),
        ("exponent", bool(_E_NOTATION.search(text) or _BIG_EXPONENT.search(text))),
        ("tower", _tower(text) >= _MAX_POWER_TOWER or _is_huge_tower(text)),
        ("factorial", bool(_BIG_FACTORIAL.search(text))),
        ("bounds", bool(_BIG_BOUND.search(text) or _BIG_BINOMIAL.search(text))),
    )
    return next((name for name, broken in checks if broken), None)
