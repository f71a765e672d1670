r"""A second opinion on mathematical verdicts that shares no code with the first: no math-verify, no sympy, no normaliser.

It reads a small part of LaTeX (numbers, + - * / ^, ``\frac``, ``\sqrt``, elementary functions, single-letter variables, lists
and tuples) and compares two answers by their values at random complex points. It does not judge what it cannot read.
Rule-based verifiers make few false positives and many false negatives (arXiv 2505.22203). The rate of disagreement on a
sample says how far to trust a score; look at each disagreement.
"""

from __future__ import annotations

import cmath
import dataclasses
import math
import random
import re
from collections.abc import Callable, Iterable
from typing import ClassVar, Literal

from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.base import PolicyVerifier
from rlvr_bench.verifiers.isolation import VerifierPool

__all__ = ["AuditVerifier", "Opinion", "audit_many", "second_opinion"]

Opinion = Literal["agree", "disagree", "unknown"]
Value = complex
Point = dict[str, Value]
_Node = Callable[[Point], Value]

_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*|\.\d+)|\\([A-Za-z]+)|([A-Za-z])|(.))", re.DOTALL)
_KINDS = ("number", "command", "letter", "symbol")
_THOUSANDS = re.compile(r"(?<=\d)(?:,|,?\\!|\{,\})(?=\d{3}(?!\d))")
_ONE_NUMBER = re.compile(r"\s*-?(?:\\\$)?\d{1,3}(?:(?:,|,?\\!|\{,\})\d{3})+(?:\.\d+)?\s*")
_WORD_OR_E = re.compile(
    r"(?<![\\A-Za-z])[A-Za-z]{3,}|\d\.?[eE][-+]?\d|(?<![\\A-Za-z])(?:and|or|sqrt)(?![A-Za-z])|[A-Za-z] ?_"
)
_SHAPE = re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|quad|qquad)(?![A-Za-z])|\\?\$|\\[,;!: ]")
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "ln": cmath.log, "log": lambda x: cmath.log(x) / math.log(10),
    "exp": cmath.exp, "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan, "sinh": cmath.sinh, "cosh": cmath.cosh,
    "sec": lambda x: 1 / cmath.cos(x), "csc": lambda x: 1 / cmath.sin(x), "cot": lambda x: 1 / cmath.tan(x),
}  # fmt: skip
_GREEK = frozenset(
    ("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "rho", "sigma", "tau", "phi", "omega", "varphi")
)
_FRACTIONS = frozenset(("frac", "dfrac", "tfrac"))
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
_MAX_CHARS, _MAX_DEPTH = 2000, 60
_POINTS = 4
_MAX_VALUE = 1e9


class _UnreadError(Exception):
    """The text is not in the part of LaTeX that this module reads."""


class _Reader:
    """Recursive descent over tokens; each rule returns a function from a point to a value."""

    def __init__(self, text: str) -> None:
        bare = _SHAPE.sub(" ", text).strip()
        if _WORD_OR_E.search(bare):
            raise _UnreadError
        matches = [match for match in _TOKEN.findall(bare) if any(match)]
        self._tokens = [next(filter(None, match)) for match in matches]
        self._kinds = [_KINDS[next(position for position, part in enumerate(match) if part)] for match in matches]
        self._at = self._depth = 0

    def read(self) -> _Node:
        node = self._sum()
        if self._at < len(self._tokens):
            raise _UnreadError
        return node

    def _peek(self) -> tuple[str, str]:
        return (self._kinds[self._at], self._tokens[self._at]) if self._at < len(self._tokens) else ("end", "")

    def _take(self, symbol: str) -> bool:
        if self._peek() == ("symbol", symbol):
            self._at += 1
            return True
        return False

    def _sum(self) -> _Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _UnreadError
        negative = self._take("-")
        if not negative:
            self._take("+")
        total = _negated(self._product()) if negative else self._product()
        while self._peek() in (("symbol", "+"), ("symbol", "-")):
            sign = self._tokens[self._at]
            self._at += 1
            term = self._product()
            total = _combined(total, term if sign == "+" else _negated(term), complex.__add__)
        self._depth -= 1
        return total

    def _product(self) -> _Node:
        node = self._power()
        while True:
            kind, token = self._peek()
            if (kind, token) in (("symbol", "*"), ("command", "cdot"), ("command", "times")):
                self._at += 1
                node = _combined(node, self._power(), complex.__mul__)
            elif (kind, token) == ("symbol", "/"):
                self._at += 1
                node = _combined(node, self._power(), complex.__truediv__)
            elif kind in ("command", "letter", "number") or token in ("(", "{"):
                if kind == "number" and self._kinds[self._at - 1] == "number":
                    raise _UnreadError  # two numbers next to each other: the meaning is unknown
                if token in _FRACTIONS and self._kinds[self._at - 1] == "number":
                    raise _UnreadError  # a mixed number, or a product
                node = _combined(node, self._power(), complex.__mul__)
            else:
                return node

    def _power(self) -> _Node:
        base = self._atom()
        if self._take("^"):
            exponent = _negated(self._atom()) if self._take("-") else self._atom()
            return _combined(base, exponent, complex.__pow__)
        return base

    def _atom(self) -> _Node:
        kind, token = self._peek()
        self._at += 1
        if kind == "number":
            value = complex(float(token))
            return lambda _: value
        if kind == "letter":
            constant = {"e": complex(math.e), "i": 1j}.get(token)
            return (lambda _: constant) if constant is not None else (lambda point: point[token])
        if kind == "command":
            return self._command(token)
        if token in ("(", "{"):
            inner = self._sum()
            if not self._take(")" if token == "(" else "}"):
                raise _UnreadError
            return inner
        raise _UnreadError

    def _command(self, name: str) -> _Node:
        if name in _FRACTIONS:
            return _combined(self._atom(), self._atom(), complex.__truediv__)
        if name == "sqrt":
            if self._take("["):
                raise _UnreadError
            inner = self._atom()
            return lambda point: cmath.sqrt(inner(point))
        if name == "pi":
            return lambda _: complex(math.pi)
        if name in _FUNCTIONS:
            function = _FUNCTIONS[name]
            power = self._atom() if self._take("^") else None
            argument = self._power()
            while self._peek()[0] in ("letter", "number") or self._peek() == ("command", "pi"):  # \sin 2x
                argument = _combined(argument, self._power(), complex.__mul__)

            def applied(point: Point) -> Value:
                return function(argument(point))

            return _combined(applied, power, complex.__pow__) if power else applied
        if name in _GREEK:
            return lambda point: point[name]
        raise _UnreadError


def _negated(node: _Node) -> _Node:
    return lambda point: -node(point)


def _combined(left: _Node, right: _Node, operation: Callable[[complex, complex], complex]) -> _Node:
    return lambda point: operation(left(point), right(point))


def _parts(text: str) -> tuple[str, list[str]]:
    """The outer brackets of a list or tuple ("" if none) and its parts; a single expression is its only part."""
    bare = _SHAPE.sub(" ", text).strip()
    bare = _THOUSANDS.sub("", bare) if _ONE_NUMBER.fullmatch(bare) else bare
    depth, cuts, closes_early = 0, [-1], False
    for position, symbol in enumerate(bare):
        depth += (symbol in _OPEN) - (symbol in _CLOSE)
        closes_early = closes_early or (depth == 0 and position < len(bare) - 1)
        if symbol == "," and depth == 0:
            cuts.append(position)
    if len(cuts) == 1 and not closes_early and bare[:1] in ("(", "[") and "," in bare:
        return bare[0] + bare[-1], _parts(bare[1:-1])[1]
    return "", [bare[a + 1 : b].strip() for a, b in zip(cuts, [*cuts[1:], len(bare)], strict=True)]


class _AnyPoint(dict[str, Value]):
    """A random point: a variable gets its value when it is first read."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def __missing__(self, name: str) -> Value:
        chance = random.Random(f"{self._seed} {name}")
        self[name] = complex(chance.uniform(0.3, 2.1), chance.uniform(-0.4, 0.4))
        return self[name]


def _same_value(gold: str, answer: str) -> bool | None:
    if re.fullmatch(r"-?\d+", gold) and re.fullmatch(r"-?\d+", answer):
        return int(gold) == int(answer)
    try:
        ours, theirs = _Reader(gold).read(), _Reader(answer).read()
        for seed in range(_POINTS):
            point = _AnyPoint(seed)
            a, b = ours(point), theirs(point)
            if not (cmath.isfinite(a) and cmath.isfinite(b)):
                return None
            if not cmath.isclose(a, b, rel_tol=1e-6, abs_tol=1e-300):
                return False
            if abs(a) > _MAX_VALUE:
                return None  # a difference of 1 would not show
    except (_UnreadError, ArithmeticError, ValueError, RecursionError, IndexError):
        return None
    return True


def second_opinion(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal by their values at random points; None where one cannot be read."""
    if max(len(gold), len(answer)) > _MAX_CHARS:
        return None
    if re.sub(r"\s", "", gold) == re.sub(r"\s", "", answer):
        return True
    (ours, gold_parts), (theirs, parts) = _parts(gold), _parts(answer)
    if len(gold_parts) != len(parts) or ours != theirs:
        opinions = [_same_value(part, part) for part in (*gold_parts, *parts)]
        return None if None in opinions or ours != theirs else False
    opinions = [_same_value(a, b) for a, b in zip(gold_parts, parts, strict=True)]
    if len(parts) > 1 and not ours and False in opinions:
        return None  # the items of a list without brackets may be in any order
    return False if False in opinions else None if None in opinions else True


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditVerifier(PolicyVerifier):
    """`second_opinion` as a verifier, so that it runs in a worker; an unreadable answer is ``error`` of kind ``unknown``."""

    name: ClassVar[str] = "audit"

    def verify(self, answer: str, problem: Problem) -> Verdict:
        opinion = second_opinion(problem.answer, answer)
        if opinion is None:
            return Verdict(status="error", answer=answer, kind="unknown")
        return Verdict(status="correct" if opinion else "wrong", answer=answer)


def audit_many(verdicts: Iterable[tuple[str, Verdict]], workers: int = 1, timeout_s: float = 2.0) -> list[Opinion]:
    """The second opinion on ``(gold answer, verdict)`` pairs, in the same order, decided in worker processes.

    It is ``unknown`` where the verdict is neither correct nor wrong, or where an answer cannot be read.
    """
    given = list(verdicts)
    items = (
        (index, verdict.answer, Problem(id="", question="", answer=gold))
        for index, (gold, verdict) in enumerate(given)
        if verdict.answer is not None and verdict.status in ("correct", "wrong")
    )
    opinions: list[Opinion] = ["unknown"] * len(given)
    with VerifierPool[int](AuditVerifier(), workers=workers, timeout_s=timeout_s) as pool:
        for index, second in pool.verify(items):
            if second.status in ("correct", "wrong"):
                opinions[index] = "agree" if second.status == given[index][1].status else "disagree"
    return opinions
