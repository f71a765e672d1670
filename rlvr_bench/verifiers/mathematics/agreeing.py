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
from typing import TYPE_CHECKING

from rlvr_bench.verifiers.mathematics.evaluating import DIGITS, Infinite, Undefined, context, evaluate, exact, measured
from rlvr_bench.verifiers.mathematics.rational import Tolerance, rounded
from rlvr_bench.verifiers.mathematics.trees import Node, is_constant, names, substituted, walk

if TYPE_CHECKING:
    from mpmath.ctx_mp_python import mpnumeric

__all__ = ["agree", "agree_as_numbers", "values_agree"]

_STEPS = frozenset(("floor", "ceil", "abs", "sgn", "max", "min", "mod", "arg"))
_INTEGER_LETTERS = frozenset("ijklmnpqNMK")
_MAX_DIGITS = 6000


def agree(gold: Node, answer: Node, tolerance: Tolerance) -> bool | None:
    """Whether two expressions are equal; None where sampling proves neither."""
    if gold == answer:
        return True
    if is_constant(gold) and is_constant(answer):
        return agree_as_numbers(gold, answer, tolerance)
    gold, answer = _as_names(gold, answer)
    ours, theirs = names(gold), names(answer)
    if len(ours - theirs) == len(theirs - ours) == 1 and (ours ^ theirs) <= _INTEGRATION_CONSTANTS:
        (mine,), (yours,) = ours - theirs, theirs - ours
        answer, theirs = substituted(answer, yours, Node("sym", name=mine)), ours
    verdict = _sampled(gold, answer)
    if verdict is True and ours != theirs:
        return None
    if verdict is False and any(each.op == "opaque" and each.name in _VALUED for each in (*walk(gold), *walk(answer))):
        return None  # a sum may equal its closed form
    return verdict


_INTEGRATION_CONSTANTS = frozenset(("c", "C", "K", "A", "c_1", "C_1"))
_VALUED = frozenset(("sum", "prod", "int", "iint", "iiint", "oint", "lim", "sup", "inf", "det"))


# ------------------------------------------------------------------------------------------------------------- numbers


def agree_as_numbers(gold: Node, answer: Node, tolerance: Tolerance) -> bool | None:
    """Equality of two constants: exact fractions if both are, else to as many digits as tell them apart."""
    ours, theirs = exact(gold), exact(answer)
    decimals = _decimals(gold), _decimals(answer)
    if ours is not None and theirs is not None:
        return rounded(ours, theirs, decimals, tolerance)
    try:
        same = _same_at(gold, answer, {}, DIGITS)
        if same is False:
            values = evaluate(gold, {}), evaluate(answer, {})
            return (any(decimals) or tolerance.relative > 0) and _near(*values, decimals, tolerance)
        return same and _same_at(gold, answer, {}, _PROOF_DIGITS)
    except Infinite:
        return False
    except Undefined:
        return None


_PROOF_DIGITS = 300  # what agrees to 60 digits must agree to as many, and beyond the sizes met on the way


def _same_at(gold: Node, answer: Node, point: dict[str, mpnumeric], digits: int) -> bool | None:
    """Agreement of two values to nearly ``digits`` digits, or more where much larger or smaller values occur on the way.

    None where it would take too many. Both values may be 0 but for rounding: then they shrink as the digits grow.
    Raises Undefined.
    """
    mp = context()
    extra = 0
    if digits > DIGITS:
        with mp.workdps(digits):
            extra = 2 * max(measured(side, point)[1] for side in (gold, answer))
        if extra > _MAX_DIGITS:
            return None
    with mp.workdps(digits + extra):
        ours, theirs = evaluate(gold, point), evaluate(answer, point)
        gap, largest = abs(ours - theirs), max(abs(ours), abs(theirs))
        noise = mp.mpf(10) ** (15 - digits - extra)
        return bool(gap <= noise * largest or largest < noise)


def _decimals(node: Node) -> int | None:
    """How many decimals a number was written with: 3 for 1.250, None for what is no decimal."""
    while node.op in ("neg", "percent"):
        node = node.parts[0]
    if node.op == "num" and "." in node.name and "e" not in node.name:
        return len(node.name.partition(".")[2])
    return None


