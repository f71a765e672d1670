r"""Whether two answers, read as trees, are the same answer: True, False, or None where that is unknown.

Each kind of answer has its rule: order counts in tuples and not in sets, equations are compared by their solutions and not by
their form, words must agree. Nothing here guesses: a case without a rule gives None and goes to math-verify.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from rlvr_bench.verifiers.mathematics.agreeing import agree
from rlvr_bench.verifiers.mathematics.evaluating import exact
from rlvr_bench.verifiers.mathematics.kinds import infinity_sign, is_collection, is_plain_infinity, is_region_only
from rlvr_bench.verifiers.mathematics.parameters import (
    ANY_INTEGER,
    bound_letters,
    primed,
    same_multiples,
    with_membership,
    without_argument,
)
from rlvr_bench.verifiers.mathematics.rational import Tolerance
from rlvr_bench.verifiers.mathematics.regions import is_empty, region, same_region
from rlvr_bench.verifiers.mathematics.relations import SYMMETRIC, difference, outer, proportional, solved, turned
from rlvr_bench.verifiers.mathematics.several import (
    RULERS,
    SHAPES,
    as_system,
    as_vector,
    assigned,
    assigned_values,
    chained,
    expanded,
    has_dots,
    is_name,
    members,
    named_tuple,
    numbered,
    one_kind,
    one_name,
    progression,
    rows,
    solution_values,
    sorted_assignments,
    written_out,
)
from rlvr_bench.verifiers.mathematics.trees import Node, is_constant, names, walk
from rlvr_bench.verifiers.mathematics.verdicts import all_of, any_of, matched
from rlvr_bench.verifiers.mathematics.wording import ignorable, is_label, same_words, unconditioned, without_for_all

__all__ = ["Equality"]

_MAX_ITEMS = 64


class Equality(msgspec.Struct, frozen=True):
    """The rules of one task: when a decimal equals an exact number, and what a percent sign on one side only means."""

    tolerance: Tolerance = Tolerance()
    percent: str = "either"

    def same(self, gold: Node, answer: Node) -> bool | None:
        """Whether ``answer`` is the answer ``gold``."""
        if gold == answer:
            return not any(node.op == "const" and node.name == "oo" for node in walk(gold)) or is_plain_infinity(gold)
        gold, answer = _alike(gold, answer)
        if "phrase" in (gold.op, answer.op) or "text" in (gold.op, answer.op):
            return self._same_phrase(gold, answer)
        if gold.op == "ratio" or answer.op == "ratio":
            return self._same_ratio(gold, answer)
        verdict = self._same_regions(gold, answer)
        if verdict is not None:
            return verdict
        gold, answer = expanded(gold), expanded(answer)
        if is_collection(gold) or is_collection(answer):
            return self._same_collection(gold, answer)
        return self._same_single(gold, answer)

    # ----------------------------------------------------------------------------------------------- words, ratios

    def _same_phrase(self, gold: Node, answer: Node) -> bool | None:
        """Words and mathematics in turn; words on one side only must be a label or the name of what is counted."""
        ours, theirs = _parts(gold), _parts(answer)
        if [part.op == "text" for part in ours] == [part.op == "text" for part in theirs]:
            return all_of(
                same_words(a.name, b.name) if a.op == "text" else self.same(a, b)
                for a, b in zip(ours, theirs, strict=True)
            )
        bare = ignorable(ours), ignorable(theirs)
        if bare[0] is None or bare[1] is None or (bare[0] == gold and bare[1] == answer):
            return False
        return self.same(bare[0], bare[1])

    def _same_ratio(self, gold: Node, answer: Node) -> bool | None:
        """The ratio a : b is a/b; longer ratios may differ by a factor. A ratio equals only a ratio or a quotient."""
        if gold.op != answer.op:
            ratio, other = (gold, answer) if gold.op == "ratio" else (answer, gold)
            if len(ratio.parts) != 2 or other.op in SHAPES | RULERS:
                return False
            quotient = Node("div", ratio.parts)
            return self._agree(quotient, other) if ratio is gold else self._agree(other, quotient)
        if len(gold.parts) != len(answer.parts):
            return False
        pairs = list(zip(gold.parts, answer.parts, strict=True))
        if any((exact(a) == 0) != (exact(b) == 0) for a, b in pairs) or all(exact(part) == 0 for part in gold.parts):
            return gold == answer
        return all_of(
            self._agree(Node("mul", (a, d)), Node("mul", (c, b))) for (a, b), (c, d) in itertools.combinations(pairs, 2)
        )

    # ------------------------------------------------------------------------------------------------ sets of numbers

    def _same_regions(self, gold: Node, answer: Node) -> bool | None:
        """Compare as sets of real numbers, if one side can only be one. None where this rule does not apply."""
        if not (is_region_only(gold) or is_region_only(answer)):
            return None
        ours, theirs = region(gold), region(answer)
        if ours is None or theirs is None:
            return None
        if gold.op == "set" and answer.op == "set":
            return None
        if any(
            node.op == "tuple" and node.name == "()" and is_empty(numbers)
            for node, numbers in ((gold, ours), (answer, theirs))
        ):
            return None  # a point such as (2, 1)
        return same_region(ours, theirs, self.same)

    # ---------------------------------------------------------------------------------------------------- collections

    def _same_collection(self, gold: Node, answer: Node) -> bool | None:
        gold, answer = chained(gold, answer), chained(answer, gold)
        gold, answer = named_tuple(gold, answer), named_tuple(answer, gold)
        gold, answer = as_vector(gold, answer), as_vector(answer, gold)
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
        if gold.op not in ("list", "set") and answer.op not in ("list", "set"):
            return self._same_single(gold, answer)
        return self._same_list(gold, answer)

    def _same_list(self, gold: Node, answer: Node) -> bool | None:
        """Values in any order; in braces equal values count once."""
        ours: Sequence[Node] = members(chained(gold, answer))
        theirs: Sequence[Node] = members(chained(answer, gold))
        if has_dots(ours) or has_dots(theirs):
            return self._same_progression(ours, theirs)
        if gold.op == "set" or answer.op == "set":
            ours, theirs = self._distinct(ours), self._distinct(theirs)
        if assigned(ours) and assigned(theirs) and len(ours) == len(theirs) and gold.name == answer.name:
            ours, theirs = sorted_assignments(ours), sorted_assignments(theirs)
        elif assigned(ours) and assigned(theirs):
            return False  # x = 1 or y = 2 is not x = 1, y = 2
        elif numbered(ours) or numbered(theirs):
            return self._in_order(*(_values(parts) for parts in (ours, theirs)))
        elif (assigned(ours) or assigned(theirs)) and not any(
            part.op == "rel" for part in (theirs if assigned(ours) else ours)
        ):
            return self._in_order(assigned_values(ours), assigned_values(theirs))
        else:
            ours, theirs = solution_values(ours, theirs), solution_values(theirs, ours)
        return self._any_order(ours, theirs)

    def _same_progression(self, ours: Sequence[Node], theirs: Sequence[Node]) -> bool | None:
        """Lists with an ellipsis: term by term, or the same first term, step and last term."""
        verdict = self._in_order(ours, theirs)
        steps = [progression(parts) for parts in (ours, theirs)]
        if verdict or steps[0] is None or steps[1] is None:
            return verdict
        if any(not has_dots(parts) for parts in (ours, theirs)):
            return self._any_order(*(written_out(parts) for parts in (ours, theirs)))
        return self._in_order(steps[0], steps[1])

    def _in_order(self, ours: Sequence[Node], theirs: Sequence[Node]) -> bool | None:
        if len(ours) != len(theirs):
            return False
        return all_of(self.same(a, b) for a, b in zip(ours, theirs, strict=True))

    def _any_order(self, ours: Sequence[Node], theirs: Sequence[Node]) -> bool | None:
        if len(ours) != len(theirs):
            return False
        if len(ours) > _MAX_ITEMS:
            return self._in_order(ours, theirs)
        return matched(ours, theirs, lambda a, b: self.same(a, b) if one_kind(a, b) else False)

    def _distinct(self, parts: Sequence[Node]) -> Sequence[Node]:
        if len(parts) > _MAX_ITEMS:
            return parts
        distinct: list[Node] = []
        for part in parts:
            if not any(self.same(part, other) for other in distinct):
                distinct.append(part)
        return distinct

    def _same_tuple(self, gold: Node, answer: Node) -> bool | None:
        """Order counts. A list without brackets, or assignments in the order of their names, may replace a tuple."""
        if gold.op == answer.op == "tuple" and gold.name != answer.name:
            return False
        if "set" in (gold.op, answer.op) or "or" in (gold.name, answer.name):
            return False
        if gold.op != answer.op and not {gold.op, answer.op} <= {"tuple", "list"}:
            return False
        if "tuple" in (gold.op, answer.op) and gold.op != answer.op and "()" not in (gold.name, answer.name):
            return False
        ours, theirs = assigned_values(gold.parts), assigned_values(answer.parts)
        return self._in_order(ours, theirs)

    def _same_matrix(self, gold: Node, answer: Node) -> bool | None:
        ours, theirs = rows(gold), rows(answer)
        if ours is None or theirs is None:
            return False
        if [len(row) for row in ours] != [len(row) for row in theirs]:
            return False
        return self._in_order(list(itertools.chain(*ours)), list(itertools.chain(*theirs)))

    def _same_cases(self, gold: Node, answer: Node) -> bool | None:
        """A system of equations is a list of equations; a case distinction is its cases in any order."""
        if gold.op == answer.op:
            if len(gold.parts) != len(answer.parts):
                return False
            return matched(gold.parts, answer.parts, lambda a, b: self._in_order(a.parts, b.parts))
        ours, theirs = as_system(gold), as_system(answer)
        return False if ours is None or theirs is None else self.same(ours, theirs)

    def _same_builder(self, gold: Node, answer: Node) -> bool | None:
        if gold.op != answer.op:
            return None
        return all_of((self.same(gold.parts[0], answer.parts[0]), self._any_order(gold.parts[1:], answer.parts[1:])))

    def _same_structure(self, gold: Node, answer: Node) -> bool | None:
        if gold.op != answer.op:
            return False if "dots" in (gold.op, answer.op) else None
        if gold.name != answer.name:
            return False if gold.op == "domain" else None
        verdict = self._in_order(gold.parts, answer.parts)
        if verdict is not True and gold.name in ("union", "intersection"):
            turned = self._in_order(gold.parts, answer.parts[::-1])
            return True if turned else None
        return verdict if verdict else None

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
        if is_gold and (not is_name(relation.parts[0]) or {side.op for side in relation.parts} == {"letters"}):
            return False
        last = relation.parts[-1]
        if is_gold:
            return self.same(last, value)
        if relation.parts[0].op in ("text", "phrase") and not is_label(relation.parts[0]):
            return False
        return self.same(value, last)

    def _is_consistent(self, relation: Node) -> bool:
        """Whether the constant sides of a chain of equations are equal: 43 = 42 states nothing."""
        constants = [side for side in relation.parts if side.op not in SHAPES | RULERS and is_constant(side)]
        return all(agree(a, b, Tolerance(places=3)) is not False for a, b in itertools.pairwise(constants))

    def _same_expressions(self, gold: Node, answer: Node) -> bool | None:
        percent = gold.op == "percent", answer.op == "percent"
        if percent[0] == percent[1]:
            return self._agree(gold, answer)
        bare = [node.parts[0] if node.op == "percent" else node for node in (gold, answer)]
        verdicts = []
        if self.percent != "sign":
            verdicts.append(self._agree(gold, answer))
        # A bare 0.5 and 0.5 % differ a hundredfold, and both are plausible; a bare 12.5 can only mean 12.5 %.
        value = exact(bare[0])
        if self.percent != "value" and value is not None and (percent[0] or abs(value) >= 1):
            verdicts.append(self._agree(bare[0], bare[1]))
        return any_of(verdicts)

    def _agree(self, gold: Node, answer: Node) -> bool | None:
        if ANY_INTEGER in names(gold) and ANY_INTEGER in names(answer):
            return same_multiples(gold, answer)
        infinite = [infinity_sign(node) for node in (gold, answer)]
        if infinite[0] or infinite[1]:
            return infinite[0] == infinite[1]
        return agree(gold, answer, self.tolerance)

    # ------------------------------------------------------------------------------------------------------ relations

    def _same_relations(self, gold: Node, answer: Node) -> bool | None:
        ours, theirs = turned(gold), turned(answer)
        if set(ours.name.split()) == set(theirs.name.split()) == {"="}:
            return self._same_equations(ours, theirs)
        if ours.name != theirs.name or len(ours.parts) != len(theirs.parts):
            return False
        if ours.name == "mod":
            return all_of(
                (self.same(ours.parts[0], theirs.parts[0]), self._same_residues(ours.parts[1], theirs.parts[1]))
            )
        in_order = self._in_order(ours.parts, theirs.parts)
        if in_order is not True and ours.name in SYMMETRIC:
            in_order = self._in_order(ours.parts, theirs.parts[::-1])
        if in_order is True or len(ours.parts) > 2 or ours.name not in ("<", "<=", "!="):
            return in_order
        return proportional(difference(ours), difference(theirs), positive=ours.name != "!=")

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
        """The same side by side, or with the same solutions: proportional, or one solved for a variable."""
        if not (self._is_consistent(gold) and self._is_consistent(answer)):
            return False
        gold, answer = outer(gold), outer(answer)
        if any(side.op in SHAPES for side in (*gold.parts, *answer.parts)):
            return self._in_order(gold.parts, answer.parts)
        in_order = self._in_order(gold.parts, answer.parts)
        if in_order is True or (is_name(gold.parts[0]) and self.same(gold.parts[0], answer.parts[0])):
            return in_order
        if one_name(gold.parts[0], answer.parts[0]):
            return self.same(gold.parts[1], answer.parts[1])
        if names(gold) != names(answer):
            return False
        verdicts = [
            proportional(difference(gold), difference(answer), positive=False),
            solved(gold, answer),
            solved(answer, gold),
        ]
        return True if True in verdicts else in_order if None in verdicts else False


# --------------------------------------------------------------------------------------------------------- small rules


def _alike(gold: Node, answer: Node) -> tuple[Node, Node]:
    """Both sides in one notation. Conditions on one side only are dropped before letters are renamed."""
    gold, answer = with_membership(without_for_all(gold)), with_membership(without_for_all(answer))
    gold, answer = unconditioned(gold, answer)
    gold, answer = bound_letters(gold), bound_letters(answer)
    gold, answer = without_argument(gold, answer), without_argument(answer, gold)
    return primed(gold, answer), primed(answer, gold)


def _values(parts: Sequence[Node]) -> list[Node]:
    return [part.parts[-1] if part.op == "rel" else part for part in parts]


def _parts(node: Node) -> tuple[Node, ...]:
    return node.parts if node.op == "phrase" else (node,)
