"""A task is one Python file that holds ``TASK``: problems, prompt, verifier, and cases that show what counts as right.

A file may also define ``make_task(parameters: str) -> Task``; ``NAME:PARAMETERS`` then names one of many tasks
(``reasoning_gym:chain_sum,size=50``).
"""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rlvr_bench.datasets import HubDataset, Source, check_problems
from rlvr_bench.errors import GoldError, RlvrBenchError, TaskError, UnknownName, VerifierError
from rlvr_bench.prompts import PromptTemplate, open_prompt
from rlvr_bench.records import Problem, SamplingParameters, Status, Verdict
from rlvr_bench.source_files import run_source
from rlvr_bench.task_groups import GROUP_PREFIX

if TYPE_CHECKING:  # the verifiers take 0.2 s to import, and a list of tasks needs none
    from rlvr_bench.verifiers import FunctionVerifier, Verifier

__all__ = [
    "VERIFIER_GROUP",
    "Case",
    "LoadedTask",
    "Task",
    "TaskProblem",
    "describe",
    "gold_response",
    "golds_of",
    "is_shipped",
    "join_parameters",
    "list_tasks",
    "load_task",
    "read_task",
    "split_parameters",
    "task_verifier",
    "validate",
]

logger = logging.getLogger(__name__)

UserVerifier = Callable[[str, Problem], Verdict]
Kind = Literal["maths", "code", "puzzle", "choice", "instructions", "other"]

# Packages that bring a verifier declare it in this group: name = "module:function".
VERIFIER_GROUP = "rlvr_bench.verifiers"
# Verifiers that run code from the problems, or pass it to a third-party scorer.
_RUNS_PROBLEMS = frozenset(("code", "instructions", "reasoning_gym", "verifiers"))


@dataclass(frozen=True)
class Case:
    """A response and the verdict it must get; ``problem`` is a problem id, empty for the first problem."""

    response: str
    status: Status
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked and what counts as right. Neither n nor k belongs here.

    ``verifier`` is a name of the verifier table with its ``options``, the name of an installed package's entry point, or a
    function ``(response, problem) -> Verdict`` defined in the task file. ``gold`` is a response that states the gold
    answer, with ``{answer}`` in it: the verifier must accept it for every problem. It is None where the problems have no
    gold answer and only tests judge them; ``answer`` then describes those tests. ``sampling`` holds the recommended
    parameters. ``answer_space`` is the number of possible answers where it is small (AIME: 1000), for the guessing
    baseline; a choice problem has its options in its data instead. ``kind`` and ``licence`` (as the data card states it, empty
    where that is not known) are for the list of tasks. Raise ``version`` whenever scores would change.
    """

    name: str
    version: str
    summary: str
    source: Source
    prompt: str = "qwen-boxed"
    verifier: str | UserVerifier = "math"
    options: Mapping[str, Any] = field(default_factory=dict)
    gold: str | None = "\\boxed{{answer}}"
    cases: tuple[Case, ...] = ()
    sampling: SamplingParameters | None = None
    answer_space: int | None = None
    kind: Kind = "other"
    licence: str = ""

    @property
    def runs_problems(self) -> bool:
        """Whether grading runs code that comes with the problems."""
        return self.verifier in _RUNS_PROBLEMS


@dataclass(frozen=True, kw_only=True)
class LoadedTask:
    """A task with its problems, checked against the number and the digest that the task pins."""

    task: Task
    file: Path
    problems: tuple[Problem, ...]
    digest: str

    @property
    def is_shipped(self) -> bool:
        """Whether the task comes with the package, rather than from a user's file."""
        return self.file.parent == task_folder().resolve()

    @property
    def reference(self) -> str:
        """The name that loads this task again: a shipped task's name, else the path of its file, with its parameters."""
        _, colon, parameters = self.task.name.partition(":")
        return self.task.name if self.is_shipped else f"{self.file}{colon}{parameters}"

    @property
    def template(self) -> PromptTemplate:
        return open_prompt(self.task.prompt)

    def open_verifier(self) -> Verifier:
        return task_verifier(self.task, self.file)


@dataclass(frozen=True, kw_only=True)
class TaskProblem:
    """One fault that ``validate`` reports: ``where`` names the problem or case, ``message`` says what is wrong."""

    where: str
    message: str


def task_folder() -> Path:
    """The folder of the shipped tasks: inside the package when installed, next to the package in a checkout."""
    package = Path(__file__).parent
    installed = package / "_tasks"
    return installed if installed.is_dir() else package.parent / "tasks"


def list_tasks() -> list[str]:
    """Names of the shipped tasks, sorted."""
    return sorted(file.stem for file in task_folder().glob("*.py") if not file.stem.startswith("_"))


def is_shipped(name: str) -> bool:
    """Whether ``name``, without its parameters, is the name of a shipped task."""
    return name.partition(":")[0] in list_tasks()


