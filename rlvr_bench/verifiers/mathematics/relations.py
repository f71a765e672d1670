"""Equations and inequalities: turned around, multiplied by a factor, solved for a variable."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rlvr_bench.verifiers.mathematics.agreeing import values_agree
from rlvr_bench.verifiers.mathematics.evaluating import Undefined, context, evaluate
from rlvr_bench.verifiers.mathematics.trees import Node, names

if TYPE_CHECKING:
    from mpmath.ctx_mp_python import mpnumeric

__all__ = ["SYMMETRIC", "difference", "outer", "proportional", "solved", "turned"]

SYMMETRIC = frozenset(("par", "perp", "cong", "sim"))
_TURN = {">": "<", ">=": "<="}


def turned(node: Node) -> Node:
    """A chain of > or >= reversed, so that its signs are < or <=."""
    signs = node.name.split()
    if signs and all(sign in _TURN for sign in signs):
        return Node("rel", node.parts[::-1], " ".join(_TURN[sign] for sign in reversed(signs)))
    return node


def outer(node: Node) -> Node:
    """The first and last side of a chain of equations."""
    return Node("rel", (node.parts[0], node.parts[-1]), "=")


def difference(relation: Node) -> Node:
    return Node("add", (relation.parts[0], Node("neg", (relation.parts[-1],))))


def proportional(ours: Node, theirs: Node, *, positive: bool) -> bool | None:
    """Whether two expressions differ by a constant (and, if asked, positive) factor, like 2x - 4 and x - 2."""
    if not any(not name.endswith("()") for name in names(ours) | names(theirs)):
        return None  # without a variable, any two numbers differ by a factor
    ratios = []
    for shift in (0, 1, 2, 3):
        try:
            point = _point(names(ours) | names(theirs), shift)
            a, b = evaluate(ours, point), evaluate(theirs, point)
            ratios.append(a / b)
        except (Undefined, ZeroDivisionError):
            continue
    if len(ratios) < 3:
        return None
    mp = context()
    factor = ratios[0]
    if mp.im(factor) != 0 or abs(factor) < mp.mpf(10) ** -20 or (positive and factor < 0):
        return False
    return all(values_agree(factor, ratio) for ratio in ratios)


def _point(variables: frozenset[str], shift: int) -> dict[str, mpnumeric]:
    mp = context()
    letters = sorted(name for name in variables if not name.endswith("()"))
    return {
        name: mp.mpf((index * 7 + shift * 5) % 11 + 1) / 3 * (-1) ** (shift * index) + mp.mpf(shift * index) / 7
        for index, name in enumerate(letters)
    }


def solved(explicit: Node, implicit: Node) -> bool | None:
    """Whether one equation, solved for a variable that is linear in the other, solves the other."""
    for left, right in (explicit.parts, explicit.parts[::-1]):
        if left.op == "sym" and left.name not in names(right):
            return _solves(left.name, right, difference(implicit))
    return False


def _solves(variable: str, solution: Node, difference: Node) -> bool | None:
    mp, checked, slopes = context(), 0, []
    for shift in (0, 1, 2, 3):
        point = _point(names(solution) | names(difference) | {variable}, shift)
        try:
            at_zero, at_one, at_two = (evaluate(difference, {**point, variable: mp.mpf(value)}) for value in (0, 1, 2))
            at_solution = evaluate(difference, {**point, variable: evaluate(solution, point)})
        except Undefined:
            continue
        slope = at_one - at_zero
        slopes.append(slope)
        if abs(slope) < mp.mpf(10) ** -20 or not values_agree(slope, at_two - at_one):
            return False
        if abs(at_solution) > mp.mpf(10) ** -40 * max(1, abs(slope), abs(at_zero)):
            return False
        checked += 1
    if checked < 2:
        return None
    return all(values_agree(slopes[0], slope) for slope in slopes) or not _has_more_solutions(variable, difference)


def _has_more_solutions(variable: str, difference: Node) -> bool:
    """Whether the equation holds for every value of the variable at some simple point, like yx = x^3 at x = 0."""
    mp, others = context(), names(difference) - {variable}
    for name in (name for name in others if not name.endswith("()")):
        for number in (0, 1, -1, 2, -2):
            point = {**_point(others, 1), name: mp.mpf(number)}
            with contextlib.suppress(Undefined):
                if all(abs(evaluate(difference, {**point, variable: mp.mpf(value)})) < _NOTHING for value in (0, 1)):
                    return True
    return False


_NOTHING = 1e-40
