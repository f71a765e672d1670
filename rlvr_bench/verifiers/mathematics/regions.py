r"""Sets of real numbers as pieces (intervals and points), from any notation that answers use for them.

``(1, 5]``, ``1 < x \le 5``, ``x > 1`` and ``x \le 5``, ``\{x : 1 < x \le 5\}``, ``|x| < 2``, ``x \ne 3``, unions, differences
and ``\mathbb{R}`` become lists of pieces, so that two of them can be compared.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rlvr_bench.verifiers.mathematics.evaluating import Undefined, context, evaluate
from rlvr_bench.verifiers.mathematics.trees import Node, counted, is_constant, names, substituted, walk
from rlvr_bench.verifiers.mathematics.verdicts import all_of

if TYPE_CHECKING:
    from mpmath.ctx_mp_python import mpnumeric

__all__ = ["Piece", "Region", "is_empty", "region", "same_region"]

_INFINITY = Node("const", name="oo")
_MINUS_INFINITY = Node("neg", (_INFINITY,))
_INEQUALITIES = frozenset(("<", "<=", ">", ">=", "!="))


class Piece(NamedTuple):
    """The numbers between two bounds; ``has_low`` and ``has_high`` say whether a bound belongs to them."""

    low: Node
    has_low: bool
    high: Node
    has_high: bool


class Region(NamedTuple):
    """Pieces, and their variable ("" if none was named)."""

    pieces: tuple[Piece, ...]
    variable: str = ""


_LINE = Piece(_MINUS_INFINITY, False, _INFINITY, False)


def region(node: Node, *, brackets_are_intervals: bool = True) -> Region | None:
    """The region that an answer describes, or None where it describes something else.

    A pair in round brackets is an interval only where ``brackets_are_intervals``.
    """
    reader = _READERS.get(node.op)
    result = reader(node) if reader else None
    if node.op == "tuple" and node.name == "()" and not brackets_are_intervals:
        return None
    return result


def _of_tuple(node: Node) -> Region | None:
    if len(node.parts) != 2 or not set(node.name) <= set("()[]"):
        return None
    low, high = node.parts
    return Region((Piece(low, node.name[0] == "[", high, node.name[1] == "]"),))


def _of_domain(node: Node) -> Region | None:
    if node.name == "emptyset":
        return Region(())
    return Region((_LINE,)) if node.name == "R" else None


def _of_set(node: Node) -> Region | None:
    if not all(is_constant(part) for part in node.parts):
        return None
    return Region(tuple(Piece(part, True, part, True) for part in node.parts))


def _of_operation(node: Node) -> Region | None:
    left, right = (region(part) for part in node.parts)
    if left is None or right is None:
        return None
    if node.name == "union":
        return _joined(left, right)
    return _meeting(left, right if node.name == "intersection" else _complement(right))


def _of_relation(node: Node) -> Region | None:
    signs = node.name.split()
    if signs == ["in"] and node.parts[0].op in ("sym", "const"):
        inside = region(node.parts[1])
        return None if inside is None else Region(inside.pieces, node.parts[0].name)
    if signs == ["="] and node.parts[0].op == "sym" and is_constant(node.parts[1]):
        return Region((Piece(node.parts[1], True, node.parts[1], True),), node.parts[0].name)
    if not signs or not set(signs) <= _INEQUALITIES:
        return None
    if len(node.parts) == 3 and node.parts[1].op in ("sym", "call") and set(signs) <= {"<", "<="} | {">", ">="}:
        return _between(node.parts, signs)
    result: Region | None = None
    for left, sign, right in zip(node.parts, signs, node.parts[1:], strict=False):
        half = _half_line(left, sign, right)
        result = half if result is None else _meeting(result, half)
        if result is None:
            return None
    return result


def _between(sides: Sequence[Node], signs: list[str]) -> Region | None:
    """A chain a < x <= b; x may be a function, and then no variable is named."""
    (low, middle, high), (first, second) = sides, signs
    if first[0] != second[0]:
        return None
    if first[0] == ">":
        low, high, first, second = high, low, second, first
    piece = Piece(low, "=" in first, high, "=" in second)
    return Region((piece,), middle.name if middle.op == "sym" else "")


def _half_line(left: Node, sign: str, right: Node) -> Region | None:
    """The region of one inequality that is linear in one variable, or in its absolute value."""
    if _infinite(left) or _infinite(right):
        return _by_infinity(left, sign, right)
    if right.op == "fun" and right.name == "abs":
        left, right, sign = right, left, _TURNED[sign]
    closed = sign in ("<=", ">=")
    if left.op == "fun" and left.name == "abs" and is_constant(right) and sign != "!=":
        line = _line(left.parts[0])
        if line is None:
            return None
        ends = [_solved(line, Node("neg", (right,))), _solved(line, right)]
        low, high = ends if line[1] > 0 else ends[::-1]
        inside = Region((Piece(low, closed == (sign[0] == "<"), high, closed == (sign[0] == "<")),), line[0])
        return inside if sign[0] == "<" else _complement(inside)
    return _linear(left, sign, right)


def _linear(left: Node, sign: str, right: Node) -> Region | None:
    if _is_plain(left) and not names(right):
        bound, name = right, left.name
    elif _is_plain(right) and not names(left):
        bound, name, sign = left, right.name, _TURNED[sign]
    elif _is_plain(left) and left.name not in names(right) and not _is_plain(right):
        bound, name = right, left.name  # a bound with other variables
    else:
        line = _line(Node("add", (left, Node("neg", (right,)))))
        if line is None:
            return None
        bound, name, sign = _solved(line, _ZERO), line[0], sign if line[1] > 0 else _TURNED[sign]
    if sign == "!=":
        return _complement(Region((Piece(bound, True, bound, True),), name))
    closed = "=" in sign
    ends = (_MINUS_INFINITY, False, bound, closed) if sign[0] == "<" else (bound, closed, _INFINITY, False)
    return Region((Piece(*ends),), name)


_ZERO = Node("num", name="0")


def _is_plain(node: Node) -> bool:
    return node.op == "sym"


def _infinite(node: Node) -> bool:
    inner = node.parts[0] if node.op == "neg" else node
    return inner == _INFINITY


def _by_infinity(left: Node, sign: str, right: Node) -> Region | None:
    """The inequality x < oo states only that x is a number."""
    variable = right if _infinite(left) else left
    return Region((_LINE,), variable.name) if variable.op == "sym" and sign in ("<", ">") else None


def _line(node: Node) -> tuple[str, mpnumeric, Node] | None:
    """A linear expression a x + b with numbers a and b: its variable, a, and the expression itself; else None."""
    variables = names(node)
    if len(variables) != 1 or any(part.op in ("opaque", "call") for part in walk(node)):
        return None
    (name,) = variables
    mp = context()
    try:
        at = [evaluate(node, {name: mp.mpf(value)}) for value in ("0", "1", "2", "-1.5")]
    except Undefined:
        return None
    slope = at[1] - at[0]
    straight = all(abs(at[0] + slope * mp.mpf(x) - y) < mp.mpf(10) ** -40 for x, y in (("2", at[2]), ("-1.5", at[3])))
    if not straight or mp.im(slope) != 0 or abs(slope) < mp.mpf(10) ** -30:
        return None
    return name, slope, node


def _solved(line: tuple[str, mpnumeric, Node], value: Node) -> Node:
    """The x at which a x + b has this value, as an expression: (value - b) / a."""
    name, _, node = line
    at_zero, at_one = (substituted(node, name, counted(number)) for number in (0, 1))
    slope = Node("add", (at_one, Node("neg", (at_zero,))))
    return Node("div", (Node("add", (value, Node("neg", (at_zero,)))), slope))


_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "!=": "!="}


def _is_bound(node: Node) -> bool:
    inner = node.parts[0] if node.op == "neg" else node
    return (inner.op == "const" and inner.name == "oo") or is_constant(node)


def _of_list(node: Node) -> Region | None:
    """``x < 1 or x > 2`` is a union, ``x > 1 and x < 2`` (or with a comma) an intersection."""
    intervals = node.name == "or" and all(part.op == "tuple" for part in node.parts)
    regions = [region(part, brackets_are_intervals=intervals) for part in node.parts]
    if any(member is None or not (member.variable or intervals) for member in regions):
        return None
    if node.name != "or" and any(part.name == "=" for part in node.parts):
        return None  # x = 1, x = 2 are two values, not a contradiction
    join: Callable[[mpnumeric, mpnumeric], mpnumeric] = _joined if node.name == "or" else _meeting
    return functools.reduce(lambda a, b: None if a is None or b is None else join(a, b), regions)


def _of_builder(node: Node) -> Region | None:
    """``{x | x > 3}`` and ``{x in R | x > 3}``."""
    variable, *conditions = node.parts
    if variable.op == "rel" and variable.name == "in":
        conditions.append(variable)
        variable = variable.parts[0]
    regions = [region(condition) for condition in conditions]
    if variable.op != "sym" or any(part is None or part.variable != variable.name for part in regions):
        return None
    whole = functools.reduce(lambda a, b: None if a is None or b is None else _meeting(a, b), regions)
    return None if whole is None else Region(whole.pieces)


_READERS: dict[str, Callable[[Node], Region | None]] = {
    "tuple": _of_tuple,
    "domain": _of_domain,
    "set": _of_set,
    "setop": _of_operation,
    "rel": _of_relation,
    "list": _of_list,
    "builder": _of_builder,
}


# ---------------------------------------------------------------------------------------------- numbers on the line


def _value(bound: Node) -> mpnumeric:
    """A bound as a number. Raises Undefined for a bound with variables."""
    mp = context()
    if bound == _INFINITY:
        return mp.inf
    if bound == _MINUS_INFINITY:
        return -mp.inf
    value = evaluate(bound, {})
    if mp.im(value) != 0:
        raise Undefined
    return mp.nint(value * mp.mpf(10) ** 30) / mp.mpf(10) ** 30  # equal bounds in two notations become one number


def _ends(piece: Piece) -> tuple[mpnumeric, mpnumeric]:
    return _value(piece.low), _value(piece.high)


def _joined(left: Region | None, right: Region | None) -> Region | None:
    if left is None or right is None or (left.variable and right.variable and left.variable != right.variable):
        return None
    pieces = (*left.pieces, *right.pieces)
    with contextlib.suppress(Undefined):  # bounds with variables: the pieces stay as written
        pieces = tuple(_merged(pieces))
    return Region(pieces, left.variable or right.variable)


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces sorted, without empty ones; pieces that overlap or touch are joined."""
    ordered = sorted((p for p in pieces if not _is_empty(p)), key=lambda p: (_value(p.low), not p.has_low))
    merged: list[Piece] = []
    for piece in ordered:
        if merged:
            last = merged[-1]
            low, end = _value(piece.low), _value(last.high)
            if low < end or (low == end and (piece.has_low or last.has_high)):
                high = _value(piece.high)
                if high > end or (high == end and piece.has_high):
                    merged[-1] = Piece(last.low, last.has_low, piece.high, piece.has_high)
                continue
        merged.append(piece)
    return merged


