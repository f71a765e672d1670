"""Checks whether an imported run can be graded: it needs responses, gold answers and a task whose verifier reads them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rlvr_bench.errors import RunError, UnknownName
from rlvr_bench.store.manifest import Manifest
from rlvr_bench.store.run import Run
from rlvr_bench.task import LoadedTask, Task, read_task, validate

__all__ = ["UNKNOWN", "check_gradable", "check_responses", "is_matched", "named_task"]

UNKNOWN = "unknown"  # in a manifest: what the files of another program do not say


def named_task(name: str) -> tuple[Task, Path] | None:
    """The task of that name or path (``x.py``); None where the name is only a label. Raises TaskError for a broken file."""
    if "/" in name and ".py" not in name:
        return None
    try:
        return read_task(name)
    except UnknownName:
        return None


def is_matched(manifest: Manifest) -> bool:
    """Whether a run has its task's own problems: drawn here, or imported and matched to them."""
    return manifest.imported is None or manifest.task_version != UNKNOWN


def check_gradable(run: Run, loaded: LoadedTask, name: str = "") -> None:
    """Raises RunError where an import with its own problems cannot be graded with this task, and says what it lacks.

    ``name`` is what the message calls the run, if not by its folder.
    """
    if is_matched(run.manifest):
        return
    task, problems, name = loaded.task, loaded.problems, name or str(run.path)
    if task.gold is None:
        raise RunError(f"{name}: task {task.name!r} judges by tests, which the imported files do not hold")
    if lacking := [problem.id for problem in problems if not problem.answer.strip()]:
        raise RunError(f"{name}: {len(lacking)} problems have no gold answer ({', '.join(lacking[:3])})")
    golds_only = dataclasses.replace(loaded, task=dataclasses.replace(task, cases=()))
    refused = [fault.where for fault in validate(golds_only) if fault.where.startswith("gold answer of ")]
    if refused:
        raise RunError(
            f"{name}: the verifier of {task.name!r} does not accept {len(refused)} of {len(problems)} gold answers "
            f"({refused[0]}): they are not in the form that this task reads"
        )


def check_responses(run: Run, name: str = "") -> None:
    """Raises RunError where an import has nothing to grade, or names no task. Other runs pass. ``name`` as above."""
    origin = run.manifest.imported
    if origin is None:
        return
    if not run.rollouts.files():
        raise RunError(f"{name or run.path}: imported counts without responses; there is nothing to grade")
    if not run.manifest.task_file:
        raise RunError(
            f"{name or run.path}: its verdicts are those of {origin}. To grade it here, import it again with --task NAME, "
            "a task whose verifier reads these answers."
        )
