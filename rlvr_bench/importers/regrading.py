"""Whether an imported run can be graded here: its responses, its gold answers, and a task whose verifier reads them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rlvr_bench.errors import RunError, UnknownName
from rlvr_bench.store.run import Run
from rlvr_bench.task import LoadedTask, Task, read_task, validate

__all__ = ["check_gradable", "known_task", "named_task"]


def named_task(name: str) -> tuple[Task, Path] | None:
    """The task of that name or path (``x.py``); None where the name is a mere label. Raises TaskError for a broken file."""
    if "/" in name and ".py" not in name:
        return None
    try:
        return read_task(name)
    except UnknownName:
        return None


def known_task(run: Run) -> bool:
    """Whether the run's task is one of ours: always, but for imports under another name."""
    return run.manifest.imported is None or bool(run.manifest.task_file)


def check_gradable(run: Run) -> None:
    """Raises RunError where an import cannot be graded here, saying what it lacks; other runs pass."""
    origin = run.manifest.imported
    if origin is None:
        return
    if not run.rollouts.files():
        raise RunError(f"{run.path}: imported counts without responses; there is nothing to grade")
    if not run.manifest.task_file:
        raise RunError(
            f"{run.path}: its verdicts are those of {origin}. To grade it here, import it again with --task NAME, "
            "a task whose verifier reads these answers."
        )
    task, file = read_task(run.manifest.task_file)
    problems = tuple(run.problems())
    if task.gold is None:
        raise RunError(f"{run.path}: task {task.name!r} judges by tests, which an import does not hold")
    if lacking := [problem.id for problem in problems if not problem.answer.strip()]:
        raise RunError(f"{run.path}: {len(lacking)} problems have no gold answer ({', '.join(lacking[:3])})")
    loaded = LoadedTask(task=dataclasses.replace(task, cases=()), file=file, problems=problems, digest="")
    refused = [found.where for found in validate(loaded) if found.where.startswith("gold answer of ")]
    if refused:
        raise RunError(
            f"{run.path}: the verifier of {task.name!r} does not accept {len(refused)} of {len(problems)} gold answers "
            f"({refused[0]}): they are not in the form that this task reads"
        )
