"""Progress: bars in a terminal, one updated line in a notebook, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rlvr_bench.cli.messages import STDERR
from rlvr_bench.pipeline.progress import INTERVAL_S, Lines, Stage, duration, tokens_drawn

__all__ = ["Bars"]

_WIDTH = 20  # characters of the notebook's bar
_REDRAWN_S = 0.2
_FEW = 50


class Bars:
    """Shows the progress of ``evaluate``, ``sample``, ``grade`` and the others on standard error. Pass it as ``progress``.

    A terminal shows one bar per stage, a notebook one line that is updated. A log gets a plain line every ``interval_s``
    seconds and at the start and end of each stage. Shown are: done, total, tokens per second, rollouts verified, problems
    solved, time left; the number of tokens too where responses have more than 500 on average. A context manager; ``with``
    is needed only if something is printed afterwards.
    """

    def __init__(self, *, interval_s: float = INTERVAL_S) -> None:
        self._bars = _is_terminal()
        self._lines = None if self._bars else Strip() if _is_notebook() else Lines(_say, interval_s=interval_s)
        self._progress = self._fresh()
        self._stage: TaskID | None = None
        self._tokens, self._drawn, self._began = 0, 0, 0.0

    def _fresh(self) -> Progress:
        return Progress(
            TextColumn("{task.description:>6}", markup=False),
            BarColumn(bar_width=10),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[tokens]}", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=STDERR,
            disable=not self._bars,
        )

    def pause(self) -> None:
        """Leave the bars as they are and continue below: a result is about to be printed."""
        self.end()
        self._stop()
        if self._stage is not None:
            self._progress, self._stage = self._fresh(), None

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None:
        """Begin a stage of which ``done`` of ``total`` is done already."""
        self._tokens, self._drawn, self._began = 0, 0, time.monotonic()
        self._progress.start()
        self._stage = self._progress.add_task(
            stage, total=total, completed=done, tokens="", rate="", note="", unit=unit
        )
        if self._lines is not None:
            self._lines.start(stage, total, done, unit)

    def advance(self, rollouts: int, tokens: int = 0) -> None:
        """Add to the number of finished rollouts and tokens."""
        if self._stage is None:
            return
        self._tokens += tokens
        self._drawn += rollouts if tokens else 0
        self._progress.advance(self._stage, rollouts)
        elapsed = time.monotonic() - self._began
        if self._tokens and elapsed:
            rate, tokens_text = f"{self._tokens / elapsed:,.0f} tok/s", tokens_drawn(self._tokens, self._drawn)
            self._progress.update(self._stage, rate=rate, tokens=tokens_text)
        if self._lines is not None:
            self._lines.advance(rollouts, tokens)

    def verified(self, rollouts: int, solved: int) -> None:
        """Show the rollouts verified and problems solved so far, during sampling."""
        if self._stage is not None:
            self._progress.update(self._stage, note=f"verified {rollouts:,}, solved {solved:,}")
        if self._lines is not None:
            self._lines.verified(rollouts, solved)

    def note(self, text: str) -> None:
        """Show this text (such as the speed of the replicas) instead of the total rate."""
        if self._stage is not None:
            self._progress.update(self._stage, rate=text)
        if self._lines is not None:
            self._lines.note(text)

    def counter(self, stage: str, unit: str) -> Callable[[int, int], None]:
        """What shows how many of how many are done as one stage, where they are so many that one waits for them."""

        def count(done: int, total: int) -> None:
            if total < _FEW:
                return
            if done:
                self.advance(1)
            else:
                self.start(stage, total, 0, unit)

        return count

    def lane(self, name: str) -> Bars:
        """A separate bar for one of several checkpoints that are drawn at the same time."""
        return _Lane(self, name)

    def end(self) -> None:
        """End the stage."""
        if self._lines is not None:
            self._lines.end()

    def __enter__(self) -> Bars:
        return self  # nothing is shown before the first stage starts, so an early error is the only output

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.end()
        self._stop()

    def _stop(self) -> None:
        if self._bars:  # else rich prints an empty line
            self._progress.stop()


class _Lane(Bars):
    """One checkpoint's bar. It is removed when the next stage begins."""

    def __init__(self, bars: Bars, name: str) -> None:
        super().__init__()
        self._progress, self._name = bars._progress, name
        self._lines = None if bars._lines is None else bars._lines.lane(name)

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None:
        if self._stage is not None:
            self._progress.remove_task(self._stage)
        lines, self._lines = self._lines, None
        super().start(f"{self._name} {stage}", total, done, unit)
        self._lines = lines
        if lines is not None:
            lines.start(stage, total, done, unit)

    def advance(self, rollouts: int, tokens: int = 0) -> None:
        self._progress.start()  # printing a result stopped all bars
        super().advance(rollouts, tokens)


class Strip(Lines):
    """One line that is updated during the stage, for a notebook."""

    def __init__(
        self, write: Callable[[str], object] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(_say, interval_s=1.0, clock=clock)
        self._put = write or (lambda text: (sys.stderr.write(text), sys.stderr.flush()))
        self._shown, self._width = -_REDRAWN_S, 0

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None:
        """Begin a stage of which ``done`` of ``total`` is done already."""
        super().start(stage, total, done, unit)
        self._redraw()

    def advance(self, rollouts: int, tokens: int = 0) -> None:
        super().advance(rollouts, tokens)
        if self._clock() - self._shown >= _REDRAWN_S:
            self._redraw()

    def report(self) -> None:
        self._redraw()

    def end(self) -> None:
        """End the stage. Its line stays, and the next output goes below."""
        if self._stage is not None:
            self._redraw()
            self._put("\n")
        self._stage = None
        self._ended.set()

    def _say(self, stage: Stage, parts: list[str]) -> None:
        """Prints nothing: the line itself shows start and end."""

    def _redraw(self) -> None:
        if (stage := self._stage) is None:
            return
        now = self._shown = self._clock()
        full = round(_WIDTH * stage.share)
        left = stage.seconds_left(now)
        times = f"{duration(now - stage.began)}" + (f", {duration(left)} left" if left else "")
        figures = "".join(f", {figure}" for figure in stage.figures(now))
        line = (
            f"{stage.name} {stage.share:4.0%}|{'█' * full}{' ' * (_WIDTH - full)}| {stage.count()} [{times}{figures}]"
        )
        self._put("\r" + line.ljust(self._width))
        self._width = len(line)


def _say(line: str) -> None:
    STDERR.print(line, markup=False, soft_wrap=True)


def _is_terminal() -> bool:
    """Whether standard error is a terminal. The console does not know: it can be configured to act as one."""
    return bool(getattr(sys.stderr, "isatty", lambda: False)()) and not STDERR.is_dumb_terminal


def _is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return type(sys.stderr).__module__.partition(".")[0] == "ipykernel"
