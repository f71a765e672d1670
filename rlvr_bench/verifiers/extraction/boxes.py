r"""The boxes of a response: ``\boxed{}``, ``\fbox{}``, ``\framebox[w][p]{}``, and those without braces (``\boxed 5``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Box", "closing_brace", "last_boxed", "read_boxes"]

_NAMES = ("\\boxed", "\\fbox", "\\framebox")
# A backslash pair is one token: \{ and \} are printed braces, not grouping ones.
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TO_BRACE = re.compile(r"\s*(?:\[[^\[\]{}\n]{0,20}\]){0,2}\s*")
_BARE = re.compile(
    r"[ \t]{0,3}((?:[-+]?\.?\d|\\(?:[dt]?frac|sqrt|pi|infty|text|mathrm|emptyset)(?![A-Za-z]))[^\s$]{0,80})"
)
_BARE_LETTER = re.compile(r"[ \t]{1,3}([A-Za-z])(?=\s{0,3}(?:\$|\\\)|\\\]))")
_BARE_END = re.compile(r"\\[)\]]|\\\\|\*\*|`")
_NAMED = r"(?:[A-Za-z](?:_\{?\w\}?)?\s{0,3}=)"
_GLUE = re.compile(
    rf"(?:\$|\\[()\[\]]|[\s,;&]|\\text\s?\{{\s*(?:and|or)\s*\}}|\\q?quad|\\\\|\\[,;: !]|\b(?:and|or)\b|\*\*|{_NAMED})*+"
)
_JOINT = re.compile(r"[,;\n&]|\b(?:and|or)\b|\\q?quad|\\\\")
_MOST_GLUE = 60
_MOST_JOINED = 64


class Box(NamedTuple):
    """A box: its start and end in the text, and its content."""

    start: int
    end: int
    content: str


def closing_brace(text: str, start: int, end: int) -> int:
    """The index of the brace that closes the one at ``start``, or -1 if it is not closed before ``end``."""
    first = text.find("}", start, end)
    if first >= 0 and text.find("{", start + 1, first) < 0 and text.find("\\", start, first) < 0:
        return first  # the common case, several times faster
    depth = 0
    for token in _BRACE.finditer(text, start, end):
        symbol = token.group()
        if symbol == "{":
            depth += 1
        elif symbol == "}":
            depth -= 1
            if depth == 0:
                return token.start()
    return -1


def _without_braces(text: str, at: int, name_end: int) -> Box | None:
    r"""``\boxed 5``, ``\boxed5``, ``\boxed\frac12``: up to a space, the end of the mathematics or an unmatched brace."""
    match = _BARE.match(text, name_end) or _BARE_LETTER.match(text, name_end)
    if match is None:
        return None
    content = _BARE_END.split(match[1], maxsplit=1)[0]
    depth = 0
    for position, symbol in enumerate(content):
        depth += {"{": 1, "}": -1}.get(symbol, 0)
        if depth < 0:
            content = content[:position]
            break
    content = content.rstrip(".,;:!?)]" if "(" not in content else ".,;:!?")
    return Box(at, match.start(1) + len(content), content) if content and depth <= 0 else None


def _written(text: str) -> tuple[int, tuple[str, ...]]:
    """How many boxes are written, complete or not, and with which commands."""
    boxed = text.count("\\boxed")
    if text.count("box") == boxed:  # almost every response: skip the search for the other commands
        return boxed, _NAMES[:1]
    return boxed + text.count("\\fbox") + text.count("\\framebox"), _NAMES


def _boxes_from_the_end(text: str, names: tuple[str, ...]) -> Iterator[Box]:
    r"""Balanced, non-empty boxes, the last one first.

    A box that is not closed before the end also keeps every earlier box from closing after it. So each part of the text is
    read once: linear even on many unclosed boxes. An empty box is skipped: it quotes the instruction ("put your answer in
    \boxed{}").
    """
    limit = len(text)
    nearest = {name: text.rfind(name) for name in names}  # updated only for the command of the last box
    while True:
        name = max(nearest, key=nearest.__getitem__)
        at = nearest[name]
        if at < 0:
            return
        spaces = _TO_BRACE.match(text, at + len(name), limit)
        brace = spaces.end() if spaces else at + len(name)
        if brace < limit and text[brace] == "{":
            close = closing_brace(text, brace, limit)
            content = text[brace + 1 : close].strip() if close >= 0 else ""
            if content:
                yield Box(at, close + 1, content)
            if close < 0:
                limit = at
        else:
            bare = _without_braces(text, at, at + len(name))
            if bare is not None:
                yield bare
        nearest[name] = text.rfind(name, 0, at)


def last_boxed(text: str) -> str | None:
    r"""The content of the last balanced, non-empty box, or None."""
    written, names = _written(text)
    return next((box.content for box in _boxes_from_the_end(text, names)), None) if written else None


def _only_boxed(text: str) -> str | None:
    r"""The same as `last_boxed`, but faster where the one box is a plain ``\boxed{...}``."""
    at = text.rfind("\\boxed{")
    close = closing_brace(text, at + len("\\boxed"), len(text)) if at >= 0 else -1
    return text[at + len("\\boxed{") : close].strip() or None if close >= 0 else last_boxed(text)


def read_boxes(text: str) -> tuple[list[str], int]:
    r"""The contents of the last box and of the boxes joined to it, in order; and how many boxes are written.

    Boxes are joined where only commas, "and", "or" or line breaks are between them. Equal contents are returned once: a box
    that is repeated is the same answer, not a list.
    """
    written, names = _written(text)
    if written <= 1:
        only = _only_boxed(text) if written else None
        return [only] if only else [], written
    joined: list[Box] = []
    for box in _boxes_from_the_end(text, names):
        if joined and not _are_joined(text, box, joined[-1]):
            break
        joined.append(box)
        if len(joined) > _MOST_JOINED:
            return [joined[0].content], written
    return list(dict.fromkeys(box.content for box in reversed(joined))), written


def _are_joined(text: str, first: Box, second: Box) -> bool:
    apart = second.start - first.end
    gap = text[first.end : second.start] if 0 < apart <= _MOST_GLUE else ""
    return _JOINT.search(gap) is not None and _GLUE.fullmatch(gap) is not None
