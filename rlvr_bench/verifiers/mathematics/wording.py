r"""Words in answers: those that belong to the answer, and those that only name what is counted or label it.

Words must agree where both sides have them. On one side a label ("the area is") or a noun ("apples") may be missing; a word
that changes the answer ("not", "or more", "north", "even", "remainder") may not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlvr_bench.verifiers.mathematics.lexing import word_set
from rlvr_bench.verifiers.mathematics.trees import Node, names
from rlvr_bench.verifiers.mathematics.units import unit_of

__all__ = ["ignorable", "is_label", "same_words", "unconditioned", "without_for_all"]

_EMPTY_WORDS = word_set("a an the is are number numbers")
_QUALIFIERS = word_set(
    "dozen gross hundred thousand million billion half halves quarter quarters twice double triple squared cubed tenth "
    "tenths hundredths thirds square root cube reciprocal factorial inverse cannot can't excluding exceeding exceeds base "
    "divided multiplied onwards onward "
    "not no nor never none neither or and but more less least most fewer greater than above below under over between "
    "except without only maybe possibly perhaps probably odd even north south east west northeast northwest southeast "
    "southwest left right up down upward downward upwards downwards clockwise counterclockwise anticlockwise am pm "
    "a.m p.m ad bc bce ce inward outward red blue green yellow black white orange purple pink brown gray grey "
    "remainder mod modulo out if when unless some any all each negative minus plus positive prime primes multiple "
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
    words = (word for word in _WORD.findall(text.replace("-", "")) if word.casefold() not in _EMPTY_WORDS)
    return [unit_of(word) or _singular(word.casefold()) for word in words]


def _singular(word: str) -> str:
    """A noun without the plural's ending, and without full stops."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-2] if word.endswith(("ches", "shes", "xes", "sses")) else word[:-1]
    return word.replace(".", "")


def same_words(gold: str, answer: str) -> bool:
    """Equal words, ignoring case, articles and plural."""
    return _words(gold) == _words(answer)


def is_label(node: Node) -> bool:
    """Whether the words before an equals sign or a colon only name the value that follows."""
    texts = [part.name for part in (node.parts if node.op == "phrase" else (node,)) if part.op == "text"]
    return not any(word in _QUALIFIERS for text in texts for word in _WORD.findall(text))


_LEADS = word_set(
    "is are was were be equals equal about approximately around roughly exactly answer total area only just of"
)


def ignorable(parts: Sequence[Node]) -> Node | None:
    """The mathematics of a phrase whose words may be missing; None where it has none, several, or words that count.

    Words before the value must introduce it ("the area is"); a noun after it names what is counted.
    """
    mathematics = [part for part in parts if part.op != "text"]
    if parts[0].op == "text" and _WORD.findall(parts[0].name)[-1:] and _WORD.findall(parts[0].name)[-1] not in _LEADS:
        return None
    words = [word for part in parts if part.op == "text" for word in _WORD.findall(part.name)]
    if len(mathematics) != 1 or any(word in _QUALIFIERS for word in words) or len(words) > 12:
        return None
    return mathematics[0]


def unconditioned(gold: Node, answer: Node) -> tuple[Node, Node]:
    """Both sides, without "k in Z" where only one side has such a condition."""
    ours, theirs = _membership(gold), _membership(answer)
    if ours and not theirs:
        gold = ours
    elif theirs and not ours:
        answer = theirs
    return gold, answer


def without_for_all(node: Node) -> Node:
    """An answer without "for all x", "for all x in R" or "in R" at its end, where x is a letter of the answer."""
    if node.op == "rel" and len(node.parts) > 2 and node.name.endswith(" in") and node.parts[-1].op == "domain":
        return node._replace(parts=node.parts[:-1], name=node.name.removesuffix(" in"))
    if node.op == "list" and len(node.parts) == 2 and node.parts[1].op == "phrase":
        first, last = node.parts
        return first if len(last.parts) == 2 and _is_for_all(last.parts[0], last.parts[1], first) else node
    if node.op != "phrase" or len(node.parts) != 3:
        return node
    first, words, last = node.parts
    return first if _is_for_all(words, last, first) else node


def _is_for_all(words: Node, last: Node, first: Node) -> bool:
    letter = last.parts[0] if last.op == "rel" and last.name == "in" and last.parts[1].op == "domain" else last
    return words.name in _FOR_ALL and letter.op == "sym" and letter.name in names(first)


def _membership(node: Node) -> Node | None:
    """A list without its last item, if that only says that a letter is an integer; else None."""
    if node.op != "list" or len(node.parts) != 2:
        return None
    first, last = node.parts
    is_integer = last.op == "rel" and last.name == "in" and last.parts[1].op == "domain" and last.parts[1].name == "Z"
    return first if is_integer else None
