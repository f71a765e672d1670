"""Grades and scores several runs. A failure does not stop the others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

from rlvr_bench import pipeline
from rlvr_bench.auditing import Audit
from rlvr_bench.disagreements import Disagreements
from rlvr_bench.errors import BadArgument, RlvrBenchError
from rlvr_bench.grading import Flip
from rlvr_bench.parallel import check_jobs, map_in_order
from rlvr_bench.pipeline.options import GradeOptions, Progress, Silent
from rlvr_bench.scorecard import Grading, Scorecard

__all__ = ["Done", "Graded", "grade_all", "over_runs", "score_all"]

T = TypeVar("T")


@dataclass(frozen=True)
class Done(Generic[T]):
    """The outcome of one run: its ``result``, or the error in one line."""

    run: Path
    result: T | None
    error: str | None = None


@dataclass(frozen=True)
class Graded:
    """A run's grading, the verdicts that changed, its audit if requested, and an import's differences from theirs."""

    grading: Grading
    flips: list[Flip]
    audit: Audit | None
    disagreements: Disagreements | None = None


def score_all(
    runs: Sequence[Path],
    ks: Sequence[int] | None = None,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    verifier_error: Literal["labels"] | tuple[float, float] | None = None,
) -> list[Done[Scorecard]]:
    """``score`` each run once, in ``jobs`` processes.

    Raises BadArgument; an RlvrBenchError of a run becomes its result.
    """
    return over_runs("score", functools.partial(_score, ks, verifier_error), runs, jobs, progress or Silent())


def grade_all(
    runs: Sequence[Path],
    options: GradeOptions | None = None,
    *,
    task: str | None = None,
    data_dir: Path | None = None,
    audit: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Done[Graded]]:
    """``grade`` each run, ``jobs`` at a time, which share the verifier processes of ``options``.

    ``audit``: how many verdicts of each run to check with an independent comparison. Raises BadArgument; an
    RlvrBenchError of a run becomes its result.
    """
    check_jobs(jobs)
    options = options or GradeOptions()
    at_once = max(1, min(jobs, len(set(runs))))
    options = replace(options, workers=max(1, options.workers // at_once))
    return over_runs(
        "verify", functools.partial(_grade, options, task, data_dir, audit), runs, jobs, progress or Silent()
    )


def over_runs(
    stage: str, work: Callable[[Path], T], runs: Sequence[Path], jobs: int, progress: Progress
) -> list[Done[T]]:
    """The result of ``work`` for each run once, in ``jobs`` processes; an RlvrBenchError becomes the run's result.

    Raises BadArgument without runs.
    """
    check_jobs(jobs)
    if not runs:
        raise BadArgument("RUN", [], "name at least one run folder")
    chosen = list(dict.fromkeys(runs))
    progress.start(stage, len(chosen), 0, "runs")
    results = []
    for done in map_in_order(functools.partial(_attempt, work), chosen, jobs=jobs):
        progress.advance(1)
        results.append(done)
    progress.end()
    return results


def _attempt(work: Callable[[Path], T], run: Path) -> Done[T]:
    try:
        return Done(run, work(run))
    except RlvrBenchError as error:
        return Done(run, None, str(error))


def _score(
    ks: Sequence[int] | None, verifier_error: Literal["labels"] | tuple[float, float] | None, run: Path
) -> Scorecard:
    return pipeline.score(run, ks, Silent(), verifier_error=verifier_error)


def _grade(options: GradeOptions, task: str | None, data_dir: Path | None, audit: int, run: Path) -> Graded:
    grading, flips = pipeline.grade(run, options, Silent(), task, data_dir)
    audited = pipeline.audit(run, audit, options) if audit else None
    return Graded(grading, flips, audited, pipeline.disagreements(run))