def read_task(name: str) -> tuple[Task, Path]:
    """A shipped task by name, or a user's task by path (``./my_task.py``), without its problems.

    A name or path followed by ``:PARAMETERS`` calls ``make_task`` of that file. Raises UnknownName, or TaskError where
    the file holds no task or does not accept these parameters.
    """
    file, parameters = _task_file(name)
    try:
        exists = file.is_file()
    except OSError as error:
        raise TaskError(f"{name[:100]}: {error.strerror or error}") from error
    if not exists:
        raise TaskError(f"{file}: no such task file")
    module = _import_file(file)
    task = getattr(module, "TASK", None) if parameters is None else _make_task(module, file, parameters)
    if not isinstance(task, Task):
        raise TaskError(f"{file}: defines no TASK = Task(...)")
    plain, colon, _ = task.name.partition(":")
    if plain != file.stem or bool(colon) != (parameters is not None):
        expected = file.stem if parameters is None else f"{file.stem}:PARAMETERS"
        raise TaskError(f"{file}: the task is named {task.name!r}, the file {file.stem!r}; name it {expected!r}")
    return task, file.resolve()


def split_parameters(text: str) -> tuple[list[str], dict[str, Any]]:
    """Split ``chain_sum,size=50,signs=["+","-"]`` into its words and its values; a value that is JSON is decoded.

    Raises TaskError for a value without a key, a key without a value, or a key given twice.
    """
    words: list[str] = []
    values: dict[str, Any] = {}
    for part in filter(None, map(str.strip, re.split(r",(?![^\[{]*[\]}])", text))):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign:
            words.append(part)
        elif not key or not value or key in values:
            raise TaskError(f"task parameter {part!r}: expected KEY=VALUE, each key once")
        else:
            values[key] = _value(value)
    return words, values


def join_parameters(words: list[str], values: Mapping[str, object]) -> str:
    """The parameters as text, always in the same order: the words first, then the values sorted by key."""
    return ",".join([*words, *(f"{key}={_written(value)}" for key, value in sorted(values.items()))])


def load_task(name: str, data_dir: Path | None = None) -> LoadedTask:
    """A task with its problems. Raises UnknownName, TaskError or DataError."""
    task, file = read_task(name)
    problems = task.source.load(task.name, data_dir)
    digest = check_problems(task.name, task.source, problems)
    if isinstance(task.source, HubDataset) and task.source.sha256 is None:
        _warn_unpinned(task.name, task.source.describe(), digest)
    return LoadedTask(task=task, file=file, problems=tuple(problems), digest=digest)


@functools.cache  # once, however many checkpoints are evaluated on the task
def _warn_unpinned(name: str, source: str, digest: str) -> None:
    logger.warning(
        "task %r: the content of %s is not pinned, so a change of it would not be noticed. To pin these problems, copy the "
        "task and set sha256=%r",
        name,
        source,
        digest,
    )


def golds_of(loaded: LoadedTask) -> dict[str, Problem]:
    """The problems by id, with their answers as the verifier compares them (such as the end of a worked solution).

    Raises GoldError, with the id of the first problem whose gold answer the verifier cannot use.
    """
    from rlvr_bench.verifiers.deciding import require_golds

    try:
        return require_golds(loaded.open_verifier(), loaded.problems)
    except GoldError as error:
        raise GoldError(f"task {loaded.task.name!r}, {error}") from error


def task_verifier(task: Task, file: Path) -> Verifier:
    """The task's verifier, opened with its options.

    Raises UnknownName for a name that is neither in the verifier table nor an installed entry point, VerifierError for
    options that the verifier does not have.
    """
    from rlvr_bench.verifiers import VERIFIERS, FunctionVerifier, open_verifier

    if not isinstance(task.verifier, str):
        return FunctionVerifier(f"{file}:{task.verifier.__name__}", version=task.version)
    if task.verifier in VERIFIERS:
        return open_verifier(task.verifier, **task.options)
    installed = {entry.name: entry for entry in entry_points(group=VERIFIER_GROUP)}
    if task.verifier not in installed:
        raise UnknownName("verifier", task.verifier, [*VERIFIERS, *installed])
    return _entry_verifier(installed[task.verifier], task)


def _entry_verifier(entry: EntryPoint, task: Task) -> FunctionVerifier:
    """The verifier function of an installed package; its default version is that of the package."""
    from rlvr_bench.verifiers import FunctionVerifier

    unknown = sorted(set(task.options) - {"policy", "version"})
    if unknown:
        raise VerifierError(f"verifier {entry.name!r} has no option {', '.join(unknown)}. It has: policy, version.")
    version = entry.dist.version if entry.dist is not None else task.version
    return FunctionVerifier(f"{entry.module}:{entry.attr}", **{"version": version, **task.options})


def gold_response(task: Task, problem: Problem) -> str:
    """A response that states the gold answer. Raises TaskError where the task has none."""
    if task.gold is None:
        raise TaskError(f"task {task.name!r} has no gold answers: its problems are judged by tests alone")
    return task.gold.replace("{answer}", problem.answer)


