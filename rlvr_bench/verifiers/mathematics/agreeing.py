r"""Whether two expressions are the same function: exactly for rational numbers, else by their values at many points.

Two expressions that differ at a point where both have real values are different. Agreement proves something only where the
points cover what could differ: positive, negative, integer and other numbers for every variable, steps (floor, absolute value)
sampled on both sides, and equal variables on both sides. Where that is not given the answer is None: undecided.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from rlvr_bench.verifiers.mathematics.evaluating import DIGITS, Infinite, Undefined, context, evaluate, exact
from rlvr_bench.verifiers.mathematics.rational import Tolerance, rounded
from rlvr_bench.verifiers.mathematics.trees import Node, is_constant, names, walk

__all__ = ["agree", "agree_as_numbers", "values_agree"]

_STEPS = frozenset(("floor", "ceil", "abs", "sgn", "max", "min", "mod", "arg"))
_INTEGER_LETTERS = frozenset("ijklmnpqNMK")
_MAX_DIGITS = 1500


def agree(gold: Node, answer: Node, tolerance: Tolerance) -> bool | None:
    """Whether two expressions are equal; None where sampling proves neither."""
    if gold == answer:
        return True
    if is_constant(gold) and is_constant(answer):
        return agree_as_numbers(gold, answer, tolerance)
    gold, answer = _as_names(gold, answer)
    ours, theirs = names(gold), names(answer)
    verdict = _sampled(gold, answer)
    if verdict is True and ours != theirs:
        return None
    if verdict is False and any(each.op == "opaque" and each.name in _VALUED for each in (*walk(gold), *walk(answer))):
        return None  # a sum may equal its closed form
    return verdict


_VALUED = frozenset(("sum", "prod", "int", "iint", "iiint", "oint", "lim", "sup", "inf", "det"))


# ------------------------------------------------------------------------------------------------------------- numbers


def agree_as_numbers(gold: Node, answer: Node, tolerance: Tolerance) -> bool | None:
    """Equality of two constants: exact fractions if both are, else to as many digits as tell them apart."""
    ours, theirs = exact(gold), exact(answer)
    decimals = _decimals(gold), _decimals(answer)
    if ours is not None and theirs is not None:
        return rounded(ours, theirs, decimals, tolerance)
    try:
        for digits in (DIGITS, 2 * DIGITS):
            values = _constant(gold, digits), _constant(answer, digits)
            verdict = _same_constants(*values, digits)
            if verdict is False and any(decimals):
                return _near(*values, decimals, tolerance)
            if verdict is not None:
                return verdict
    except Infinite:
        return False
    except Undefined:
        return None
    return None


def _constant(node: Node, digits: int) -> Any:
    """A constant to ``digits`` digits, or more where it is so large that 1 more or less would not show."""
    mp = context()
    with mp.workdps(digits):
        value = evaluate(node, {})
        extra = int(mp.mag(value) * 0.302) + 1 if value else 0
    if extra <= 0:
        return value
    if extra > _MAX_DIGITS:
        raise Undefined
    with mp.workdps(digits + extra):
        return evaluate(node, {})


def _same_constants(ours: Any, theirs: Any, digits: int) -> bool | None:
    mp = context()
    with mp.workdps(digits + _MAX_DIGITS):
        gap, largest = abs(ours - theirs), max(abs(ours), abs(theirs), mp.mpf(1))
        if gap < mp.mpf(10) ** (12 - digits) * min(largest, mp.mpf(1)) or gap == 0:
            if min(abs(ours), abs(theirs)) > mp.mpf(10) ** (-digits // 4):
                return True
            # Both are nearly 0: real values stay where they are with more digits, rounding noise shrinks.
            return True if digits > DIGITS and gap < mp.mpf(10) ** (12 - digits) * max(abs(ours), abs(theirs)) else None
        return False if gap > mp.mpf(10) ** (15 - digits) * largest else None


def _decimals(node: Node) -> int | None:
    """How many decimals a number was written with: 3 for 1.250, None for what is no decimal."""
    while node.op in ("neg", "percent"):
        node = node.parts[0]
    if node.op == "num" and "." in node.name and "e" not in node.name:
        return len(node.name.partition(".")[2])
    return None


def _near(ours: Any, theirs: Any, decimals: tuple[int | None, int | None], tolerance: Tolerance) -> bool:
    """`rounded` for an exact value that is not rational: to 30 digits it is, for this purpose."""
    mp = context()
    if mp.im(ours) != 0 or mp.im(theirs) != 0:
        return False
    fractions = [Fraction(mp.nstr(mp.re(value), 40, min_fixed=-60, max_fixed=60)) for value in (ours, theirs)]
    return rounded(fractions[0], fractions[1], decimals, tolerance)


# ----------------------------------------------------------------------------------------------------------- functions


def _as_names(gold: Node, answer: Node) -> tuple[Node, Node]:
    """Capital letters side by side are one name (AB - BA is not 0) where an expression has nothing else in it."""
    if not all(each.op in ("letters", "add", "neg", "num") for side in (gold, answer) for each in walk(side)):
        return gold, answer
    if gold.op == answer.op == "letters":
        gold, answer = _without_accent(gold, answer), _without_accent(answer, gold)
    return _renamed(gold), _renamed(answer)


def _without_accent(node: Node, other: Node) -> Node:
    """A triangle, angle or segment by its points alone, where the other side has only the points."""
    accent, blank, points = node.name.rpartition(" ")
    bare = not blank and other.name.partition(" ")[0] in ("triangle", "angle", "overline")
    if bare or (accent in ("triangle", "angle", "overline") and " " not in other.name):
        return Node(
            "letters",
            name=min(points, points[::-1]) if "triangle" not in (accent, other.name[:8]) else "".join(sorted(points)),
        )
    return node


def _renamed(node: Node) -> Node:
    if node.op == "letters":
        return Node("sym", name=node.name)
    return node._replace(parts=tuple(_renamed(part) for part in node.parts))


def _sampled(gold: Node, answer: Node) -> bool | None:
    """Compare at points: all variables positive, one after the other negative, then integers."""
    variables = sorted(names(gold) | names(answer))
    letters = [name for name in variables if not name.endswith("()")]
    whole = _integer_variables(gold, answer, frozenset(letters))
    has_steps = any(each.op == "fun" and each.name in _STEPS for side in (gold, answer) for each in walk(side))
    agreed = 0
    for place, (point, is_positive) in enumerate(_points(letters, whole)):
        found = _at(gold, answer, point)
        if found is False:
            return False
        if found is None and has_steps and not is_positive:
            return None  # a value on one side only, where a step may hide
        if found is None and place == 0 and not letters:
            return None
        agreed += found is True and is_positive
    return True if agreed >= 2 else None


def _at(gold: Node, answer: Node, point: dict[str, Any]) -> bool | None:
    """Agreement at one point; None where a side has no value or the values are on different branches."""
    mp = context()
    values = []
    for side in (gold, answer):
        try:
            values.append(evaluate(side, point))
        except Undefined:
            values.append(None)
    if values[0] is None or values[1] is None:
        return None
    if values_agree(*values):
        return True
    is_real = [abs(mp.im(value)) < mp.mpf(10) ** (-DIGITS // 2) * (1 + abs(value)) for value in values]
    return False if any(is_real) or point_is_positive(point) else None


def point_is_positive(point: dict[str, Any]) -> bool:
    return all(value > 0 for value in point.values())


def values_agree(ours: Any, theirs: Any) -> bool:
    """Whether two values are the same to 40 digits and more."""
    mp = context()
    gap, largest = abs(ours - theirs), max(abs(ours), abs(theirs))
    return bool(gap <= mp.mpf(10) ** (15 - DIGITS) * largest or largest < mp.mpf(10) ** (10 - DIGITS))


_OFFSETS = ("0", "1", "3.25", "6.5")


def _points(letters: list[str], whole: frozenset[str]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Points to compare at, and whether all values are positive. Every value depends on the variable's name only."""
    mp = context()
    base = {name: mp.mpf(zlib.crc32(name.encode()) % 9973 + 1) / 9974 for name in letters}
    integer = {name: zlib.crc32(name.encode()) % 7 for name in letters}
    for place, offset in enumerate(_OFFSETS):
        yield {n: mp.mpf(integer[n] + 2 + 3 * place) if n in whole else base[n] + mp.mpf(offset) for n in letters}, True
    for flipped, offset in itertools.product(letters[:8], ("0", "3.5")):
        point = {n: mp.mpf(integer[n] + 3) if n in whole else base[n] + mp.mpf(offset) for n in letters}
        point[flipped] = -point[flipped]
        yield point, False
    for shift in (1, 2, 5):
        yield {n: mp.mpf(integer[n] + shift) for n in letters}, True


