"""Three answers to "are they equal?": True, False, and None where that is not known; how several of them make one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

__all__ = ["all_of", "any_of", "matched"]

T = TypeVar("T")


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """False if one is, else None if one is, else True; later ones are not computed after a False."""
    unsure = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unsure = unsure or verdict is None
    return None if unsure else True


def any_of(verdicts: Iterable[bool | None]) -> bool | None:
    """True if one is, else None if one is, else False; later ones are not computed after a True."""
    unsure = False
    for verdict in verdicts:
        if verdict:
            return True
        unsure = unsure or verdict is None
    return None if unsure else False


def matched(ours: Sequence[T], theirs: Sequence[T], same: Callable[[T, T], bool | None]) -> bool | None:
    """Whether each of ours has a partner of its own among theirs, in any order."""
    left, unsure = list(theirs), False
    for each in ours:
        verdicts = [same(each, other) for other in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True
