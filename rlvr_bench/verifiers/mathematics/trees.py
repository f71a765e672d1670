r"""The tree of an answer.

A node's ``op`` is its kind; ``parts`` are its children, and ``name`` distinguishes nodes of one kind:

======================  =====================================================================================
num, sym, letters       a number (``value``; ``name`` as written), a variable, adjacent capital letters
const                   pi, e, i, oo
add, mul, div, pow      arithmetic; also neg, fact, percent, pm (``name`` is + for ± and - for ∓)
fun                     a known function of its parts; ``call``: an unknown one, or a product of a letter and a bracket
opaque                  a node with parts and without a value: a sum, a limit, a vector, a conjugate
tuple, list, set        parts in round or square brackets (``name``), without brackets (``name``: , or "or"), in braces
builder, setop, domain  {x | ...}; union, intersection, difference (``name``); a named set such as R
rel                     a chain of sides; ``name`` holds the relation signs between them, separated by blanks
matrix, row, cases      a matrix of rows, and a case distinction
ratio, mod, dots, text  a : b, "b modulo m", an ellipsis, words
phrase                  parts of text and mathematics in the order in which they were written
======================  =====================================================================================
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

__all__ = ["Node", "counted", "is_constant", "names", "points_of", "renamed", "substituted", "walk"]


class Node(NamedTuple):
    """One node of a tree; the module's docstring lists the values of ``op``."""

    op: str
    parts: tuple[Node, ...] = ()
    name: str = ""
    value: Fraction = Fraction(0)


def walk(node: Node) -> Iterator[Node]:
    """A node and all its descendants."""
    yield node
    for part in node.parts:
        yield from walk(part)


@functools.lru_cache(maxsize=4096)
def names(node: Node) -> frozenset[str]:
    """The variables of an expression: symbols, unknown functions (as ``name()``), capital letters one by one."""
    variables: set[str] = set()
    for part in walk(node):
        if part.op == "sym":
            variables.add(part.name)
        elif part.op == "letters":
            variables.update(points_of(part.name))
        elif part.op == "call":
            variables.add(part.name + "()")
    return frozenset(variables - _summed(node))


def _summed(node: Node) -> set[str]:
    """Variables that only count the terms of a sum or product."""
    return {part.parts[0].name for part in walk(node) if part.op in ("sum", "prod")}


def points_of(name: str) -> list[str]:
    """The single letters of adjacent capitals; a name with an accent, a subscript or a prime stays whole."""
    return [name] if " " in name or "_" in name or "'" in name else list(name)


def is_constant(node: Node) -> bool:
    """Whether an expression has no variables, no unknown functions and no parts without a value."""
    return not names(node) and not any(part.op in ("opaque", "domain", "dots") for part in walk(node))


def renamed(node: Node, name: str, new: Node) -> Node:
    """An expression in which ``new`` replaces a letter, in subscripts too."""
    if node.op in ("sym", "const"):
        if node.name == name:
            return new
        head, mark, tail = node.name.rpartition("_")
        return node._replace(name=f"{head}_{new.name}") if mark and tail == name else node
    return node._replace(parts=tuple(renamed(part, name, new) for part in node.parts)) if node.parts else node


def substituted(node: Node, name: str, new: Node) -> Node:
    """An expression in which ``new`` replaces a symbol."""
    if node.op == "sym":
        return new if node.name == name else node
    return node._replace(parts=tuple(substituted(part, name, new) for part in node.parts)) if node.parts else node


def counted(number: int | Fraction) -> Node:
    """A number as a node."""
    return Node("num", name=str(number), value=Fraction(number))
