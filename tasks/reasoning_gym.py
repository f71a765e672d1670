"""reasoning-gym: over a hundred generators of puzzles and exercises, each with its scorer (arXiv 2505.24760).

``reasoning_gym:chain_sum,size=200,seed=7,threshold=1.0,min_terms=4`` names the data set, the number of problems, the seed,
the score from which an answer counts as right, and any settings of the data set, such as its difficulty. Without parameters
the task is ``chain_sum``. The installed version of reasoning-gym decides what a seed generates and how it is scored: the
version is part of the source, and every run keeps the digest of its problems, but no digest can be pinned here.
``tasks validate`` also scores a nonsense answer: ``game_of_life_halting`` calls it right and ``prime_factorization`` fails
on it, so validate a data set before you trust it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rlvr_bench.errors import DataError, TaskError, UnknownName
from rlvr_bench.records import Problem
from rlvr_bench.task import Case, Task, join_parameters, split_parameters

DEFAULTS: dict[str, Any] = {"seed": 0, "size": 200, "threshold": 1.0}
# Many solutions are right and the generator keeps none, so there is no gold answer to validate with.
WITHOUT_ANSWERS = frozenset(("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"))
ANY_SOLUTION = "any solution that the data set's scorer accepts"

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


def make_task(parameters: str) -> Task:
    """The task of one data set: ``DATASET[,size=][,seed=][,threshold=][,SETTING=...]``. Raises TaskError."""
    words, values = split_parameters(parameters)
    if len(words) > 1:
        raise TaskError(f"task reasoning_gym: one data set at a time, not {', '.join(words)}")
    dataset = words[0] if words else "chain_sum"
    asked = DEFAULTS | values
    for key, kind in (("size", int), ("seed", int), ("threshold", (int, float))):
        if not isinstance(asked[key], kind) or isinstance(asked[key], bool) or (key == "size" and asked[key] < 1):
            raise TaskError(f"task reasoning_gym: {key}={asked[key]!r} is not a {'positive ' * (key == 'size')}number")
    changed = {key: value for key, value in values.items() if DEFAULTS.get(key) != value}
    return Task(
        name=f"reasoning_gym:{join_parameters([dataset], changed)}",
        version="1",
        summary=f"reasoning-gym's {dataset}: {asked['size']} generated problems, scored by the data set.",
        source=GymDataset(
            dataset=dataset,
            rows=asked["size"],
            seed=asked["seed"],
            settings={key: value for key, value in values.items() if key not in DEFAULTS},
        ),
        verifier="reasoning_gym",
        options={"dataset": dataset, "threshold": float(asked["threshold"]), "policy": "boxed"},
        gold=None if dataset in WITHOUT_ANSWERS else "\\boxed{{answer}}",
        cases=(
            Case("I cannot solve this one.", "no_answer"),
            Case("\\boxed{certainly not an answer to anything asked here}", "wrong"),
        ),
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


_DEFAULT = make_task("chain_sum")
TASK = dataclasses.replace(
    _DEFAULT,
    name="reasoning_gym",
    summary="reasoning-gym: 200 generated sums (chain_sum); reasoning_gym:DATASET,KEY=VALUE for its other data sets.",
    cases=(
        *_DEFAULT.cases,
        Case("So the result is \\boxed{-14282}.", "correct", "chain_sum-0"),
        Case("\\boxed{14282}", "wrong", "chain_sum-0"),
        Case("\\boxed{-14282 or -14283}", "wrong", "chain_sum-0"),  # reasoning-gym gives this one partial credit
        Case("The answer is -14282.", "no_answer", "chain_sum-0"),
    ),
)