def describe(loaded: LoadedTask) -> dict[str, object]:
    """Everything that decides a score, and the first problem, for ``tasks show``."""
    task, first = loaded.task, loaded.problems[0]
    verifier = loaded.open_verifier()
    return {
        "task": f"{task.name}, version {task.version}",
        "summary": task.summary,
        "kind": task.kind,
        "licence of the data": task.licence or "unknown",
        "source": task.source.describe(),
        "problems": len(loaded.problems),
        "content SHA-256": loaded.digest + ("" if task.source.sha256 else " (not pinned)"),
        "prompt": f"{loaded.template.name} ({loaded.template.digest[:12]})",
        "verifier": f"{verifier.name} {verifier.version} {dict(verifier.options)}",
        "recommended sampling": "T = 0.6, top-p = 0.95" if task.sampling is None else str(task.sampling),
        "cases": len(task.cases),
        "first problem": first.id,
        "first prompt": loaded.template.render(first).text,
        "first answer": "none: judged by tests" if task.gold is None else first.answer,
    }


def validate(loaded: LoadedTask, workers: int = 1) -> list[TaskProblem]:
    """Check a task: the verifier accepts every gold answer, every case gets its verdict, the prompt asks the question.

    A task without gold answers (``Task.gold`` is None) is checked by its cases and its prompt only. Returns the faults.
    """
    from rlvr_bench.verifiers import Decider
    from rlvr_bench.verifiers.deciding import read_golds

    verifier = loaded.open_verifier()
    golds, refused = read_golds(verifier, loaded.problems)
    faults = [TaskProblem(where=f"gold answer of {name}", message=message) for name, message in refused.items()]
    checks = [
        _Check(f"gold answer of {problem.id}", problem.id, gold_response(loaded.task, golds[problem.id]), "correct")
        for problem in (() if loaded.task.gold is None else loaded.problems)
        if problem.id in golds
    ]
    known = {problem.id for problem in loaded.problems}
    for number, case in enumerate(loaded.task.cases, 1):
        where, name = f"case {number}", case.problem or loaded.problems[0].id
        if name not in known:
            faults.append(TaskProblem(where=where, message=f"no problem with id {name!r}"))
        elif name in golds:
            checks.append(_Check(where, name, case.response, case.status))
    with Decider(verifier, golds.__getitem__, workers=workers) as decider:
        decisions = decider.decide((check.problem, check.response) for check in checks)
    faults += [
        TaskProblem(where=check.where, message=f"expected {check.expected}, got {_described(verdict)}")
        for check, (verdict, _) in zip(checks, decisions, strict=True)
        if verdict.status != check.expected
    ]
    return _prompt_problems(loaded) + faults


class _Check(NamedTuple):
    """A response to a problem, and the status it must get."""

    where: str
    problem: str
    response: str
    expected: Status


def _described(verdict: Verdict) -> str:
    kind = f" ({verdict.kind})" if verdict.kind else ""
    return f"{verdict.status}{kind}" + (f": {verdict.message}" if verdict.message else "")


def _prompt_problems(loaded: LoadedTask) -> list[TaskProblem]:
    problem = loaded.problems[0]
    if problem.question in loaded.template.render(problem).text:
        return []
    return [TaskProblem(where=f"prompt {loaded.template.name}", message="does not contain the question")]


def _task_file(name: str) -> tuple[Path, str | None]:
    """The file of a task's name or path, and the parameters after the colon (None without a colon)."""
    plain, colon, parameters = name.partition(":")
    if name.startswith(GROUP_PREFIX):
        raise TaskError(
            f"{name!r} is a group of tasks: `evaluate` and `follow` take groups, here one task must be named"
        )
    if not (plain.endswith(".py") or "/" in plain):
        file = task_folder() / f"{plain}.py"
        if plain not in list_tasks():
            raise UnknownName("task", plain, list_tasks(), "Your own task: --task ./my_task.py")
        return file, parameters if colon else None
    path, with_parameters, parameters = name.partition(".py:")
    return (Path(f"{path}.py"), parameters) if with_parameters else (Path(name), None)


def _make_task(module: ModuleType, file: Path, parameters: str) -> object:
    make = getattr(module, "make_task", None)
    if make is None:
        raise TaskError(f"{file}: this task takes no parameters; name it without {':' + parameters!r}")
    try:
        return make(parameters)
    except RlvrBenchError:
        raise
    except Exception as error:
        raise TaskError(f"{file}: make_task({parameters!r}): {type(error).__name__}: {error}") from error


def _value(text: str) -> object:
    """A parameter's value: decoded where it is JSON (or Python's True, False, None), else the text itself."""
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text


def _written(value: object) -> str:
    """The text that `_value` reads as this value."""
    if isinstance(value, str) and _value(value) == value:
        return value
    return json.dumps(value, separators=(",", ":"))


def _import_file(file: Path) -> ModuleType:
    if file.suffix != ".py":
        raise TaskError(f"{file}: not a Python file")
    try:
        return run_source(file, f"rlvr_bench_task_{file.stem}")
    except Exception as error:
        raise TaskError(f"{file}: {type(error).__name__}: {error}") from error