def _near(ours: mpnumeric, theirs: mpnumeric, decimals: tuple[int | None, int | None], tolerance: Tolerance) -> bool:
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
    everything = [*walk(gold), *walk(answer)]
    letters = sorted(name for name in names(gold) | names(answer) if not name.endswith("()"))
    whole = _integer_variables(gold, answer, frozenset(letters))
    has_steps = any(each.op == "fun" and each.name in _STEPS for each in everything)
    bends = has_steps or any(each.op == "fun" and each.name in _BENDS for each in everything)
    agreed, last = 0, None
    for point, is_positive in _points(letters, whole, has_steps=has_steps, bends=bends):
        found = _at(gold, answer, point)
        if found is False:
            return False
        if found is None and ((has_steps and not is_positive) or not letters):
            return None  # a value on one side only, where a step may hide
        if found and is_positive:
            agreed, last = agreed + 1, last or point
    if agreed < 2 or last is None:
        return None
    return _same_at(gold, answer, last, _PROOF_DIGITS)


_BENDS = frozenset(("sqrt", "root", "asin", "acos", "atan", "acot", "asec", "acsc"))


def _at(gold: Node, answer: Node, point: dict[str, mpnumeric]) -> bool | None:
    """Agreement at one point; None where a side has no value or the values are on different branches."""
    mp = context()
    try:
        ours, theirs = evaluate(gold, point), evaluate(answer, point)
    except Undefined:
        return None
    if values_agree(ours, theirs):
        tiny = max(abs(ours), abs(theirs)) < mp.mpf(10) ** -40
        return _same_at(gold, answer, point, _PROOF_DIGITS) if tiny else True
    is_real = [abs(mp.im(value)) < mp.mpf(10) ** (-DIGITS // 2) * (1 + abs(value)) for value in (ours, theirs)]
    return False if any(is_real) or all(value > 0 for value in point.values()) else None


def values_agree(ours: mpnumeric, theirs: mpnumeric) -> bool:
    """Whether two values are the same to 40 digits and more, or both are 0 but for rounding."""
    mp = context()
    gap, largest = abs(ours - theirs), max(abs(ours), abs(theirs))
    return bool(gap <= mp.mpf(10) ** (15 - DIGITS) * largest or largest < mp.mpf(10) ** (10 - DIGITS))


_OFFSETS = ("0", "1", "3.25", "6.5")
_FAR = ("37.5", "1003.25")  # where a step or a root may turn that does not near 0
_MANY = (*range(1, 25), 97, 1009)


def _points(
    letters: list[str], whole: frozenset[str], *, has_steps: bool, bends: bool
) -> Iterator[tuple[dict[str, mpnumeric], bool]]:
    """Points to compare at, and whether all values are positive. Variables that count are natural numbers.

    A variable's value depends on its name and its place among all variables, so that no two are equal.
    """
    mp = context()
    places = {name: place for place, name in enumerate(letters)}
    base = {n: mp.mpf(zlib.crc32(n.encode()) % 9973 + 1) / 9974 + mp.mpf(places[n]) / 7 for n in letters}
    count = {n: zlib.crc32(n.encode()) % 7 + 3 * places[n] + 1 for n in letters}
    for offset in (*_OFFSETS, *(_FAR if bends else ())):
        shift = mp.mpf(offset)
        yield {n: count[n] + mp.floor(shift) if n in whole else base[n] + shift for n in letters}, True
    flipped = [n for n in letters if n not in whole and (has_steps or "_" not in n)]
    for name, offset in itertools.product(flipped[:8], ("0", "3.5", *(_FAR if bends else ()))):
        point = {n: mp.mpf(count[n]) if n in whole else base[n] + mp.mpf(offset) for n in letters}
        yield {**point, name: -point[name]}, False
    for name in letters[:8] if has_steps and len(letters) > 1 else ():  # each in turn the largest
        yield {n: base[n] + (50 if n == name else 0) if n not in whole else mp.mpf(count[n]) for n in letters}, True
    for shift in (1, 2, 5):
        yield {n: mp.mpf(count[n] + shift) for n in letters}, True
    for number in _MANY if whole and has_steps else ():
        yield {n: mp.mpf(number + places[n] * (number % 5)) if n in whole else base[n] + 1 for n in letters}, True


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
