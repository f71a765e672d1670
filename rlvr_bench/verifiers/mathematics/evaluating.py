"""Values of expressions: exact fractions for rational numbers, else 60 or more digits at a given point.

Evaluation works on the trees of `expressions`. A function without a definition (f in ``f(x)``) gets a fixed pseudo-random value
for each argument, so that ``f(x)`` equals ``f(x)`` and nothing else.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from rlvr_bench.verifiers.mathematics.trees import Node, points_of

if TYPE_CHECKING:
    from mpmath.ctx_mp import MPContext
    from mpmath.ctx_mp_python import mpnumeric

__all__ = ["DIGITS", "Infinite", "Undefined", "context", "evaluate", "exact", "measured"]

DIGITS = 60
_MAX_BITS = 200_000
_MAX_FACTORIAL = 3000
_ALWAYS_CALLED = frozenset(("f", "F", "E", "T"))  # others may be variables before a bracket
_MAX_TERMS = 100


class Undefined(Exception):
    """The expression has no value that this module computes."""


class Infinite(Undefined):
    """The expression has no finite value at this point: a division by zero, a pole."""


# ------------------------------------------------------------------------------------------------------------ exactly


def exact(node: Node) -> Fraction | None:
    """The value of an expression of rational numbers; None where it is not rational or is too large."""
    try:
        return _exact(node)
    except (Undefined, ZeroDivisionError, OverflowError):
        return None


def _exact(node: Node) -> Fraction:
    if node.op == "num":
        return node.value
    rule = _EXACT.get(node.op)
    if rule is None:
        raise Undefined
    value = rule([_exact(part) for part in node.parts], node.name)
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise Undefined
    return value


def _exact_power(parts: list[Fraction], _name: str) -> Fraction:
    base, exponent = parts
    if exponent.denominator != 1:
        return _exact_root(base, exponent)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits * abs(exponent.numerator) > _MAX_BITS and abs(base) != 1:
        raise Undefined
    return base**exponent.numerator


def _exact_root(base: Fraction, exponent: Fraction) -> Fraction:
    """The rational root of a rational number: 8^{1/3}, 4^{1009/2}. Raises Undefined where there is none."""
    if base <= 0 or exponent.denominator > 64:
        raise Undefined
    roots = [_integer_root(number, exponent.denominator) for number in (base.numerator, base.denominator)]
    if None in roots:
        raise Undefined
    return _exact_power([Fraction(roots[0] or 0, roots[1] or 1), Fraction(exponent.numerator)], "")


def _integer_root(number: int, degree: int) -> int | None:
    if number.bit_length() > 4096:
        return None
    low, high = 0, 1 << (number.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        if middle**degree < number:
            low = middle + 1
        else:
            high = middle
    return low if low**degree == number else None


def _exact_factorial(parts: list[Fraction], _name: str) -> Fraction:
    number = parts[0]
    if number.denominator != 1 or not 0 <= number <= _MAX_FACTORIAL:
        raise Undefined
    return Fraction(_factorial(int(number)))


@functools.lru_cache(maxsize=64)
def _factorial(number: int) -> int:
    product = 1
    for factor in range(2, number + 1):
        product *= factor
    return product


def _exact_function(parts: list[Fraction], name: str) -> Fraction:
    import math

    first = parts[0]
    if name == "sqrt":
        return Fraction(0) if first == 0 else _exact_root(first, Fraction(1, 2))
    if name == "root" and parts[1] > 0 and parts[1].denominator == 1:
        return _exact_root(first, 1 / parts[1])
    if name == "binom" and all(part.denominator == 1 and 0 <= part <= _MAX_FACTORIAL for part in parts):
        return Fraction(math.comb(int(first), int(parts[1])))
    if name in ("gcd", "lcm") and all(part.denominator == 1 for part in parts):
        return Fraction(getattr(math, name)(*(int(part) for part in parts)))
    if name == "mod" and parts[1]:
        return first - parts[1] * (first // parts[1])
    simple: dict[str, Callable[[], Fraction]] = {
        "abs": lambda: abs(first),
        "floor": lambda: Fraction(first.__floor__()),
        "ceil": lambda: Fraction(first.__ceil__()),
        "sgn": lambda: Fraction((first > 0) - (first < 0)),
        "max": lambda: max(parts),
        "min": lambda: min(parts),
    }
    if name not in simple:
        raise Undefined
    return simple[name]()


_EXACT: dict[str, Callable[[list[Fraction], str], Fraction]] = {
    "add": lambda parts, _: sum(parts, Fraction(0)),
    "mul": lambda parts, _: parts[0] * parts[1],
    "div": lambda parts, _: parts[0] / parts[1],
    "neg": lambda parts, _: -parts[0],
    "pow": _exact_power,
    "fact": _exact_factorial,
    "fun": _exact_function,
}


# ---------------------------------------------------------------------------------------------------------- at a point


@functools.lru_cache(maxsize=1)
def context() -> MPContext:
    """A separate mpmath context, so that no other precision is changed."""
    from mpmath.ctx_mp import MPContext

    separate = MPContext()
    separate.dps = DIGITS
    return separate


def evaluate(node: Node, point: Mapping[str, mpnumeric]) -> mpnumeric:
    """The value of an expression, as an mpmath number, where the variables have the values of ``point``.

    Raises Undefined where it has none: division by zero, a pole, an argument outside a function's domain.
    """
    return measured(node, point)[0]


def measured(node: Node, point: Mapping[str, mpnumeric]) -> tuple[mpnumeric, int]:
    """`evaluate`, and the number of digits between 1 and the intermediate value farthest from 1."""
    mp = context()
    evaluation = _Evaluation(point)
    try:
        value = evaluation.of(node)
    except (ZeroDivisionError, OverflowError) as error:
        raise Infinite from error
    except (KeyError, ValueError, TypeError, NotImplementedError, mp.NoConvergence) as error:
        raise Undefined from error
    if not mp.isfinite(value):
        raise Infinite
    return value, int(evaluation.largest * 0.302) + 1


class _Evaluation:
    def __init__(self, point: Mapping[str, mpnumeric], budget: list[int] | None = None) -> None:
        self._point, self._mp = point, context()
        self.largest = 0  # the largest absolute binary exponent of an intermediate value
        self._budget = [_MAX_TERMS] if budget is None else budget  # shared by nested sums

    def of(self, node: Node) -> mpnumeric:
        value = getattr(self, f"_{node.op}", self._no_value)(node)
        if value:
            self.largest = max(self.largest, abs(self._mp.mag(value)))
        return value

    def _no_value(self, node: Node) -> mpnumeric:
        raise Undefined(node.op)

    def _num(self, node: Node) -> mpnumeric:
        return self._mp.mpf(node.value.numerator) / node.value.denominator

    def _const(self, node: Node) -> mpnumeric:
        mp = self._mp
        if node.name == "oo":
            raise Undefined
        return {"pi": mp.pi, "e": mp.e, "i": mp.j}[node.name] * 1

    def _sym(self, node: Node) -> mpnumeric:
        return self._point[node.name]

    def _letters(self, node: Node) -> mpnumeric:
        return self._mp.fprod(self._point[name] for name in points_of(node.name))

    def _add(self, node: Node) -> mpnumeric:
        return self._mp.fsum(self.of(part) for part in node.parts)

    def _mul(self, node: Node) -> mpnumeric:
        return self.of(node.parts[0]) * self.of(node.parts[1])

    def _div(self, node: Node) -> mpnumeric:
        return self.of(node.parts[0]) / self.of(node.parts[1])

    def _neg(self, node: Node) -> mpnumeric:
        return -self.of(node.parts[0])

    def _percent(self, node: Node) -> mpnumeric:
        return self.of(node.parts[0]) / 100

    def _pow(self, node: Node) -> mpnumeric:
        base, exponent = self.of(node.parts[0]), self.of(node.parts[1])
        mp = self._mp
        if mp.mag(exponent) > 40 and base not in (1, -1):
            raise Undefined  # much too large or small
        if base == 0 and mp.re(exponent) <= 0:
            raise Infinite
        if mp.im(base) == 0 and mp.re(base) < 0 and _is_odd_root(node.parts[1]):
            return (-base) ** exponent * (-1) ** exact(node.parts[1]).numerator  # type: ignore[union-attr]
        return base**exponent

    def _fact(self, node: Node) -> mpnumeric:
        return self._mp.gamma(self.of(node.parts[0]) + 1)

    def _call(self, node: Node) -> mpnumeric:
        """A product where the letter is a variable on a side (`names`), else the value of an undefined function."""
        arguments = [self.of(part) for part in node.parts]
        if node.name in self._point and len(arguments) == 1 and node.name not in _ALWAYS_CALLED:
            return self._point[node.name] * arguments[0]
        return self._made_up(node.name, arguments)

    def _sum(self, node: Node) -> mpnumeric:
        return self._mp.fsum(self._terms(node))

    def _prod(self, node: Node) -> mpnumeric:
        return self._mp.fprod(self._terms(node))

    def _terms(self, node: Node) -> list[mpnumeric]:
        """The terms of a finite sum or product. Raises Undefined for an infinite or a long one."""
        variable, first, last, term = node.parts
        low, high = (int(self._whole(part)) for part in (first, last))
        self._budget[0] -= high - low + 1
        if high - low < -1 or self._budget[0] < 0:
            raise Undefined
        return [
            _Evaluation({**self._point, variable.name: self._mp.mpf(value)}, self._budget).of(term)
            for value in range(low, high + 1)
        ]

    def _whole(self, node: Node) -> mpnumeric:
        value = self._real(node)
        if not self._mp.isint(value):
            raise Undefined
        return value

    def _opaque(self, node: Node) -> mpnumeric:
        if node.name == "overline" and len(node.parts) == 1:
            value = self.of(node.parts[0])
            return self._made_up(node.name, [value]) if self._mp.im(value) == 0 else self._mp.conj(value)
        return self._made_up(node.name, [self._bound(part) for part in node.parts])

    def _bound(self, node: Node) -> mpnumeric:
        return self._mp.mpf(zlib.crc32(node.name.encode())) if node.op == "text" else self.of(node)

    def _tuple(self, node: Node) -> mpnumeric:
        return self._made_up("tuple" + node.name, [self.of(part) for part in node.parts])

    def _made_up(self, name: str, arguments: list[mpnumeric]) -> mpnumeric:
        mp, seed = self._mp, zlib.crc32(name.encode()) % 9973
        total = mp.mpf(seed) / 9973
        for position, argument in enumerate(arguments, 1):
            total = total * mp.mpf("1.37") + mp.sin(argument * position + seed) + argument / (position + 1)
        return total

    def _fun(self, node: Node) -> mpnumeric:
        if node.name == "det":
            return self._determinant(node.parts[0])
        return getattr(self, f"_f_{node.name}", self._function)(node)

    def _function(self, node: Node) -> mpnumeric:
        if len(node.parts) != 1 or node.name not in _FUNCTIONS:
            raise Undefined(node.name)
        return _FUNCTIONS[node.name](self._mp, self.of(node.parts[0]))

    def _f_degree(self, node: Node) -> mpnumeric:
        return self.of(node.parts[0]) * self._mp.pi / 180

    def _f_root(self, node: Node) -> mpnumeric:
        value, degree = (self.of(part) for part in node.parts)
        if self._mp.im(value) == 0 and self._mp.re(value) < 0 and self._mp.isint(degree) and int(degree) % 2:
            return -((-value) ** (1 / degree))  # the real root of an odd degree
        return value ** (1 / degree)

    def _f_logbase(self, node: Node) -> mpnumeric:
        value, base = (self.of(part) for part in node.parts)
        return self._mp.log(value) / self._mp.log(base)

    def _f_binom(self, node: Node) -> mpnumeric:
        return self._mp.binomial(self.of(node.parts[0]), self.of(node.parts[1]))

    def _f_mod(self, node: Node) -> mpnumeric:
        value, base = (self._real(part) for part in node.parts)
        return value - base * self._mp.floor(value / base)

    def _f_floor(self, node: Node) -> mpnumeric:
        return self._mp.floor(self._near_integer(node.parts[0]))

    def _f_ceil(self, node: Node) -> mpnumeric:
        return self._mp.ceil(self._near_integer(node.parts[0]))

    def _near_integer(self, node: Node) -> mpnumeric:
        """A value, rounded where it is an integer but for rounding errors: floor(log_2 8) is 3."""
        value = self._real(node)
        nearest = self._mp.nint(value)
        return nearest if abs(value - nearest) < self._mp.mpf(10) ** (-self._mp.dps // 2) else value

    def _f_max(self, node: Node) -> mpnumeric:
        return max(self._real(part) for part in node.parts)

    def _f_min(self, node: Node) -> mpnumeric:
        return min(self._real(part) for part in node.parts)

    def _f_gcd(self, node: Node) -> mpnumeric:
        return self._made_up("gcd", sorted(self._real(part) for part in node.parts))

    def _f_lcm(self, node: Node) -> mpnumeric:
        return self._made_up("lcm", sorted(self._real(part) for part in node.parts))

    def _real(self, node: Node) -> mpnumeric:
        value = self.of(node)
        if self._mp.im(value) != 0:
            raise Undefined
        return self._mp.re(value)

    def _determinant(self, matrix: Node) -> mpnumeric:
        rows = [[self.of(cell) for cell in row.parts] for row in matrix.parts]
        if matrix.op != "matrix" or len({len(row) for row in rows} | {len(rows)}) != 1:
            raise Undefined
        return self._mp.det(self._mp.matrix(rows)) if len(rows) > 1 else rows[0][0]


def _is_odd_root(exponent: Node) -> bool:
    """Whether a power has a real value for negative numbers, like x^{1/3}."""
    value = exact(exponent)
    return value is not None and value.denominator > 1 and value.denominator % 2 == 1


def _nonzero(mp: MPContext, value: mpnumeric) -> mpnumeric:
    if abs(value) < mp.mpf(10) ** (5 - mp.dps):
        raise Infinite
    return value


_FUNCTIONS: dict[str, Callable[[MPContext, mpnumeric], mpnumeric]] = {
    "sin": lambda mp, x: mp.sin(x), "cos": lambda mp, x: mp.cos(x), "tan": lambda mp, x: mp.sin(x) / _nonzero(mp, mp.cos(x)),
    "cot": lambda mp, x: mp.cos(x) / _nonzero(mp, mp.sin(x)),
    "sec": lambda mp, x: 1 / _nonzero(mp, mp.cos(x)),
    "csc": lambda mp, x: 1 / _nonzero(mp, mp.sin(x)),
    "asin": lambda mp, x: mp.asin(x), "acos": lambda mp, x: mp.acos(x), "atan": lambda mp, x: mp.atan(x),
    "acot": lambda mp, x: mp.acot(x), "asec": lambda mp, x: mp.acos(1 / x), "acsc": lambda mp, x: mp.asin(1 / x),
    "sinh": lambda mp, x: mp.sinh(x), "cosh": lambda mp, x: mp.cosh(x), "tanh": lambda mp, x: mp.tanh(x),
    "ln": lambda mp, x: mp.log(x),
    "cis": lambda mp, x: mp.expj(x), "exp": lambda mp, x: mp.exp(x), "sqrt": lambda mp, x: mp.sqrt(x),
    "abs": lambda mp, x: abs(x), "sgn": lambda mp, x: mp.sign(x), "arg": lambda mp, x: mp.arg(x),
    "Re": lambda mp, x: mp.re(x), "Im": lambda mp, x: mp.im(x), "log": lambda mp, x: mp.log10(x),
}  # fmt: skip
