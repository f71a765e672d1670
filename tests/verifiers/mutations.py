"""One-token changes of an answer that make it another answer, drawn with a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

__all__ = ["mutations"]

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\.\d+|[A-Za-z]+|\S")
_COMMANDS = {
    "\\sin": "\\cos", "\\cos": "\\sin", "\\tan": "\\cot", "\\ln": "\\exp", "\\log": "\\sin", "\\pi": "e", "\\sqrt": "\\sin",
    "\\le": "\\ge", "\\leq": "\\geq", "\\ge": "\\le", "\\geq": "\\leq", "\\cup": "\\cap", "\\infty": "7", "\\alpha": "\\beta",
    "\\beta": "\\alpha", "\\theta": "\\phi", "\\omega": "\\mu", "\\lambda": "\\mu", "\\cdot": "+", "\\times": "+", "\\pm": "+",
    "\\lfloor": None, "\\lceil": None, "\\rho": "\\sigma", "\\sigma": "\\rho", "\\gamma": "\\delta", "\\hbar": "\\epsilon",
}  # fmt: skip
_SIGNS = {"+": "-", "-": "+", "<": ">", ">": "<", "/": "+", "*": "+", "!": "", "%": None, "=": "<"}
_KEPT = re.compile(
    r"frac|dfrac|tfrac|left|right|text|mathrm|begin|end|pmatrix|displaystyle|circ|quad|boxed|operatorname|ldots"
)


def _changed(token: str, chance: random.Random, used: set[str]) -> str | None:
    if re.fullmatch(r"\d+(?:\.\d+)?|\.\d+", token):
        indices = [index for index, symbol in enumerate(token) if symbol.isdigit()]
        index = chance.choice(indices)
        other = chance.choice([digit for digit in "123456789" if digit != token[index]])
        return token[:index] + other + token[index + 1 :]
    if token in _COMMANDS:
        return _COMMANDS[token]
    if token in _SIGNS:
        return _SIGNS[token]
    if len(token) == 1 and token.isalpha() and token not in "eid":
        return chance.choice([letter for letter in "abcknpqrtuvwxyz" if letter not in used])
    return None


def mutations(answer: str, chance: random.Random, most: int) -> Iterator[str]:
    """Up to ``most`` different answers, each with one token of ``answer`` changed: a digit, a sign, a letter, a function."""
    tokens = [(match.start(), match.group()) for match in _TOKEN.finditer(answer)]
    used = {token for _, token in tokens}
    chance.shuffle(tokens)
    mutations: set[str] = set()
    for start, token in tokens:
        if _KEPT.fullmatch(token.lstrip("\\")) or len(mutations) >= most:
            continue
        other = _changed(token, chance, used)
        if other is not None:
            mutated = answer[:start] + other + answer[start + len(token) :]
            if mutated not in mutations:
                mutations.add(mutated)
                yield mutated
