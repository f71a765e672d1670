"""Finds the task to grade a run with: a shipped one by its name, any other only from the file that the user names.

Anybody may have written a run folder, so no code in it is imported. Its problems are compared with the task's before a
verifier runs their tests.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from rlvr_bench.datasets import content_digest, has_local_data
from rlvr_bench.errors import DataError, RlvrBenchError, RunError
from rlvr_bench.importers.regrading import is_matched
from rlvr_bench.records import Problem
from rlvr_bench.store.manifest import TaskFacts
from rlvr_bench.store.run import Run
from rlvr_bench.task import LoadedTask, Task, is_shipped, load_task, read_task

__all__ = ["facts_of", "grading_task", "kept_facts"]

_LONGEST = 1000  # characters of a task's name
_BY_PARAMETERS = (
    "reasoning_gym",
    "verifiers",
)  # verifiers of tasks whose parameters choose code that makes the problems

logger = logging.getLogger(__name__)


def facts_of(task: Task) -> TaskFacts:
    """The facts of a task that a manifest stores."""
    return TaskFacts(answer_space=task.answer_space, gold=task.gold)


def kept_facts(run: Run) -> TaskFacts | None:
    """The facts of a run's task, from the manifest; for an old run, from the shipped task. None if unknown."""
    name = _shipped_name(run)
    if run.manifest.facts is not None or name is None:
        return run.manifest.facts
    try:
        return facts_of(read_task(name)[0])
    except RlvrBenchError:  # parameters that this version refuses
        return None


def grading_task(
    run: Run, named: str | None = None, data_dir: Path | None = None, *, sandboxed: bool = True
) -> LoadedTask:
    """The task to grade a run with, with the problems of the run; ``named`` is the user's ``--task``.

    ``sandboxed``: third-party scorers run only in a sandbox. Raises RunError where the run's task is not shipped and
    none is named, where the named task is not the run's, or where the run's problems are not the task's; also the
    errors of reading the task and its data.
    """
    name = named or _shipped_name(run)
    if name is None:
        raise RunError(
            f"{run.path}: drawn with a task of your own, {run.manifest.task!r}. Name its file to go on: --task FILE. "
            "Nothing that a run folder names is run."
        )
    task, file = read_task(name)
    if task.name != run.manifest.task:
        raise RunError(f"{run.path}: drawn with the task {run.manifest.task!r}, not with {task.name!r} ({file})")
    problems = tuple(run.problems())
    if named is None and task.name.partition(":")[2] and task.verifier in _BY_PARAMETERS:
        _check_recorded(run, problems, task, sandboxed)
    else:
        _check_problems(run, problems, task, name, data_dir)
    return LoadedTask(task=task, file=file, problems=problems, digest=run.manifest.problems_sha256)


def _shipped_name(run: Run) -> str | None:
    """The run's task if it is shipped, else None; for an import, only if the user imported it as that task."""
    manifest = run.manifest
    named = (
        manifest.task_file in ("", manifest.task) if manifest.imported is None else manifest.task_file == manifest.task
    )
    known = named and len(manifest.task) <= _LONGEST and is_shipped(manifest.task)
    return manifest.task if known else None


def _check_recorded(run: Run, problems: Sequence[Problem], task: Task, sandboxed: bool) -> None:
    """Check that the problems are those of the manifest. Raises RunError if not, for an import, or without a sandbox.

    They are not generated again: anybody may have written the parameters, and a generator may evaluate them as code.
    The scorer gets the problems as data, in the sandbox.
    """
    manifest = run.manifest
    if not is_matched(manifest):
        raise _unmatched(run, task)
    typed = f"If you trust these parameters, type --task {shlex.quote(manifest.task)}"
    if not sandboxed:
        raise RunError(f"{run.path}: without a sandbox, a task whose parameters the run names is not graded. {typed}")
    if manifest.problems_file_sha256 is None and content_digest(problems) != manifest.problems_sha256:
        raise RunError(f"{run.path}: its problems are not those of the task that the manifest records. {typed}")
    logger.info("%s: its problems were not generated again to compare them. %s", run.path, typed)


def _check_problems(run: Run, problems: Sequence[Problem], task: Task, name: str, data_dir: Path | None) -> None:
    """Raises RunError where the problems are not the task's.

    That they match the manifest proves nothing: it is untrusted.
    """
    manifest, pinned = run.manifest, task.source.sha256
    runs_them = task.runs_problems
    if not is_matched(manifest):
        if runs_them:
            raise _unmatched(run, task)
        return
    if pinned is not None:
        if pinned != manifest.problems_sha256:
            raise _others(run, task)
        if content_digest(problems) == pinned:
            return
        if len(problems) >= manifest.n_problems:
            raise _others(run, task)
    if not (runs_them or has_local_data(task.source, task.name, data_dir)):
        return
    try:
        loaded = load_task(name, data_dir)
    except DataError as error:
        if runs_them:
            raise RunError(
                f"{run.path}: whether its problems are those of {task.name!r} can be said only with the task's data, "
                f"because their tests are run ({error})"
            ) from error
        return
    by_id = {problem.id: problem for problem in loaded.problems}
    expected = [by_id[problem.id] for problem in problems if problem.id in by_id]
    if loaded.digest != manifest.problems_sha256 or content_digest(expected) != content_digest(problems):
        raise _others(run, task)


def _unmatched(run: Run, task: Task) -> RunError:
    return RunError(
        f"{run.path}: its problems are those of the imported files, without the tests of {task.name!r}. Import it again with "
        f"--task {shlex.quote(task.name)}"
    )


def _others(run: Run, task: Task) -> RunError:
    return RunError(
        f"{run.path}: its problems are not those of the task {task.name!r} ({task.source.describe()}): another version of "
        "the task, or a file that was changed"
    )
