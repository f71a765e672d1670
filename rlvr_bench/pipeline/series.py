"""Several checkpoints, several tasks: one engine at a time, and one that fails does not stop the others."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvr_bench import pipeline
from rlvr_bench.errors import ModelError, RlvrBenchError
from rlvr_bench.pipeline.options import GradeOptions, Progress, SampleOptions
from rlvr_bench.records import Scorecard

__all__ = ["Result", "evaluate_all", "expand_models"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one checkpoint on one task: its run and scorecard, or the error."""

    model: str
    task: str
    run: Path | None = None
    scorecard: Scorecard | None = None
    error: str | None = None


def expand_models(models: Sequence[str]) -> list[str]:
    """Globs become the checkpoints they match, in natural order (step 20 before step 100); other names stay.

    Raises ModelError for a glob that matches no folder.
    """
    found: list[str] = []
    for model in models:
        if not re.search(r"[*?\[]", model):
            found.append(model)
            continue
        matches = sorted((path for path in glob.glob(model) if Path(path).is_dir()), key=_natural)  # noqa: PTH207  Path has no glob of a whole pattern
        if not matches:
            raise ModelError(f"no checkpoint folder matches {model!r}")
        found += matches
    return list(dict.fromkeys(found))


def evaluate_all(
    models: Sequence[str],
    tasks: Sequence[str],
    options: SampleOptions,
    grading: GradeOptions,
    progress: Progress,
    report: Callable[[Result], None],
) -> list[Result]:
    """Evaluate each checkpoint on each task; ``report`` hears of each result as it comes. Errors are results here."""
    results = []
    for model in expand_models(models):
        for task in tasks:
            try:
                run, scorecard = pipeline.evaluate(model, task, options, grading, progress)
                result = Result(model=model, task=task, run=run, scorecard=scorecard)
            except RlvrBenchError as error:
                result = Result(model=model, task=task, error=str(error))
            results.append(result)
            report(result)
    return results


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Digit runs compare as numbers."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", text)]
