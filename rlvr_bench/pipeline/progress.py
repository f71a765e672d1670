"""Reports the progress of a stage in plain lines: at its start, every 30 seconds, and at its end."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from rlvr_bench.errors import visible

__all__ = ["INTERVAL_S", "Lines", "Stage", "duration", "tokens_drawn", "with_progress"]

P = ParamSpec("P")
R = TypeVar("R")

INTERVAL_S = 30.0
_LONG_TOKENS = 500  # mean length of a response from which tokens are shown beside rollouts
_SILENT_S = 2.0  # a stage that fails sooner writes no line: the log has only its error

logger = logging.getLogger("rlvr_bench")


@dataclass
class Stage:
    """The state of a stage: ``first`` items were done when it began, at time ``began``, and ``done`` are now."""

    name: str
    total: int
    first: int
    unit: str
    began: float
    done: int = 0
    tokens: int = 0
    drawn: int = 0
    verified: int | None = None
    solved: int = 0
    note: str = ""
    is_announced: bool = False
    is_reported: bool = False  # whether anything was written

    @property
    def is_complete(self) -> bool:
        return self.done >= self.total

    @property
    def share(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 1.0

    def seconds_left(self, now: float) -> float | None:
        """Estimated from the speed since the stage began; None before anything is done."""
        made = self.done - self.first
        return None if made <= 0 else (now - self.began) / made * max(0, self.total - self.done)

    def count(self) -> str:
        return f"{self.done:,}/{self.total:,} {self.unit}"

    def figures(self, now: float) -> list[str]:
        """Texts on the speed, and on rollouts verified and problems solved, where known."""
        seconds = now - self.began
        rate = f"{self.tokens / seconds:,.0f} tokens/s" if self.tokens and seconds > 0 else ""
        tokens = tokens_drawn(self.tokens, self.drawn)
        verified = "" if self.verified is None else f"verified {self.verified:,}, solved {self.solved:,} problems"
        return [part for part in (tokens, self.note or rate, verified) if part]


class Lines:
    """A ``Progress`` that writes plain lines, for logs and where there is no terminal.

    ``write``: called with each line (default: the logger ``rlvr_bench``, level INFO); ``interval_s``: seconds between
    two lines; ``clock``: returns seconds that never decrease.
    """

    def __init__(
        self,
        write: Callable[[str], None] | None = None,
        *,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
        name: str = "",
    ) -> None:
        self._write = write or (lambda line: logger.info("%s", line))
        self._interval_s, self._clock, self._name = interval_s, clock, name
        self._stage: Stage | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None:
        """Begin a stage of which ``done`` of ``total`` is done already; ends the stage that is running."""
        self.end()
        self._stage = new_stage = Stage(f"{self._name} {stage}".strip(), total, done, unit, self._clock(), done)
        if new_stage.is_complete:
            self._say(new_stage, [new_stage.count(), "nothing left to do"])
            return
        self._ended = threading.Event()
        # A stage of one item has nothing to count: its first line comes after an interval, or at its end.
        silent_s = self._interval_s if total == 1 else min(_SILENT_S, self._interval_s)
        new_stage.is_announced = total == 1
        beat = threading.Thread(
            target=_beat, args=(weakref.ref(self), self._ended, silent_s), name="progress", daemon=True
        )
        beat.start()

    def advance(self, rollouts: int, tokens: int = 0) -> None:
        if self._stage is not None and rollouts:
            self.announce()
            self._stage.done += rollouts
            self._stage.tokens += tokens
            self._stage.drawn += rollouts if tokens else 0

    def verified(self, rollouts: int, solved: int) -> None:
        if self._stage is not None:
            self._stage.verified, self._stage.solved = rollouts, solved

    def note(self, text: str) -> None:
        if self._stage is not None:
            self._stage.note = text

    def lane(self, name: str) -> Lines:
        """Separate lines that begin with ``name``."""
        return Lines(self._write, interval_s=self._interval_s, clock=self._clock, name=visible(name))

    def end(self) -> None:
        """End the stage, complete or not; does nothing if no stage is running."""
        stage, self._stage = self._stage, None
        self._ended.set()
        if stage is None or stage.first >= stage.total or (stage.done == stage.first and not stage.is_reported):
            return
        now = self._clock()
        how = "done" if stage.is_complete else "ended"
        self._say(stage, [stage.count(), *stage.figures(now), f"{how} after {duration(now - stage.began)}"])

    def announce(self) -> bool:
        """Write once that the stage has begun; returns whether this call wrote it."""
        with self._lock:
            stage = self._stage
            if stage is None or stage.is_announced:
                return False
            stage.is_announced = True
            self._say(stage, [stage.count(), "begins"])
            return True

    def report(self) -> None:
        """Write how far the stage is."""
        stage, now = self._stage, self._clock()
        if stage is not None:
            left = stage.seconds_left(now)
            more = f"{duration(now - stage.began)} so far" if left is None else f"about {duration(left)} left"
            self._say(stage, [f"{stage.count()} ({stage.share:.0%})", *stage.figures(now), more])

    @property
    def interval_s(self) -> float:
        return self._interval_s

    def _say(self, stage: Stage, parts: list[str]) -> None:
        stage.is_reported = True
        self._write(f"{stage.name}: {', '.join(parts)}")


def _beat(lines: weakref.ref[Lines], ended: threading.Event, seconds: float) -> None:
    """Write a line after ``seconds`` and at every interval, until the stage ends or the ``Lines`` object is gone."""
    while not ended.wait(seconds):
        alive = lines()
        if alive is None:
            return
        # After the silent start, a stage that has said that it began waits for a whole interval.
        if not alive.announce() and seconds >= alive.interval_s:
            alive.report()
        seconds = alive.interval_s
        del alive


def tokens_drawn(tokens: int, rollouts: int) -> str:
    """``1,234,000 tokens`` where responses are so long that rollouts alone say little; else empty."""
    return f"{tokens:,} tokens" if rollouts and tokens / rollouts > _LONG_TOKENS else ""


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def with_progress(verb: Callable[P, R]) -> Callable[P, R]:
    """The verb, which reports to the logger if no ``progress`` is passed, and ends the last stage when it returns."""
    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        if bound.arguments.get("progress") is None:
            bound.arguments["progress"] = Lines()
        try:
            return verb(*bound.args, **bound.kwargs)
        finally:
            bound.arguments["progress"].end()

    return run
