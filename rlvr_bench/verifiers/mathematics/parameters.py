"""Letters that mean any integer, and derivatives in two notations: gives them the same name on both sides."""

from __future__ import annotations

import re

from rlvr_bench.verifiers.mathematics.agreeing import agree, values_agree
from rlvr_bench.verifiers.mathematics.evaluating import Undefined, context, evaluate
from rlvr_bench.verifiers.mathematics.rational import Tolerance
from rlvr_bench.verifiers.mathematics.trees import Node, names, substituted

__all__ = ["ANY_INTEGER", "bound_letters", "primed", "same_multiples", "with_membership", "without_argument"]

ANY_INTEGER = "@Z0"


_INTEGER_WORDS = re.compile(
    r"(?:for |where |with )?(?:all |any |every |each |some |an? |is (?:an? )?(?:any )?|are (?:any )?|is an arbitrary )*"
    r"integers?"
)


def with_membership(node: Node) -> Node:
    """Reads ``for any integer n`` and ``where n is an integer`` as n in Z."""
    if node.op != "phrase" or len(node.parts) not in (3, 4):
        return node
    texts = " ".join(part.name for part in node.parts if part.op == "text")
    letters = [part for part in node.parts[1:] if part.op == "sym"]
    if len(letters) != 1 or not _INTEGER_WORDS.fullmatch(texts) or node.parts[0].op == "text":
        return node
    return Node("list", (node.parts[0], Node("rel", (letters[0], Node("domain", name="Z")), "in")), ",")


def same_multiples(gold: Node, answer: Node) -> bool | None:
    """Compares a k + b and c k + d over all integers k: equal steps, and b - d a multiple of the step."""
    mp = context()
    others = (names(gold) | names(answer)) - {ANY_INTEGER}
    if others:
        return agree(gold, answer, Tolerance())
    try:
        (a0, a1, a2), (b0, b1, b2) = (
            [evaluate(side, {ANY_INTEGER: mp.mpf(value)}) for value in (0, 1, 2)] for side in (gold, answer)
        )
    except Undefined:
        return None
    if not (values_agree(a1 - a0, a2 - a1) and values_agree(b1 - b0, b2 - b1)):
        return agree(gold, answer, Tolerance())
    if not values_agree(abs(a1 - a0), abs(b1 - b0)):
        return False
    multiple = (a0 - b0) / (a1 - a0)
    return bool(abs(multiple - mp.nint(mp.re(multiple))) < mp.mpf(10) ** -40)


def without_argument(node: Node, other: Node) -> Node:
    """A function of time without its argument, where the other side writes it so: x(t) and x."""
    if node.op == "call" and len(node.parts) == 1 and node.parts[0].op == "sym":
        bare, written = names(other), node.name in names(other) or any("/" in name for name in names(other))
        return Node("sym", name=node.name) if node.name + "()" not in bare and written else node
    return node._replace(parts=tuple(without_argument(part, other) for part in node.parts)) if node.parts else node


def primed(node: Node, other: Node) -> Node:
    """Writes y' as dy/dx, where the other side does."""
    forms = {name for name in names(other) if re.fullmatch(r"D\d+ .+/.+", name)}
    for name in names(node):
        dotted = re.fullmatch(r"(d?dot) (.+)", name)
        bare = dotted[2] if dotted else name.rstrip("'")
        order = len(dotted[1]) - 2 if dotted else len(name) - len(bare)
        match = next((form for form in forms if form.startswith(f"D{order} {bare}/")), None)
        if order and match:
            node = substituted(node, name, Node("sym", name=match))
    return node


def bound_letters(node: Node) -> Node:
    """Gives letters that mean any integer the same names on both sides: 2k with k in Z, 2n with n in Z."""
    if node.op not in ("list", "phrase", "builder"):
        return node
    bound = [
        (part.parts[0].name, part.parts[1].name)
        for part in node.parts
        if part.op == "rel" and part.name == "in" and part.parts[0].op == "sym" and part.parts[1].op == "domain"
    ]
    used = names(node.parts[0]) if node.parts and node.parts[0].op != "text" else frozenset()
    for index, (name, domain) in enumerate((name, domain) for name, domain in bound if name in used):
        node = substituted(node, name, Node("sym", name=f"@{domain}{index}"))
    return node
