"""The progress protocol of the stages. Their options are defined in ``rlvr_bench.options``."""

from __future__ import annotations

from typing import Protocol

from rlvr_bench.options import GradeOptions, SampleOptions, check

__all__ = ["GradeOptions", "Progress", "SampleOptions", "Silent", "check"]


class Progress(Protocol):
    """Receives the progress of a stage; ``Bars`` shows it in a terminal, ``Lines`` writes it to a log."""

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None: ...

    def advance(self, rollouts: int, tokens: int = 0) -> None: ...

    def verified(self, rollouts: int, solved: int) -> None:
        """Sets the numbers of rollouts verified and problems solved so far, during sampling."""
        ...

    def note(self, text: str) -> None:
        """Sets a text about the replicas during sampling: how many, and how fast."""
        ...

    def lane(self, name: str) -> Progress:
        """A separate progress for one of several checkpoints that are drawn at once."""
        ...

    def end(self) -> None:
        """Ends the stage, complete or not; may be called when no stage is running."""
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
