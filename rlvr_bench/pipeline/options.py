"""What the stages take besides options: whom to tell about progress. The options are those of ``rlvr_bench.options``."""

from __future__ import annotations

from typing import Protocol

from rlvr_bench.options import GradeOptions, SampleOptions, check

__all__ = ["GradeOptions", "Progress", "SampleOptions", "Silent", "check"]


class Progress(Protocol):
    """Hears how far a stage is; ``Bars`` shows it to people, ``Lines`` writes it to a log."""

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None: ...

    def advance(self, rollouts: int, tokens: int = 0) -> None: ...

    def verified(self, rollouts: int, solved: int) -> None:
        """While sampling: rollouts verified and problems solved so far."""
        ...

    def note(self, text: str) -> None:
        """While sampling on replicas: how many there are, and how fast."""
        ...

    def lane(self, name: str) -> Progress:
        """A progress of its own for one of several checkpoints that are drawn at once."""
        ...

    def end(self) -> None:
        """The stage is over, complete or not; also called where none is under way."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None: ...

    def advance(self, rollouts: int, tokens: int = 0) -> None: ...

    def verified(self, rollouts: int, solved: int) -> None: ...

    def note(self, text: str) -> None: ...

    def lane(self, name: str) -> Progress:
        return self

    def end(self) -> None: ...