def _is_empty(piece: Piece) -> bool:
    low, high = _ends(piece)
    return bool(low > high or (low == high and not (piece.has_low and piece.has_high)))


def _complement(given: Region | None) -> Region | None:
    if given is None:
        return None
    try:
        pieces = _merged(given.pieces)
    except Undefined:
        return None
    low, has_low, gaps = _MINUS_INFINITY, False, []
    for piece in pieces:
        gaps.append(Piece(low, has_low, piece.low, not piece.has_low))
        low, has_low = piece.high, not piece.has_high
    gaps.append(Piece(low, has_low, _INFINITY, False))
    return Region(tuple(_merged([p for p in gaps if p.low != _INFINITY and p.high != _MINUS_INFINITY])), given.variable)


def _meeting(left: Region | None, right: Region | None) -> Region | None:
    """The intersection, by De Morgan's rule."""
    if left is None or right is None or (left.variable and right.variable and left.variable != right.variable):
        return None
    if len(left.pieces) == len(right.pieces) == 1 and not all(map(_is_bound, _bounds(left) + _bounds(right))):
        return _symbolic_meeting(left, right)
    common = _complement(_joined(_complement(left), _complement(right)))
    return None if common is None else Region(common.pieces, left.variable or right.variable)


def _bounds(given: Region) -> tuple[Node, ...]:
    return tuple(bound for piece in given.pieces for bound in (piece.low, piece.high))


