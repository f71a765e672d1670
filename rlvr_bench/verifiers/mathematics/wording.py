r"""Words in answers: which belong to the answer, and which only name what is counted or label it.

Words must agree where both sides have them. Where only one side has them, a label ("the area is") or a noun ("apples") may be
missing; a word that changes the answer ("not", "or more", "north", "even", "remainder") may not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlvr_bench.verifiers.mathematics.lexing import word_set
from rlvr_bench.verifiers.mathematics.trees import Node
from rlvr_bench.verifiers.mathematics.units import unit_of

__all__ = ["ignorable", "is_label", "same_words", "unconditioned"]

_EMPTY_WORDS = word_set("a an the is are number numbers")
_QUALIFIERS = word_set(
    "not no nor never none neither or and but more less least most fewer greater than above below under over between "
    "except without only maybe possibly perhaps probably odd even north south east west northeast northwest southeast "
    "southwest left right up down upward downward upwards downwards clockwise counterclockwise anticlockwise am pm "
    "a.m p.m ad bc bce ce inward outward red blue green yellow black white orange purple pink brown gray grey "
    "remainder mod modulo out of if when unless some any all each negative minus plus positive prime primes multiple "
    "multiples divisible otherwise either both instead wrong incorrect false invalid impossible unknown untrue until "
    "before after ago late early later earlier inside outside other another to times raised power"
)
_FOR_ALL = frozenset(
    ("for all", "for every", "for any", "for each", "where", "with", "for all real", "for all real numbers", "for any real",
     "for all positive integers", "for all integers", "for every real", "for all real number", "for all values of",
     "for every integer", "is any", "where is any integer")
)  # fmt: skip
_WORD = re.compile(r"[^\W_]+(?:[.'’-][^\W_]+)*")


def _words(text: str) -> list[str]:
    found = (word for word in _WORD.findall(text.replace("-", "")) if word.casefold() not in _EMPTY_WORDS)
    return [unit_of(word) or _stem(word.casefold()) for word in found]


def _stem(word: str) -> str:
    """Singular and plural of a noun are one word."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-2] if word.endswith(("ches", "shes", "xes", "sses")) else word[:-1]
    return word.replace(".", "")


def same_words(gold: str, answer: str) -> bool:
    """Equal words, without regard to case, articles and plural."""
    return _words(gold) == _words(answer)


def is_label(node: Node) -> bool:
    """Whether words before an equals sign or a colon only name the value that follows."""
    texts = [part.name for part in (node.parts if node.op == "phrase" else (node,)) if part.op == "text"]
    return not any(word in _QUALIFIERS for text in texts for word in _WORD.findall(text))


def ignorable(parts: Sequence[Node]) -> Node | None:
    """The mathematics of a phrase whose words may be missing; None where it has none, several, or words that count."""
    mathematics = [part for part in parts if part.op != "text"]
    words = [word for part in parts if part.op == "text" for word in _WORD.findall(part.name)]
    if len(mathematics) != 1 or any(word in _QUALIFIERS for word in words) or len(words) > 12:
        return None
    return mathematics[0]


def unconditioned(gold: Node, answer: Node) -> tuple[Node, Node]:
    """Without "for all x" on either side, and without "k in Z" where the other side says nothing about its letters."""
    gold, answer = _without_for_all(gold), _without_for_all(answer)
    ours, theirs = _membership(gold), _membership(answer)
    if ours and not theirs:
        gold = ours
    elif theirs and not ours:
        answer = theirs
    return gold, answer


def _without_for_all(node: Node) -> Node:
    if node.op != "phrase" or len(node.parts) != 3 or node.parts[1].name not in _FOR_ALL:
        return node
    first, _, last = node.parts
    return (
        first if last.op == "sym" or (last.op == "rel" and last.name == "in" and last.parts[1].op == "domain") else node
    )


def _membership(node: Node) -> Node | None:
    """What is left of a list without its last item, if that only says that a letter stands for any integer."""
    if node.op != "list" or len(node.parts) != 2:
        return None
    first, last = node.parts
    is_integer = last.op == "rel" and last.name == "in" and last.parts[1].op == "domain" and last.parts[1].name == "Z"
    return first if is_integer else None
