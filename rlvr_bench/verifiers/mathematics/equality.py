r"""Whether two answers, read as trees, are the same answer: True, False, or None where that cannot be told.

Each kind of answer has its rule: order counts in tuples and not in sets, equations are compared by what they say and not by
how they are arranged, words must agree. Nothing here guesses: what no rule covers is None and goes to math-verify.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from rlvr_bench.verifiers.mathematics.agreeing import agree, is_constant, values_agree
from rlvr_bench.verifiers.mathematics.evaluating import Undefined, context, evaluate, exact, names, walk
from rlvr_bench.verifiers.mathematics.expressions import Node
from rlvr_bench.verifiers.mathematics.rational import Tolerance
from rlvr_bench.verifiers.mathematics.regions import region, same_region
from rlvr_bench.verifiers.mathematics.wording import ignorable, is_label, same_words, unconditioned

__all__ = ["Equality"]

_SHAPES = frozenset(("tuple", "set", "list", "matrix", "cases", "builder", "setop", "domain", "text", "phrase", "dots"))
_SYMMETRIC = frozenset(("par", "perp", "cong", "sim"))
_RULERS = frozenset(("rel", "mod", "ratio"))
_MAX_ITEMS = 64


class Equality(msgspec.Struct, frozen=True):
    """The rules of one task: when decimals are exact, and what a percent sign on one side only means."""

    tolerance: Tolerance = Tolerance()
    percent: str = "either"

    def same(self, gold: Node, answer: Node) -> bool | None:
        """Whether ``answer`` is the answer ``gold``."""
        if gold == answer:
            return not any(each.op == "const" and each.name == "oo" for each in walk(gold)) or _is_plain_infinity(gold)
        gold, answer = _bound_letters(_with_membership(gold)), _bound_letters(_with_membership(answer))
        gold, answer = _primed(gold, answer), _primed(answer, gold)
        gold, answer = unconditioned(gold, answer)
        if "phrase" in (gold.op, answer.op) or "text" in (gold.op, answer.op):
            return self._same_phrase(gold, answer)
        if gold.op == "ratio" or answer.op == "ratio":
            return self._same_ratio(gold, answer)
        found = self._same_regions(gold, answer)
        if found is not None:
            return found
        gold, answer = _expanded(gold), _expanded(answer)
        if _is_collection(gold) or _is_collection(answer):
            return self._same_collection(gold, answer)
        return self._same_single(gold, answer)

    # ----------------------------------------------------------------------------------------------- words, ratios

    def _same_phrase(self, gold: Node, answer: Node) -> bool | None:
        """Words and mathematics in turn; extra words on one side only may be a label or what is counted."""
        ours, theirs = _parts(gold), _parts(answer)
        if [part.op == "text" for part in ours] == [part.op == "text" for part in theirs]:
            return _all(
                same_words(a.name, b.name) if a.op == "text" else self.same(a, b)
                for a, b in zip(ours, theirs, strict=True)
            )
        bare = ignorable(ours), ignorable(theirs)
        if bare[0] is None or bare[1] is None or (bare[0] == gold and bare[1] == answer):
            return False
        return self.same(bare[0], bare[1])

    def _same_ratio(self, gold: Node, answer: Node) -> bool | None:
        """a : b is a/b; longer ratios may be multiplied through. A ratio is nothing but a ratio or a quotient."""
        sides = [
            node.parts if node.op == "ratio" else (node, Node("num", name="1", value=exact(node) or 1))
            for node in (gold, answer)
        ]
        if gold.op != answer.op:
            short = gold if gold.op == "ratio" else answer
            other = answer if gold.op == "ratio" else gold
            if len(short.parts) != 2 or other.op in _SHAPES | _RULERS:
                return False
            return self._same_numbers(Node("div", short.parts), other, gold.op == "ratio")
        if len(sides[0]) != len(sides[1]):
            return False
        (first, *ours), (other, *theirs) = sides
        return _all(
            self._agree(Node("mul", (a, other)), Node("mul", (b, first))) for a, b in zip(ours, theirs, strict=True)
        )

    def _same_numbers(self, quotient: Node, other: Node, gold_first: bool) -> bool | None:
        return self._agree(quotient, other) if gold_first else self._agree(other, quotient)

    # ------------------------------------------------------------------------------------------------ sets of numbers

    def _same_regions(self, gold: Node, answer: Node) -> bool | None:
        """Both as sets of real numbers, if one of them can only be one. None where this rule does not apply."""
        if not (_is_region_only(gold) or _is_region_only(answer)):
            return None
        ours, theirs = region(_value_of_membership(gold)), region(_value_of_membership(answer))
        if ours is None or theirs is None:
            return None
        if gold.op == "set" and answer.op == "set":
            return None
        return same_region(ours, theirs, self.same)

    # ---------------------------------------------------------------------------------------------------- collections

    def _same_collection(self, gold: Node, answer: Node) -> bool | None:
        gold, answer = _named_tuple(_chained(gold, answer)), _named_tuple(_chained(answer, gold))
        gold, answer = _as_vector(gold, answer), _as_vector(answer, gold)
        if "matrix" in (gold.op, answer.op):
            return self._same_matrix(gold, answer)
        if "cases" in (gold.op, answer.op):
            return self._same_cases(gold, answer)
        if gold.op == "tuple" or answer.op == "tuple":
            return self._same_tuple(gold, answer)
        if "builder" in (gold.op, answer.op):
            return self._same_builder(gold, answer)
        if any(node.op in ("setop", "domain", "dots") for node in (gold, answer)):
            return self._same_structure(gold, answer)
        return self._same_list(gold, answer)

    def _same_list(self, gold: Node, answer: Node) -> bool | None:
        """Values in any order; in braces each counts once."""
        ours, theirs = _members(_chained(gold, answer)), _members(_chained(answer, gold))
        if _has_dots(ours) or _has_dots(theirs):
            return self._same_progression(ours, theirs)
        if gold.op == "set" or answer.op == "set":
            ours, theirs = self._distinct(ours), self._distinct(theirs)
        if _assigned(ours) and _assigned(theirs) and len(ours) == len(theirs):
            ours, theirs = _sorted_assignments(ours), _sorted_assignments(theirs)
        else:
            ours, theirs = _solution_values(ours, theirs), _solution_values(theirs, ours)
        return self._any_order(ours, theirs)

    def _same_progression(self, ours: Sequence[Node], theirs: Sequence[Node]) -> bool | None:
        """Lists with an ellipsis: term by term, or the same first term, step and last term."""
        found = self._in_order(ours, theirs)
        steps = [_progression(parts) for parts in (ours, theirs)]
        if found or not steps[0] or not steps[1]:
            return found
        if any(not _has_dots(parts) for parts in (ours, theirs)):
            return self._any_order(*(_written_out(parts) for parts in (ours, theirs)))
        return self._in_order(*steps)

    def _in_order(self, ours: Sequence[Node], theirs: Sequence[Node]) -> bool | None:
        if len(ours) != len(theirs):
            return False
        return _all(self.same(a, b) for a, b in zip(ours, theirs, strict=True))

    def _any_order(self, ours: Sequence[Node], theirs: Sequence[Node]) -> bool | None:
        if len(ours) != len(theirs):
            return False
        if len(ours) > _MAX_ITEMS:
            return self._in_order(ours, theirs)
        left, unsure = list(theirs), False
        for each in ours:
            verdicts = [self.same(each, other) if _one_kind(each, other) else False for other in left]
            if True in verdicts:
                left.pop(verdicts.index(True))
            elif None in verdicts:
                unsure = True
            else:
                return False
        return None if unsure else True

    def _distinct(self, parts: Sequence[Node]) -> list[Node]:
        found: list[Node] = []
        for part in parts:
            if not any(self.same(part, other) for other in found):
                found.append(part)
        return found

    def _same_tuple(self, gold: Node, answer: Node) -> bool | None:
        """Order counts. A list without brackets, or assignments in the order of their names, may stand for a tuple."""
        if gold.op == answer.op == "tuple" and gold.name != answer.name:
            return False
        if "set" in (gold.op, answer.op) or "or" in (gold.name, answer.name):
            return False
        if gold.op != answer.op and not {gold.op, answer.op} <= {"tuple", "list"}:
            return False
        if "tuple" in (gold.op, answer.op) and gold.op != answer.op and "()" not in (gold.name, answer.name):
            return False
        ours, theirs = _assigned_values(gold.parts), _assigned_values(answer.parts)
        return self._in_order(ours, theirs)

    def _same_matrix(self, gold: Node, answer: Node) -> bool | None:
        ours, theirs = _rows(gold), _rows(answer)
        if ours is None or theirs is None:
            return False
        if [len(row) for row in ours] != [len(row) for row in theirs]:
            return False
        return self._in_order(list(itertools.chain(*ours)), list(itertools.chain(*theirs)))

    def _same_cases(self, gold: Node, answer: Node) -> bool | None:
        """A system of equations is a list of them; a case distinction is its cases in any order."""
        if gold.op == answer.op:
            if len(gold.parts) != len(answer.parts):
                return False
            left, unsure = list(answer.parts), False
            for row in gold.parts:
                verdicts = [self._in_order(row.parts, other.parts) for other in left]
                if True in verdicts:
                    left.pop(verdicts.index(True))
                elif None in verdicts:
                    unsure = True
                else:
                    return False
            return None if unsure else True
        ours, theirs = _as_system(gold), _as_system(answer)
        return False if ours is None or theirs is None else self.same(ours, theirs)

    def _same_builder(self, gold: Node, answer: Node) -> bool | None:
        if gold.op != answer.op:
            return None
        return _all((self.same(gold.parts[0], answer.parts[0]), self._any_order(gold.parts[1:], answer.parts[1:])))

    def _same_structure(self, gold: Node, answer: Node) -> bool | None:
        if gold.op != answer.op:
            return False if "dots" in (gold.op, answer.op) else None
        if gold.name != answer.name:
            return False if gold.op == "domain" else None
        found = self._in_order(gold.parts, answer.parts)
        if found is not True and gold.name in ("union", "intersection"):
            turned = self._in_order(gold.parts, answer.parts[::-1])
            return True if turned else None
        return found if found else None

    # -------------------------------------------------------------------------------------------------- single values

    def _same_single(self, gold: Node, answer: Node) -> bool | None:
        if gold.op == "rel" and answer.op == "rel":
            return self._same_relations(gold, answer)
        if gold.op == "mod" or answer.op == "mod":
            return self._in_order(gold.parts, answer.parts) if gold.op == answer.op else False
        if gold.op == "rel":
            return self._same_value(gold, answer, is_gold=True)
        if answer.op == "rel":
            return self._same_value(answer, gold, is_gold=False)
        return self._same_expressions(gold, answer)

    def _same_value(self, relation: Node, value: Node, *, is_gold: bool) -> bool | None:
        """``x = 5`` against ``5``. A gold that is an equation in several terms is not its right-hand side."""
        if set(relation.name.split()) == {"in"} and not is_gold:
            return False if relation.parts[1].op != "set" else self.same(value, relation.parts[1])
        if set(relation.name.split()) != {"="} or not self._is_consistent(relation):
            return False
        if is_gold and not _is_name(relation.parts[0]):
            return False
        last = relation.parts[-1]
        if is_gold:
            return self.same(last, value)
        if relation.parts[0].op in ("text", "phrase") and not is_label(relation.parts[0]):
            return False
        return self.same(value, last)

    def _is_consistent(self, relation: Node) -> bool:
        """The constant sides of a chain of equations must be equal: 43 = 42 says nothing."""
        constants = [side for side in relation.parts if side.op not in _SHAPES | _RULERS and is_constant(side)]
        return all(agree(a, b, Tolerance(places=3)) is not False for a, b in itertools.pairwise(constants))

    def _same_expressions(self, gold: Node, answer: Node) -> bool | None:
        percent = gold.op == "percent", answer.op == "percent"
        if percent[0] == percent[1]:
            return self._agree(gold, answer)
        bare = [node.parts[0] if node.op == "percent" else node for node in (gold, answer)]
        verdicts = []
        if self.percent != "sign":
            verdicts.append(self._agree(gold, answer))
        # A bare 0.5 and 0.5 % are a hundredfold apart and both plausible; a bare 12.5 can only mean 12.5 %.
        value = exact(bare[0])
        if self.percent != "value" and (percent[0] or value is None or abs(value) >= 1):
            verdicts.append(self._agree(bare[0], bare[1]))
        return True if True in verdicts else None if None in verdicts else False

    def _agree(self, gold: Node, answer: Node) -> bool | None:
        if _ANY_INTEGER in names(gold) and _ANY_INTEGER in names(answer):
            return _same_multiples(gold, answer)
        infinite = [_infinity(node) for node in (gold, answer)]
        if infinite[0] or infinite[1]:
            return infinite[0] == infinite[1]
        return agree(gold, answer, self.tolerance)

    # ------------------------------------------------------------------------------------------------------ relations

    def _same_relations(self, gold: Node, answer: Node) -> bool | None:
        ours, theirs = _turned(gold), _turned(answer)
        if set(ours.name.split()) == set(theirs.name.split()) == {"="}:
            return self._same_equations(ours, theirs)
        if ours.name != theirs.name or len(ours.parts) != len(theirs.parts):
            return False
        if ours.name == "mod":
            return _all(
                (self.same(ours.parts[0], theirs.parts[0]), self._same_residues(ours.parts[1], theirs.parts[1]))
            )
        in_order = self._in_order(ours.parts, theirs.parts)
        if in_order is not True and ours.name in _SYMMETRIC:
            in_order = self._in_order(ours.parts, theirs.parts[::-1])
        if in_order is True or len(ours.parts) > 2 or ours.name not in ("<", "<=", "!="):
            return in_order
        return _proportional(_difference(ours), _difference(theirs), positive=ours.name != "!=")

    def _same_residues(self, ours: Node, theirs: Node) -> bool | None:
        if ours.op != "mod" or theirs.op != "mod":
            return False
        (a, modulus), (b, other) = ours.parts, theirs.parts
        if self.same(modulus, other) is not True:
            return False
        values = exact(a), exact(b), exact(modulus)
        if None in values or not values[2]:
            return self.same(a, b)
        return (values[0] - values[1]) % values[2] == 0  # type: ignore[operator]

    def _same_equations(self, gold: Node, answer: Node) -> bool | None:
        """The same side by side, or with the same solutions: proportional, or solved for a variable."""
        if not (self._is_consistent(gold) and self._is_consistent(answer)):
            return False
        gold, answer = _outer(gold), _outer(answer)
        if any(side.op in _SHAPES for side in (*gold.parts, *answer.parts)):
            return self._in_order(gold.parts, answer.parts)
        in_order = self._in_order(gold.parts, answer.parts)
        if in_order is True:
            return True
        if names(gold) != names(answer):
            return False
        verdicts = [
            _proportional(_difference(gold), _difference(answer), positive=False),
            _solved(gold, answer),
            _solved(answer, gold),
        ]
        return True if True in verdicts else in_order if None in verdicts else False


# --------------------------------------------------------------------------------------------------------- small rules


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """False if one is, else None if one is, else True; later ones are not computed after a False."""
    unsure = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unsure = unsure or verdict is None
    return None if unsure else True


def _parts(node: Node) -> tuple[Node, ...]:
    return node.parts if node.op == "phrase" else (node,)


def _infinity(node: Node) -> str:
    if node.op == "const" and node.name == "oo":
        return "+"
    return {"+": "-", "-": "+"}.get(_infinity(node.parts[0]), "") if node.op == "neg" else ""


def _is_plain_infinity(node: Node) -> bool:
    """Infinity alone, or as a bound: nothing was computed with it."""
    return not any(
        each.op in ("add", "mul", "div", "pow", "fun") and any(map(_infinity, each.parts)) for each in walk(node)
    )


def _is_collection(node: Node) -> bool:
    return node.op in _SHAPES or (
        node.op == "rel" and any(side.op in _SHAPES for side in node.parts) and "=" in node.name
    )


def _is_region_only(node: Node) -> bool:
    if node.op in ("setop", "domain", "builder"):
        return True
    if node.op == "tuple":
        return node.name not in ("()", "[]") or (node.name == "[]" and len(node.parts) == 2)
    if node.op == "rel":
        return not set(node.name.split()) & {"=", "mod", "to"}
    return node.op == "list" and any(part.op == "rel" and part.name != "=" for part in node.parts)


def _value_of_membership(node: Node) -> Node:
    return node


def _members(node: Node) -> tuple[Node, ...]:
    return node.parts if node.op in ("set", "list") else (node,)


def _has_dots(parts: Iterable[Node]) -> bool:
    return any(part.op == "dots" for part in parts)


def _is_name(node: Node) -> bool:
    """The left-hand side of a definition: a letter, f(x), a length, words."""
    if node.op in ("sym", "letters", "call", "text", "phrase", "tuple", "const"):
        return True
    if node.op == "fun" and node.name == "abs":
        return _is_name(node.parts[0])
    if node.op == "div":
        return all(part.op == "sym" and part.name.startswith("d") for part in node.parts)
    return node.op == "opaque" and len(node.parts) == 1 and _is_name(node.parts[0])


# ------------------------------------------------------------------------------------------------------- assignments


def _assigned(parts: Sequence[Node]) -> bool:
    """Whether every item gives another variable a value: x = 1, y = 2."""
    lefts = [part.parts[0].name for part in parts if part.op == "rel" and part.name == "=" and _is_name(part.parts[0])]
    return len(lefts) == len(parts) > 1 and len({_stem(name) for name in lefts}) == len(parts)


def _stem(name: str) -> str:
    """x_1 and x_2 are two solutions for x."""
    head, mark, tail = name.partition("_")
    return head if mark and tail.isdigit() else name


def _sorted_assignments(parts: Sequence[Node]) -> list[Node]:
    return sorted(parts, key=lambda part: part.parts[0].name)


def _assigned_values(parts: Sequence[Node]) -> Sequence[Node]:
    return [part.parts[-1] for part in _sorted_assignments(parts)] if _assigned(parts) else parts


def _solution_values(parts: Sequence[Node], others: Sequence[Node]) -> Sequence[Node]:
    """x = 1, x = 2 as 1, 2 where the other side has no names, or numbered ones."""
    named = [part for part in parts if part.op == "rel" and part.name == "=" and _is_name(part.parts[0])]
    stems = {_stem(part.parts[0].name) for part in named}
    bare = not any(other.op == "rel" for other in others)
    numbered = all("_" in part.parts[0].name for part in named)
    if not named or len(stems) > 1 or not (bare or numbered):
        return parts
    return [part.parts[-1] if part in named else part for part in parts]


def _chained(node: Node, other: Node) -> Node:
    """a = b = 2 as a = 2, b = 2, where the other side gives several values."""
    several = other.op in ("list", "tuple") or (other.op == "rel" and other.parts[0].op == "tuple")
    is_chain = node.op == "rel" and set(node.name.split()) == {"="} and len(node.parts) > 2
    if not (several and is_chain) or any(side.op != "sym" for side in node.parts[:-1]):
        return node
    return Node("list", tuple(Node("rel", (side, node.parts[-1]), "=") for side in node.parts[:-1]), ",")


_UNIT_VECTORS = ("hat i", "hat j", "hat k")


def _as_vector(node: Node, other: Node) -> Node:
    """2 i - 5 k, with unit vectors, as (2, 0, -5), where the other side is a tuple or a column."""
    size = len(other.parts) if other.op in ("tuple", "matrix") else 0
    if not 2 <= size <= 3 or node.op in _SHAPES | _RULERS or not names(node) & set(_UNIT_VECTORS[:size]):
        return node
    at_zero = functools.reduce(lambda tree, name: _substituted_by(tree, name, 0), _UNIT_VECTORS, node)
    if exact(at_zero) != 0:
        return node
    axes = []
    for axis in _UNIT_VECTORS[:size]:
        value = functools.reduce(lambda tree, name: _substituted_by(tree, name, name == axis), _UNIT_VECTORS, node)
        axes.append(value)
    return Node("tuple", tuple(axes), "()")


def _substituted_by(node: Node, name: str, number: int) -> Node:
    if node.op == "sym":
        return Node("num", name=str(int(number)), value=Fraction(int(number))) if node.name == name else node
    return (
        node._replace(parts=tuple(_substituted_by(part, name, number) for part in node.parts)) if node.parts else node
    )


def _one_kind(ours: Node, theirs: Node) -> bool:
    """A set in a list is not a number in a list."""
    return (ours.op == "set") == (theirs.op == "set")


def _named_tuple(node: Node) -> Node:
    """(x, y) = (1, 2) as x = 1, y = 2, and a name = collection as the collection."""
    if node.op != "rel" or set(node.name.split()) != {"="}:
        return node
    left, right = node.parts[0], node.parts[-1]
    if left.op == right.op == "tuple" and len(left.parts) == len(right.parts):
        pairs = zip(left.parts, right.parts, strict=True)
        values = tuple(Node("rel", pair, "=") for pair in pairs)
        return Node("tuple", tuple(_assigned_values(values)), right.name)
    return right if _is_name(left) else node


# ---------------------------------------------------------------------------------------------- plus-minus, matrices


def _expanded(node: Node) -> Node:
    r"""``1 \pm 2`` as the two values it stands for, in a list or a set that has such items."""
    if node.op in ("list", "set"):
        parts = tuple(value for part in node.parts for value in _signs(part))
        return node._replace(parts=parts)
    values = _signs(node)
    return node if len(values) == 1 else Node("list", tuple(values), ",")


def _signs(node: Node) -> list[Node]:
    if node.op in _SHAPES - {"tuple"} or not any(each.op == "pm" for each in walk(node)):
        return [node]
    return [_with_sign(node, sign) for sign in "+-"]


def _with_sign(node: Node, sign: str) -> Node:
    if node.op == "pm":
        inner = _with_sign(node.parts[0], sign)
        return inner if node.name == sign else Node("neg", (inner,))
    return node._replace(parts=tuple(_with_sign(part, sign) for part in node.parts)) if node.parts else node


def _rows(node: Node) -> list[list[Node]] | None:
    """The cells of a matrix; a tuple counts as a column or row, and a number times a matrix as a matrix."""
    if node.op == "matrix":
        rows = [list(row.parts) for row in node.parts]
        return [[cell] for cell in rows[0]] if len(rows) == 1 else rows
    if node.op == "tuple":
        return [[part] for part in node.parts]
    if node.op == "mul" and node.parts[1].op == "matrix":
        inner = _rows(node.parts[1]) or []
        return [[Node("mul", (node.parts[0], cell)) for cell in row] for row in inner]
    if node.op == "neg":
        negated = _rows(node.parts[0])
        return None if negated is None else [[Node("neg", (cell,)) for cell in row] for row in negated]
    return None


def _as_system(node: Node) -> Node | None:
    if node.op != "cases":
        return node
    if any(len(row.parts) != 1 for row in node.parts):
        return None
    return Node("list", tuple(row.parts[0] for row in node.parts), ",")


# ---------------------------------------------------------------------------------------------- equations, inequalities

_TURN = {">": "<", ">=": "<="}


def _turned(node: Node) -> Node:
    """A chain with its signs pointing to the left."""
    signs = node.name.split()
    if signs and all(sign in _TURN for sign in signs):
        return Node("rel", node.parts[::-1], " ".join(_TURN[sign] for sign in reversed(signs)))
    return node


def _outer(node: Node) -> Node:
    """The first and last side of a chain of equations."""
    return Node("rel", (node.parts[0], node.parts[-1]), "=")


def _difference(relation: Node) -> Node:
    return Node("add", (relation.parts[0], Node("neg", (relation.parts[-1],))))


def _proportional(ours: Node, theirs: Node, *, positive: bool) -> bool | None:
    """Whether two expressions differ by a constant factor (a positive one): 2x - 4 and x - 2."""
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


def _point(variables: frozenset[str], shift: int) -> dict[str, Any]:
    mp = context()
    letters = sorted(name for name in variables if not name.endswith("()"))
    return {
        name: mp.mpf((place * 7 + shift * 5) % 11 + 1) / 3 * (-1) ** (shift * place) + mp.mpf(shift * place) / 7
        for place, name in enumerate(letters)
    }


def _solved(explicit: Node, implicit: Node) -> bool | None:
    """Whether one equation, solved for a variable that the other contains to the first power, solves the other."""
    for left, right in (explicit.parts, explicit.parts[::-1]):
        if left.op == "sym" and left.name not in names(right):
            return _solves(left.name, right, _difference(implicit))
    return False


def _solves(variable: str, solution: Node, difference: Node) -> bool | None:
    mp, checked = context(), 0
    for shift in (0, 1, 2, 3):
        point = _point(names(solution) | names(difference) | {variable}, shift)
        try:
            at_zero, at_one, at_two = (evaluate(difference, {**point, variable: mp.mpf(value)}) for value in (0, 1, 2))
            at_solution = evaluate(difference, {**point, variable: evaluate(solution, point)})
        except Undefined:
            continue
        slope = at_one - at_zero
        if abs(slope) < mp.mpf(10) ** -20 or not values_agree(slope, at_two - at_one):
            return False
        if abs(at_solution) > mp.mpf(10) ** -40 * max(1, abs(slope), abs(at_zero)):
            return False
        checked += 1
    return True if checked >= 2 else None


# --------------------------------------------------------------------------------------------------- bound variables

_ANY_INTEGER = "@Z0"
_INTEGER_WORDS = re.compile(
    r"(?:for |where |with )?(?:all |any |every |each |some |an? |is (?:an? )?(?:any )?|are (?:any )?|is an arbitrary )*integers?"
)


def _with_membership(node: Node) -> Node:
    """ "for any integer n" and "where n is an integer" as n in Z."""
    if node.op != "phrase" or len(node.parts) not in (3, 4):
        return node
    texts = " ".join(part.name for part in node.parts if part.op == "text")
    letters = [part for part in node.parts[1:] if part.op == "sym"]
    if len(letters) != 1 or not _INTEGER_WORDS.fullmatch(texts) or node.parts[0].op == "text":
        return node
    return Node("list", (node.parts[0], Node("rel", (letters[0], Node("domain", name="Z")), "in")), ",")


def _same_multiples(gold: Node, answer: Node) -> bool | None:
    """a k + b and c k + d over all integers k: equal steps, and b - d a multiple of them."""
    mp = context()
    others = (names(gold) | names(answer)) - {_ANY_INTEGER}
    if others:
        return agree(gold, answer, Tolerance())
    try:
        (a0, a1, a2), (b0, b1, b2) = (
            [evaluate(side, {_ANY_INTEGER: mp.mpf(value)}) for value in (0, 1, 2)] for side in (gold, answer)
        )
    except Undefined:
        return None
    if not (values_agree(a1 - a0, a2 - a1) and values_agree(b1 - b0, b2 - b1)):
        return agree(gold, answer, Tolerance())
    if not values_agree(abs(a1 - a0), abs(b1 - b0)):
        return False
    multiple = (a0 - b0) / (a1 - a0)
    return bool(abs(multiple - mp.nint(mp.re(multiple))) < mp.mpf(10) ** -40)


def _primed(node: Node, other: Node) -> Node:
    """y' as dy/dx, where the other side writes it so."""
    forms = {name for name in names(other) if re.fullmatch(r"D\d+ .+/.+", name)}
    for name in names(node):
        bare = name.rstrip("'")
        order = len(name) - len(bare)
        match = next((form for form in forms if form.startswith(f"D{order} {bare}/")), None)
        if order and match:
            node = _substituted(node, name, match)
    return node