def _symbolic_meeting(left: Region, right: Region) -> Region | None:
    """Joins a < x and x < b, where a and b are not numbers: each side gives one bound."""
    one, other = left.pieces[0], right.pieces[0]
    if one.low == _MINUS_INFINITY:
        one, other = other, one
    if one.high != _INFINITY or other.low != _MINUS_INFINITY:
        return None
    return Region((Piece(one.low, one.has_low, other.high, other.has_high),), left.variable or right.variable)


def is_empty(given: Region) -> bool:
    """Whether a region certainly contains no number."""
    try:
        return not _merged(given.pieces)
    except Undefined:
        return False


def same_region(gold: Region, answer: Region, same_bound: Callable[[Node, Node], bool | None]) -> bool | None:
    """Whether two regions are the same set of numbers; variables named on both sides must be the same."""
    if gold.variable and answer.variable and gold.variable != answer.variable:
        return False
    try:
        ours, theirs = _merged(gold.pieces), _merged(answer.pieces)
    except Undefined:
        ours, theirs = list(gold.pieces), list(answer.pieces)
    if len(ours) != len(theirs):
        return False
    return all_of(_same_piece(a, b, same_bound) for a, b in zip(ours, theirs, strict=True))


def _same_piece(ours: Piece, theirs: Piece, same_bound: Callable[[Node, Node], bool | None]) -> bool | None:
    if (ours.has_low, ours.has_high) != (theirs.has_low, theirs.has_high):
        return False
    return all_of(same_bound(a, b) for a, b in ((ours.low, theirs.low), (ours.high, theirs.high)))
