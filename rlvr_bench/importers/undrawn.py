"""Rollouts that failed before the model gave anything: they are missing draws, not wrong ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Undrawn"]


@dataclass
class Undrawn:
    """Counts the rollouts that a reader left out since ``begin``; ``remarks`` has a note on them."""

    count: int = 0

    def begin(self) -> None:
        """Count from zero."""
        self.count = 0

    def remarks(self) -> Iterator[str]:
        """A note, where there were any."""
        if self.count:
            yield f"{self.count} rollouts failed before any output: they count as not drawn"