def _progression(parts: Sequence[Node]) -> list[Node] | None:
    """First term, step and last term of an arithmetic progression with an ellipsis; None where it is none."""
    places = [place for place, part in enumerate(parts) if part.op == "dots"]
    if not places:
        return list(parts)
    known = [exact(part) for part in parts[: places[0]]]
    if len(places) > 1 or len(known) < 2 or None in known or places[0] < len(parts) - 2:
        return None
    steps = {b - a for a, b in itertools.pairwise(known)}  # type: ignore[operator]
    if len(steps) > 1:
        return None
    return [parts[0], Node("num", name="step", value=steps.pop()), *parts[places[0] + 1 :]]


_MAX_WRITTEN_OUT = 200


def _written_out(parts: Sequence[Node]) -> Sequence[Node]:
    """The terms that an ellipsis stands for, where they are few and the last one is known."""
    if not _has_dots(parts):
        return parts
    found = [exact(part) for part in _progression(parts) or ()]
    if len(found) != 3 or None in found or not found[1]:
        return parts
    first, step, last = found
    count = (last - first) / step + 1  # type: ignore[operator]
    if count.denominator != 1 or not 0 < count <= _MAX_WRITTEN_OUT:
        return parts
    values = (first + step * place for place in range(int(count)))  # type: ignore[operator]
    return [Node("num", name=str(value), value=value) for value in values]


def _bound_letters(node: Node) -> Node:
    """A letter that is only said to be any integer gets the same name on both sides: 2k with k in Z, 2n with n in Z."""
    if node.op not in ("list", "phrase", "builder"):
        return node
    bound = [
        (part.parts[0].name, part.parts[1].name)
        for part in node.parts
        if part.op == "rel" and part.name == "in" and part.parts[0].op == "sym" and part.parts[1].op == "domain"
    ]
    used = names(node.parts[0]) if node.parts and node.parts[0].op != "text" else frozenset()
    for place, (name, domain) in enumerate((name, domain) for name, domain in bound if name in used):
        node = _substituted(node, name, f"@{domain}{place}")
    return node


def _substituted(node: Node, name: str, new: str) -> Node:
    if node.op == "sym":
        return node._replace(name=new) if node.name == name else node
    return node._replace(parts=tuple(_substituted(part, name, new) for part in node.parts)) if node.parts else node
