r"""Answers with several values: lists, assignments, vectors, matrices, plus-minus, an ellipsis; each as one plain form."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence

from rlvr_bench.verifiers.mathematics.evaluating import exact
from rlvr_bench.verifiers.mathematics.trees import Node, counted, names, substituted, walk
from rlvr_bench.verifiers.mathematics.wording import is_label

__all__ = [
    "RULERS",
    "SHAPES",
    "as_system",
    "as_vector",
    "assigned",
    "assigned_values",
    "chained",
    "expanded",
    "has_dots",
    "is_name",
    "members",
    "named_tuple",
    "numbered",
    "one_kind",
    "one_name",
    "progression",
    "rows",
    "solution_values",
    "sorted_assignments",
    "written_out",
]

SHAPES = frozenset(("tuple", "set", "list", "matrix", "cases", "builder", "setop", "domain", "text", "phrase", "dots"))
RULERS = frozenset(("rel", "mod", "ratio"))


def members(node: Node) -> tuple[Node, ...]:
    return node.parts if node.op in ("set", "list") else (node,)


def has_dots(parts: Iterable[Node]) -> bool:
    return any(part.op == "dots" for part in parts)


def progression(parts: Sequence[Node]) -> list[Node] | None:
    """First term, step and last term of an arithmetic progression with an ellipsis; None if it is no progression."""
    dots = [index for index, part in enumerate(parts) if part.op == "dots"]
    if not dots:
        return list(parts)
    known = [exact(part) for part in parts[: dots[0]]]
    if len(dots) > 1 or len(known) < 2 or None in known or dots[0] < len(parts) - 2:
        return None
    steps = {b - a for a, b in itertools.pairwise(known)}  # type: ignore[operator]
    if len(steps) > 1:
        return None
    return [parts[0], Node("num", name="step", value=steps.pop()), *parts[dots[0] + 1 :]]


_MAX_WRITTEN_OUT = 200


def written_out(parts: Sequence[Node]) -> Sequence[Node]:
    """The terms that an ellipsis replaces, where they are few and the last one is known."""
    if not has_dots(parts):
        return parts
    values = [exact(part) for part in progression(parts) or ()]
    if len(values) != 3 or None in values or not values[1]:
        return parts
    first, step, last = values
    count = (last - first) / step + 1  # type: ignore[operator]
    if count.denominator != 1 or not 0 < count <= _MAX_WRITTEN_OUT:
        return parts
    terms = (first + step * index for index in range(int(count)))  # type: ignore[operator]
    return [counted(term) for term in terms]


def is_name(node: Node) -> bool:
    """Whether a node can be the left-hand side of a definition: a letter, f(x), a length, words."""
    if node.op in ("text", "phrase"):
        return is_label(node)
    if node.op in ("sym", "letters", "call", "tuple", "const"):
        return True
    if node.op in ("setop", "pow"):
        return node.parts[0].op in ("sym", "letters")
    if node.op == "fun" and node.name == "abs":
        return is_name(node.parts[0])
    if node.op == "div":
        return all(part.op == "sym" and part.name.startswith("d") for part in node.parts)
    return node.op == "opaque" and len(node.parts) == 1 and is_name(node.parts[0])


def assigned(parts: Sequence[Node]) -> bool:
    """Whether every item gives a different variable a value: x = 1, y = 2."""
    lefts = [part.parts[0].name for part in parts if part.op == "rel" and part.name == "=" and is_name(part.parts[0])]
    return len(lefts) == len(parts) > 1 and len({_without_index(name) for name in lefts}) == len(parts)


def _without_index(name: str) -> str:
    """The name without a numeric subscript: x_1 and x_2 are two solutions for x."""
    head, mark, tail = name.partition("_")
    return head if mark and tail.isdigit() else name


_FAMILIES = tuple(frozenset(letters) for letters in ("abcd", "xyzw", "mn", "pqrs", "uvw", "ijk"))


def sorted_assignments(parts: Sequence[Node]) -> list[Node]:
    """Assignments in the order of their names; in the written order where the names have no usual order."""
    letters = {part.parts[0].name.partition("_")[0] for part in parts}
    numbered = all("_" in part.parts[0].name for part in parts)
    if not numbered and not any(letters <= family for family in _FAMILIES):
        return list(parts)
    return sorted(parts, key=lambda part: part.parts[0].name)


def assigned_values(parts: Sequence[Node]) -> Sequence[Node]:
    return [part.parts[-1] for part in sorted_assignments(parts)] if assigned(parts) else parts


_UNKNOWNS = frozenset(("x", "z", "t", "r", "\\lambda", "\\theta"))


def numbered(parts: Sequence[Node]) -> bool:
    """Whether every item gives a numbered letter a value, and the letter is no unknown: a_1 = 1, a_2 = 2."""
    names_ = [
        part.parts[0].name for part in parts if part.op == "rel" and part.name == "=" and part.parts[0].op == "sym"
    ]
    stems = {name.partition("_")[0] for name in names_}
    return len(names_) == len(parts) > 1 and all("_" in name for name in names_) and not stems <= _UNKNOWNS


def solution_values(parts: Sequence[Node], others: Sequence[Node]) -> Sequence[Node]:
    """Reads x = 1, x = 2 as 1, 2, where the other side has no names or numbered ones."""
    named = [part for part in parts if part.op == "rel" and part.name == "=" and is_name(part.parts[0])]
    stems = {_without_index(part.parts[0].name) for part in named}
    bare = not any(other.op == "rel" for other in others)
    numbered = all("_" in part.parts[0].name for part in named)
    if not named or len(stems) > 1 or not (bare or (numbered and stems <= _UNKNOWNS)):
        return parts
    return [part.parts[-1] if part in named else part for part in parts]


def chained(node: Node, other: Node) -> Node:
    """Reads a = b = 2 as a = 2, b = 2, where the other side gives several values."""
    several = other.op in ("list", "tuple") or (other.op == "rel" and other.parts[0].op == "tuple")
    is_chain = node.op == "rel" and set(node.name.split()) == {"="} and len(node.parts) > 2
    if not (several and is_chain) or any(side.op != "sym" for side in node.parts[:-1]):
        return node
    return Node("list", tuple(Node("rel", (side, node.parts[-1]), "=") for side in node.parts[:-1]), ",")


_UNIT_VECTORS = ("hat i", "hat j", "hat k")


def as_vector(node: Node, other: Node) -> Node:
    """2 i - 5 k, with unit vectors, as (2, 0, -5), where the other side is a tuple or a column."""
    if node.op == "mul" and node.parts[1].op == "tuple" and other.op in ("tuple", "matrix"):
        return node.parts[1]._replace(parts=tuple(Node("mul", (node.parts[0], part)) for part in node.parts[1].parts))
    size = len(other.parts) if other.op in ("tuple", "matrix") else 0
    if not 2 <= size <= 3 or node.op in SHAPES | RULERS or not names(node) & set(_UNIT_VECTORS[:size]):
        return node
    at_zero = functools.reduce(lambda tree, name: substituted(tree, name, counted(0)), _UNIT_VECTORS, node)
    if exact(at_zero) != 0:
        return node
    axes = []
    for axis in _UNIT_VECTORS[:size]:
        value = functools.reduce(
            lambda tree, name: substituted(tree, name, counted(int(name == axis))), _UNIT_VECTORS, node
        )
        axes.append(value)
    return Node("tuple", tuple(axes), "()")


def one_name(ours: Node, theirs: Node) -> bool:
    """Whether two left-hand sides have the same name: M and M_min, N(n) and N."""
    if not {ours.op, theirs.op} <= {"sym", "call"} or ours.op == theirs.op == "call":
        return False
    stems = {side.name.partition("_")[0] for side in (ours, theirs)}
    return len(stems) == 1 and ("_" not in ours.name or "_" not in theirs.name)


def one_kind(ours: Node, theirs: Node) -> bool:
    """Whether both are sets, or neither is."""
    return (ours.op == "set") == (theirs.op == "set")


def named_tuple(node: Node, other: Node) -> Node:
    """Reads (x, y) = (1, 2) as x = 1, y = 2, and name = collection as the collection."""
    if node.op == "rel" and node.name == "in" and node.parts[1].op == "set":
        return node.parts[1]
    if node.op != "rel" or set(node.name.split()) != {"="}:
        return node
    left, right = node.parts[0], node.parts[-1]
    if left.op == right.op == "tuple" and len(left.parts) == len(right.parts):
        if other.op == "tuple" or (other.op == "list" and not assigned(other.parts)):
            return right
        pairs = zip(left.parts, right.parts, strict=True)
        return Node("list", tuple(Node("rel", pair, "=") for pair in pairs), ",")
    return right if is_name(left) else node


def expanded(node: Node) -> Node:
    r"""``1 \pm 2`` as its two values, also for such items in a list or a set."""
    if node.op in ("list", "set"):
        parts = tuple(value for part in node.parts for value in _signs(part))
        return node._replace(parts=parts)
    values = _signs(node)
    return node if len(values) == 1 else Node("list", tuple(values), ",")


def _signs(node: Node) -> list[Node]:
    if node.op in SHAPES - {"tuple"} or not any(part.op == "pm" for part in walk(node)):
        return [node]
    return [_with_sign(node, sign) for sign in "+-"]


def _with_sign(node: Node, sign: str) -> Node:
    if node.op == "pm":
        inner = _with_sign(node.parts[0], sign)
        return inner if node.name == sign else Node("neg", (inner,))
    return node._replace(parts=tuple(_with_sign(part, sign) for part in node.parts)) if node.parts else node


def rows(node: Node) -> list[list[Node]] | None:
    """The cells of a matrix, by row; a tuple counts as a column or row, and a number times a matrix as a matrix."""
    if node.op == "matrix":
        cells = [list(row.parts) for row in node.parts]
        return [[cell] for cell in cells[0]] if len(cells) == 1 else cells
    if node.op == "tuple":
        return [[part] for part in node.parts]
    if node.op == "mul" and node.parts[1].op == "matrix":
        inner = rows(node.parts[1]) or []
        return [[Node("mul", (node.parts[0], cell)) for cell in row] for row in inner]
    if node.op == "neg":
        negated = rows(node.parts[0])
        return None if negated is None else [[Node("neg", (cell,)) for cell in row] for row in negated]
    return None


def as_system(node: Node) -> Node | None:
    if node.op != "cases":
        return node
    if any(len(row.parts) != 1 for row in node.parts):
        return None
    return Node("list", tuple(row.parts[0] for row in node.parts), ",")
