r"""The readings of an answer: one, or a few where a notation is ambiguous.

``1,234`` is a number or a list, ``2e-3`` is 0.002 or 2·e - 3, ``a/bc`` is a/(bc) or (a/b)c, ``5 m`` is five metres or five
times m. A person takes the reading that fits. So two answers are equal if a reading of one equals a reading of the other.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from rlvr_bench.verifiers.mathematics.expressions import Unreadable, read
from rlvr_bench.verifiers.mathematics.trees import Node, is_constant
from rlvr_bench.verifiers.mathematics.units import split_unit, unit_of

__all__ = ["Reading", "readings", "same_unit"]


class Reading(NamedTuple):
    """The tree of an answer and its unit ("" for none)."""

    node: Node
    unit: str = ""


def same_unit(gold: Reading, answer: Reading) -> bool:
    """Whether the units of two readings agree: no unit agrees with any, "unit" with any, and a percentage has none."""
    if not gold.unit or not answer.unit:
        if "phrase" in (gold.node.op, answer.node.op):
            return _names_unit(gold.node, answer.unit) and _names_unit(answer.node, gold.unit)
        return not ((gold.unit or answer.unit) and "percent" in (gold.node.op, answer.node.op))
    return gold.unit == answer.unit or "unit" in (gold.unit, answer.unit)


def _names_unit(node: Node, unit: str) -> bool:
    """Whether the words of a phrase include this unit ("5.4 cents each"); True where there is no unit."""
    words = [word for part in node.parts if part.op == "text" for word in part.name.split()]
    return node.op != "phrase" or not unit or any(unit_of(word) == unit for word in words)


_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_EULER = re.compile(r"\d\.?e[+-]\d")
_SLASH_PRODUCT = re.compile(r"/\s*(?:\d+\s*[A-Za-z\\({]|[A-Za-z\\({].*?[A-Za-z\d\\({])")
_LABEL = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{\s*\([A-E]\)[\s~]*\}\s*(?=[-\d\\])")  # a choice's letter
_MINUTES = re.compile(r"(\d+)\s*\^\s*\{?\s*\\circ\s*\}?\s*(\d+)\s*(?:'|\^\s*\{?\s*\\prime\s*\}?)")


@functools.lru_cache(maxsize=16384)
def readings(text: str) -> tuple[Reading, ...]:
    """All readings of a tidied answer, the likeliest first; empty where it is not in the grammar."""
    text = _LABEL.sub("", text)
    return tuple(dict.fromkeys(itertools.chain.from_iterable(map(_of_form, _forms(text)))))


def _forms(text: str) -> Iterator[str]:
    text = _MINUTES.sub(lambda m: f"({m[1]}+{m[2]}/60)^\\circ", text) if "circ" in text else text
    if "," in text and _THOUSANDS.search(text):
        yield _THOUSANDS.sub(_joined, text)
        if not (_THOUSANDS.fullmatch(text) and text.count(",") == 1):
            yield text
    else:
        yield text


def _joined(match: re.Match[str]) -> str:
    """A number without its commas; with them where it fills a bracket, because there commas separate."""
    before, after = match.string[: match.start()].rstrip(), match.string[match.end() :].lstrip()
    in_bracket = before.endswith(("(", "[", "\\{")) and after.startswith((")", "]", "\\}"))
    return match[0] if in_bracket else match[0].replace(",", "")


def _of_form(text: str) -> Iterator[Reading]:
    measured, has_unit = split_unit(text), False
    if measured is not None:
        for node in _trees(measured.value):
            if is_constant(_last_side(node)) and not (measured.is_letter and node.op in ("add", "pm")):
                has_unit = True
                yield Reading(node, measured.unit or "unit")
    if measured is None or measured.is_letter or not has_unit:
        for node in _trees(text):
            yield _without_degrees(node)


def _bare_angles(node: Node) -> Node:
    """Angles in a tuple or a list without their degree signs."""
    if node.op == "fun" and node.name == "degree":
        return node.parts[0]
    return node._replace(parts=tuple(map(_bare_angles, node.parts))) if node.op in ("tuple", "list", "set") else node


def _last_side(node: Node) -> Node:
    """The value of ``x = 5``; any other node unchanged."""
    is_definition = node.op == "rel" and node.name == "=" and node.parts[0].op in ("sym", "letters", "text", "call")
    return node.parts[-1] if is_definition else node


def _without_degrees(node: Node) -> Reading:
    """An angle in degrees as a number with a unit; a formula keeps its degrees, which are computed with."""
    if node.op in ("tuple", "list", "set"):
        return Reading(_bare_angles(node))
    last = _last_side(node)
    if last.op != "fun" or last.name != "degree":
        return Reading(node)
    return Reading(last.parts[0] if last is node else node._replace(parts=(node.parts[0], last.parts[0])), "degree")


def _trees(text: str) -> Iterator[Node]:
    slashes = (False, True) if "/" in text and _SLASH_PRODUCT.search(text) else (False,)
    eulers = (False, True) if "e" in text and _EULER.search(text) else (False,)
    for tight, euler in itertools.product(slashes, eulers):
        try:
            yield read(text, tight_slash=tight, euler=euler)
        except Unreadable:
            continue
