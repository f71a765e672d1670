r"""Whether two expressions are the same function: exactly for rational numbers, else by their values at many points.

Two expressions that differ at a point where both have real values are different. Agreement is a proof only where the points
cover every possible difference: positive, negative, integer and other numbers for every variable, steps (floor, absolute
value) sampled on both sides, and equal variables in both expressions. Otherwise the result is None: undecided.
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
    if verdict is False and any(node.op == "opaque" and node.name in _VALUED for node in (*walk(gold), *walk(answer))):
        return None  # a sum may equal its closed form
    return verdict


_INTEGRATION_CONSTANTS = frozenset(("c", "C", "K", "A", "c_1", "C_1"))
_VALUED = frozenset(("sum", "prod", "int", "iint", "iiint", "oint", "lim", "sup", "inf", "det"))


# ------------------------------------------------------------------------------------------------------------- numbers


def agree_as_numbers(gold: Node, answer: Node, tolerance: Tolerance) -> bool | None:
    """Equality of two constants: as exact fractions if both are rational, else to many digits."""
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


_PROOF_DIGITS = 300  # values that agree to 60 digits must also agree to this many, and beyond the sizes of all terms


def _same_at(gold: Node, answer: Node, point: dict[str, mpnumeric], digits: int) -> bool | None:
    """Whether two values agree to nearly ``digits`` digits; to more where intermediate values are much larger or smaller.

    None where that would take too many digits. Both values may be 0 but for rounding: then they shrink as the digits grow.
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
    """How many decimals a number was written with: 3 for 1.250; None if it is no decimal."""
    while node.op in ("neg", "percent"):
        node = node.parts[0]
    if node.op == "num" and "." in node.name and "e" not in node.name:
        return len(node.name.partition(".")[2])
    return None


def _near(ours: mpnumeric, theirs: mpnumeric, decimals: tuple[int | None, int | None], tolerance: Tolerance) -> bool:
    """`rounded` for an exact value that is not rational; its first 40 digits serve as the value."""
    mp = context()
    if mp.im(ours) != 0 or mp.im(theirs) != 0:
        return False
    fractions = [Fraction(mp.nstr(mp.re(value), 40, min_fixed=-60, max_fixed=60)) for value in (ours, theirs)]
    return rounded(fractions[0], fractions[1], decimals, tolerance)


# ----------------------------------------------------------------------------------------------------------- functions


def _as_names(gold: Node, answer: Node) -> tuple[Node, Node]:
    """Adjacent capital letters as one name (AB - BA is not 0), in an expression of such names and numbers."""
    if not all(node.op in ("letters", "add", "neg", "num") for side in (gold, answer) for node in walk(side)):
        return gold, answer
    if gold.op == answer.op == "letters":
        gold, answer = _without_accent(gold, answer), _without_accent(answer, gold)
    return _renamed(gold), _renamed(answer)


def _without_accent(node: Node, other: Node) -> Node:
    """A triangle, angle or segment as its points alone, where the other side has only the points."""
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
    """Compare at points: first all variables positive, then each of them negative, then integers."""
    everything = [*walk(gold), *walk(answer)]
    letters = sorted(name for name in names(gold) | names(answer) if not name.endswith("()"))
    whole = _integer_variables(gold, answer, frozenset(letters))
    has_steps = any(node.op == "fun" and node.name in _STEPS for node in everything)
    bends = has_steps or any(node.op == "fun" and node.name in _BENDS for node in everything)
    agreed, last = 0, None
    for point, is_positive in _points(letters, whole, has_steps=has_steps, bends=bends):
        verdict = _at(gold, answer, point)
        if verdict is False:
            return False
        if verdict is None and ((has_steps and not is_positive) or not letters):
            return None  # a value on one side only, where a step may be hidden
        if verdict and is_positive:
            agreed, last = agreed + 1, last or point
    if agreed < 2 or last is None:
        return None
    return _same_at(gold, answer, last, _PROOF_DIGITS)


_BENDS = frozenset(("sqrt", "root", "asin", "acos", "atan", "acot", "asec", "acsc"))


def _at(gold: Node, answer: Node, point: dict[str, mpnumeric]) -> bool | None:
    """Agreement at one point; None where a side has no value, or the values are on different branches."""
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
    """Whether two values agree to 40 digits or more, or both are 0 but for rounding."""
    mp = context()
    gap, largest = abs(ours - theirs), max(abs(ours), abs(theirs))
    return bool(gap <= mp.mpf(10) ** (15 - DIGITS) * largest or largest < mp.mpf(10) ** (10 - DIGITS))


_OFFSETS = ("0", "1", "3.25", "6.5")
_FAR = ("37.5", "1003.25")  # for steps and roots that change far from 0
_MANY = (*range(1, 25), 97, 1009)


def _points(
    letters: list[str], whole: frozenset[str], *, has_steps: bool, bends: bool
) -> Iterator[tuple[dict[str, mpnumeric], bool]]:
    """Points to compare at, and whether all their values are positive. The variables in ``whole`` get natural numbers.

    A variable's value depends on its name and its position among all variables, so that no two are equal.
    """
    mp = context()
    positions = {name: position for position, name in enumerate(letters)}
    base = {n: mp.mpf(zlib.crc32(n.encode()) % 9973 + 1) / 9974 + mp.mpf(positions[n]) / 7 for n in letters}
    count = {n: zlib.crc32(n.encode()) % 7 + 3 * positions[n] + 1 for n in letters}
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
        yield {n: mp.mpf(number + positions[n] * (number % 5)) if n in whole else base[n] + 1 for n in letters}, True


def _integer_variables(gold: Node, answer: Node, letters: frozenset[str]) -> frozenset[str]:
    """Variables that can only be integers: in bounds of sums, in powers of a negative number or i, and n, m, ... if rounded.

    Nobody writes the floor of an integer letter, so a letter that is alone in a floor is a real number.
    """
    integers: set[str] = set()
    real: set[str] = set()
    for node in itertools.chain(walk(gold), walk(answer)):
        if node.op in ("sum", "prod"):
            integers |= names(node.parts[1]) | names(node.parts[2])
        elif node.op == "pow" and _is_alternating(node.parts[0]):
            integers |= names(node.parts[1])
        elif node.op == "fun" and node.name in ("floor", "ceil", "mod"):
            inner = node.parts[0]
            (real if inner.op == "sym" and node.name != "mod" else integers).update(
                name for name in names(inner) if name[0] in _INTEGER_LETTERS
            )
        elif node.op == "fun" and node.name in ("cos", "sin") and _is_multiple_of_pi(node.parts[0]):
            integers |= {name for name in names(node.parts[0]) if name[0] in _INTEGER_LETTERS}
    return frozenset((integers - real) & letters)


def _is_alternating(base: Node) -> bool:
    return (base.op == "neg" and is_constant(base)) or (base.op == "const" and base.name == "i")


def _is_multiple_of_pi(node: Node) -> bool:
    return any(part.op == "const" and part.name == "pi" for part in walk(node))
