"""Which kind of answer a tree is."""

from __future__ import annotations

from rlvr_bench.verifiers.mathematics.several import SHAPES
from rlvr_bench.verifiers.mathematics.trees import Node, walk

__all__ = ["infinity_sign", "is_collection", "is_plain_infinity", "is_region_only"]


def infinity_sign(node: Node) -> str:
    """The sign of infinity, "+" or "-"; empty for any other node."""
    if node.op == "const" and node.name == "oo":
        return "+"
    return {"+": "-", "-": "+"}.get(infinity_sign(node.parts[0]), "") if node.op == "neg" else ""


def is_plain_infinity(node: Node) -> bool:
    """Whether infinity is alone or a bound, so that nothing was computed with it."""
    return not any(
        part.op in ("add", "mul", "div", "pow", "fun") and any(map(infinity_sign, part.parts)) for part in walk(node)
    )


def is_collection(node: Node) -> bool:
    """Whether it has several members, or is an equation with a side that has them."""
    return node.op in SHAPES or (
        node.op == "rel" and any(side.op in SHAPES for side in node.parts) and "=" in node.name
    )


def is_region_only(node: Node) -> bool:
    """Whether it can only be a set of real numbers: an interval, an inequality, a union."""
    if node.op in ("setop", "domain", "builder"):
        return True
    if node.op == "tuple":
        return node.name not in ("()", "[]") or (node.name == "[]" and len(node.parts) == 2)
    if node.op == "rel":
        return not set(node.name.split()) & {"=", "mod", "to"}
    return node.op == "list" and any(part.op == "rel" and part.name != "=" for part in node.parts)
