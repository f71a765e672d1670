"""Puzzles of reasoning-gym: its generators and scorers by name (arXiv 2505.24760)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rlvr_bench.errors import DataError, TaskError, UnknownName
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task, join_parameters

__all__ = ["PUZZLE_SEED", "GymDataset", "gym_task", "puzzle"]

LICENCE = "Apache-2.0"
PUZZLE_SEED = 20260101  # of the tasks with a name of their own
# Many solutions are right and the generator keeps none, so there is no gold answer to validate with.
WITHOUT_ANSWERS = frozenset(("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"))
ANY_SOLUTION = "any solution that the data set's scorer accepts"
NONSENSE_CASES = (
    Case("I cannot solve this one.", "no_answer"),
    Case("\\boxed{certainly not an answer to anything asked here}", "wrong"),
)

Scorer = Callable[[str, dict[str, Any]], float]


@dataclass(frozen=True, kw_only=True)
class GymDataset:
    """Problems of one reasoning-gym data set, made with one seed and one set of settings."""

    dataset: str
    rows: int
    seed: int
    settings: Mapping[str, Any]
    sha256: str | None = None

    def describe(self) -> str:
        try:
            installed = version("reasoning-gym")
        except PackageNotFoundError:
            installed = "(not installed)"
        settings = join_parameters([], {"seed": self.seed, **self.settings})
        return f"reasoning-gym {installed}, {self.dataset}, {settings}"

    def load(self, name: str, data_dir: Path | None) -> list[Problem]:
        """Generate the problems. Raises DataError, TaskError or UnknownName."""
        entries, score = self._generate(name)
        problems = [self._problem(number, entry) for number, entry in enumerate(entries)]
        self._check_scoring(entries[0], problems[0], score)
        return problems

    def _generate(self, name: str) -> tuple[list[dict[str, Any]], Scorer]:
        try:
            from reasoning_gym.factory import DATASETS, create_dataset, get_score_answer_fn
        except ImportError as error:
            raise DataError(
                f"task {name!r} needs the package reasoning-gym: pip install 'rlvr-bench[reasoning-gym]'"
            ) from error
        if self.dataset not in DATASETS:
            raise UnknownName("reasoning-gym data set", self.dataset, DATASETS)
        try:
            made = create_dataset(self.dataset, size=self.rows, seed=self.seed, **self.settings)
            return [made[number] for number in range(self.rows)], get_score_answer_fn(self.dataset)
        except Exception as error:
            raise TaskError(f"task {name!r}: reasoning-gym refuses these settings: {_first_line(error)}") from error

    def _problem(self, number: int, entry: dict[str, Any]) -> Problem:
        try:
            metadata = json.loads(json.dumps(entry["metadata"], sort_keys=True))
        except (TypeError, ValueError) as error:
            raise DataError(
                f"reasoning-gym {self.dataset}: its metadata cannot be kept with a run ({error})"
            ) from error
        answer = entry["answer"]
        generator = str(metadata.get("source_dataset") or self.dataset)
        return Problem(
            id=f"{self.dataset}-{number}",
            question=entry["question"],
            answer=ANY_SOLUTION if answer is None else str(answer),
            # One generator is what the task asks about; of several, each makes a cluster.
            cluster="" if generator == self.dataset else generator,
            data={"metadata": metadata},
        )

    def _check_scoring(self, entry: dict[str, Any], problem: Problem, score: Scorer) -> None:
        """Check the scorer on stored metadata: JSON changes some Python objects, and then every answer would be wrong."""
        if entry["answer"] is None:
            return
        kept = {"question": problem.question, "answer": problem.answer, "metadata": problem.data["metadata"]}
        if score(problem.answer, kept) < score(problem.answer, entry):
            raise DataError(f"reasoning-gym {self.dataset}: its scorer does not work on problems kept with a run")


def gym_task(name: str, summary: str, source: GymDataset, *, threshold: float = 1.0) -> Task:
    """The task of a data set, with the cases that hold for every data set."""
    return Task(
        name=name,
        version="1",
        summary=summary,
        kind="puzzle",
        licence=LICENCE,
        source=source,
        verifier="reasoning_gym",
        options={"dataset": source.dataset, "threshold": threshold, "policy": "boxed"},
        gold=None if source.dataset in WITHOUT_ANSWERS else "\\boxed{{answer}}",
        cases=NONSENSE_CASES,
    )


def puzzle(
    name: str,
    dataset: str,
    summary: str,
    settings: Mapping[str, Any],
    *,
    sha256: str,
    rows: int = 100,
    answer_space: int | None = None,
    cases: tuple[Case, ...],
) -> Task:
    """A puzzle with a name of its own: seed, settings and content are pinned, so that two teams mean the same problems.

    The pin holds for one version of reasoning-gym, because the version decides what a seed generates.
    """
    source = GymDataset(dataset=dataset, rows=rows, seed=PUZZLE_SEED, settings=settings, sha256=sha256)
    task = gym_task(name, summary, source)
    sampling = SamplingParameters(max_tokens=8192)
    return dataclasses.replace(task, cases=(*task.cases, *cases), sampling=sampling, answer_space=answer_space)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
