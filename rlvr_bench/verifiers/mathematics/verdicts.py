"""Combines answers to "are they equal?", where None means that it is unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

__all__ = ["all_of", "any_of", "matched"]

T = TypeVar("T")


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """False if a verdict is False, else None if one is None, else True. Stops at the first False."""
    unsure = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unsure = unsure or verdict is None
    return None if unsure else True


def any_of(verdicts: Iterable[bool | None]) -> bool | None:
    """True if a verdict is True, else None if one is None, else False. Stops at the first True."""
    unsure = False
    for verdict in verdicts:
        if verdict:
            return True
        unsure = unsure or verdict is None
    return None if unsure else False


def matched(ours: Sequence[T], theirs: Sequence[T], same: Callable[[T, T], bool | None]) -> bool | None:
    """Whether the items can be paired in any order, so that each pair is the same."""
    left, unsure = list(theirs), False
    for item in ours:
        verdicts = [same(item, other) for other in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True
