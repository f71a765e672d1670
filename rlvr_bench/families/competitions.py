"""Competitions with a final answer: a hub data set with a row for each problem, its number, text and answer.

The field names of MathArena's sets (`problem_idx`, `problem`, `answer`, `problem_type`) are those of their data cards.
"""

from __future__ import annotations

from collections.abc import Callable

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task

__all__ = ["MATHARENA_LICENCE", "NO_ANSWER_CASES", "competition", "subject"]

MATHARENA_LICENCE = "CC-BY-NC-SA-4.0"
# These get the same verdict for every gold answer, so they can be checked without the problems.
NO_ANSWER_CASES = (
    Case("I cannot solve this one.", "no_answer"),
    Case("The answer is 7.", "no_answer"),
    Case("\\boxed{\\text{certainly not an answer to this}}", "wrong"),
    Case("\\boxed{1 \\text{ or } 2 \\text{ or } 3}", "wrong"),
)


def subject(row: Row) -> str:
    """The subject of a problem, several in alphabetical order; empty where the row has none."""
    values = next((row.values[name] for name in ("problem_type", "subject", "topic") if row.values.get(name)), "")
    return " and ".join(sorted(map(str, values))) if isinstance(values, list | tuple) else str(values)


def competition(
    name: str,
    path: str,
    summary: str,
    *,
    rows: int | None,
    licence: str,
    split: str = "train",
    config: str | None = None,
    sha256: str | None = None,
    integers: bool = False,
    answer_space: int | None = None,
    cluster: Callable[[int], str] = lambda number: "",
    cases: tuple[Case, ...] = NO_ANSWER_CASES,
) -> Task:
    """The task of one competition, whose problems are judged by their final answer.

    ``integers``: every answer is an integer. ``cluster``: the paper or round of a problem, from its number.
    """

    def to_problem(row: Row) -> Problem:
        number = int(row.text("problem_idx")) if row.values.get("problem_idx") else row.number
        answer = row.text("answer", "solution")
        return Problem(
            id=f"{name.replace(':', '-')}-{number}",
            question=row.text("problem", "question"),
            answer=str(int(answer)) if integers and answer.isdecimal() else answer,  # "025" and 25 are one answer
            tier=subject(row),
            cluster=cluster(number),
        )

    return Task(
        name=name,
        version="1",
        summary=summary,
        kind="maths",
        licence=licence,
        source=HubDataset(path=path, config=config, split=split, to_problem=to_problem, rows=rows, sha256=sha256),
        verifier="integer" if integers else "math",
        answer_space=answer_space,
        sampling=SamplingParameters(max_tokens=32768),
        cases=cases,
    )
