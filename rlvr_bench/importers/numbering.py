"""Numbers the rollouts of a problem in the order of the program's own numbers or names, and recognises copies."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from rlvr_bench.errors import DataError, visible
from rlvr_bench.importers.entries import Response, problem_name
from rlvr_bench.store.run import stored_text, text_hash

__all__ = ["Numbering"]


@dataclass
class Numbering:
    """Filled by ``note`` with every rollout first; ``numbered`` then gives each one its rank among those of its problem.

    Memory: some 20 bytes a rollout where the numbers are whole numbers.
    """

    copies: int = 0
    _numbers: dict[str, array[int]] = field(default_factory=dict)
    _names: dict[str, list[str]] = field(default_factory=dict)
    _hashes: dict[str, array[int]] = field(default_factory=dict)
    _taken: dict[str, bytearray] = field(default_factory=dict)

    def note(self, entries: Iterable[Response]) -> None:
        """Take in the numbers of these rollouts. Raises DataError for numbers mixed with names."""
        for entry in entries:
            problem = problem_name(entry)
            if isinstance(entry.index, int):
                self._numbers.setdefault(problem, array("q")).append(entry.index)
            elif entry.index is not None:
                self._names.setdefault(problem, []).append(entry.index)
            if problem in self._numbers and problem in self._names:
                raise DataError(
                    f"{entry.where}: index is a number for some rollouts of a problem and a text for others"
                )

    def sort(self) -> None:
        """Call once, after all notes."""
        for problem, numbers in self._numbers.items():
            self._numbers[problem] = array("q", sorted(set(numbers)))
        for problem, names in self._names.items():
            self._names[problem] = sorted(set(names))

    def numbered(self, entries: Iterable[Response]) -> Iterator[Response]:
        """The rollouts with their ranks, from 0, without copies.

        Raises DataError where a problem has two texts under one number.
        """
        for entry in entries:
            problem = problem_name(entry)
            ordered = self._numbers.get(problem) or self._names[problem]
            rank = bisect.bisect_left(ordered, entry.index)  # type: ignore[type-var]
            taken = self._taken.setdefault(problem, bytearray(len(ordered)))
            hashes = self._hashes.setdefault(problem, array("q", bytes(8 * len(ordered))))
            digest = text_hash(stored_text(entry.text))
            if not taken[rank]:
                taken[rank], hashes[rank] = 1, digest
                yield msgspec.structs.replace(entry, index=rank)
            elif hashes[rank] == digest:
                self.copies += 1
            else:
                name = visible(problem)[:60]
                raise DataError(
                    f"{entry.where}: problem {name!r} has rollout {entry.index!r} twice, with different texts"
                )
