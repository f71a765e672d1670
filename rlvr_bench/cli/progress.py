"""A rich progress bar for the stages of the pipeline."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rlvr_bench.cli.messages import STDERR

__all__ = ["Bars"]


class Bars:
    """Shows one bar per stage on standard error: rollouts done, rate, time left."""

    def __init__(self) -> None:
        self._progress = self._fresh()
        self._stage: TaskID | None = None
        self._tokens, self._began = 0, 0.0

    def _fresh(self) -> Progress:
        return Progress(
            TextColumn("{task.description:>6}"),
            BarColumn(bar_width=10),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=STDERR,
        )

    def pause(self) -> None:
        """Leave the bars as they are and go on below: a result is about to be printed."""
        self._progress.stop()
        if self._stage is not None:
            self._progress, self._stage = self._fresh(), None

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None:
        """Begin a stage of which ``done`` of ``total`` is there already."""
        self._tokens, self._began = 0, time.monotonic()
        self._progress.start()
        self._stage = self._progress.add_task(stage, total=total, completed=done, rate="", note="", unit=unit)

    def advance(self, rollouts: int, tokens: int = 0) -> None:
        if self._stage is None:
            return
        self._tokens += tokens
        self._progress.advance(self._stage, rollouts)
        elapsed = time.monotonic() - self._began
        if self._tokens and elapsed:
            self._progress.update(self._stage, rate=f"{self._tokens / elapsed:,.0f} tok/s")

    def verified(self, rollouts: int, solved: int) -> None:
        """Rollouts verified and problems solved so far, while sampling goes on."""
        if self._stage is not None:
            self._progress.update(self._stage, note=f"verified {rollouts:,}, solved {solved:,}")

    def note(self, text: str) -> None:
        """How fast the replicas are, in place of the rate of all."""
        if self._stage is not None:
            self._progress.update(self._stage, rate=text)

    def lane(self, name: str) -> Bars:
        """A bar of its own among these, for one of several checkpoints that are drawn at once."""
        return _Lane(self._progress, name)

    def __enter__(self) -> Bars:
        return self  # nothing is shown before the first stage starts: an error then stands alone

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._progress.stop()


class _Lane(Bars):
    """One checkpoint's bar; it goes when the next stage begins."""

    def __init__(self, progress: Progress, name: str) -> None:
        super().__init__()
        self._progress, self._name = progress, name

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None:
        if self._stage is not None:
            self._progress.remove_task(self._stage)
        super().start(f"{self._name} {stage}", total, done, unit)

    def advance(self, rollouts: int, tokens: int = 0) -> None:
        self._progress.start()  # a result that was printed has stopped all bars
        super().advance(rollouts, tokens)