def _integer_variables(gold: Node, answer: Node, letters: frozenset[str]) -> frozenset[str]:
    """Variables that can only be integers: in (-1)^n everywhere, and n, m, k, ... where they are rounded as part of a term.

    Nobody writes the floor of a letter alone that is an integer, so such a letter is a real number.
    """
    found: set[str] = set()
    real: set[str] = set()
    for each in itertools.chain(walk(gold), walk(answer)):
        if each.op in ("sum", "prod"):
            found |= names(each.parts[1]) | names(each.parts[2])
        elif each.op == "pow" and _is_alternating(each.parts[0]):
            found |= names(each.parts[1])
        elif each.op == "fun" and each.name in ("floor", "ceil", "mod"):
            inner = each.parts[0]
            (real if inner.op == "sym" and each.name != "mod" else found).update(
                name for name in names(inner) if name[0] in _INTEGER_LETTERS
            )
        elif each.op == "fun" and each.name in ("cos", "sin") and _is_multiple_of_pi(each.parts[0]):
            found |= {name for name in names(each.parts[0]) if name[0] in _INTEGER_LETTERS}
    return frozenset((found - real) & letters)


def _is_alternating(base: Node) -> bool:
    return (base.op == "neg" and is_constant(base)) or (base.op == "const" and base.name == "i")


def _is_multiple_of_pi(node: Node) -> bool:
    return any(each.op == "const" and each.name == "pi" for each in walk(node))
