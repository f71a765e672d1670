"""MathArena's competitions by name: ``matharena:aime_2025``, ``matharena:hmmt_nov_2024`` (arXiv 2505.23281).

The name is that of the hub data set ``MathArena/NAME``. Only competitions with final answers can be judged: a set whose rows
have no ``answer`` (proofs) is refused. Without a name the task is HMMT February 2025, as ``hmmt_feb25`` but without its pin.
A mirror is the file ``matharena_NAME.jsonl`` of the data folder. No content is pinned.
"""

import dataclasses
import re

from rlvr_bench.errors import TaskError
from rlvr_bench.families.competitions import MATHARENA_LICENCE, competition
from rlvr_bench.task import Task

LONGEST = 64


def make_task(parameters: str) -> Task:
    """The task of one competition. Raises TaskError."""
    if len(parameters) > LONGEST or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", parameters):
        raise TaskError(
            f"task matharena: {parameters[:LONGEST]!r} is no name of a competition, such as aime_2025 or hmmt_nov_2024"
        )
    return _task(parameters, None)


def _task(parameters: str, rows: int | None) -> Task:
    return competition(
        f"matharena:{parameters}",
        f"MathArena/{parameters}",
        f"MathArena's {parameters}: competition problems with final answers.",
        rows=rows,
        licence=MATHARENA_LICENCE,
    )


TASK = dataclasses.replace(
    _task("hmmt_feb_2025", 30),
    name="matharena",
    summary="MathArena's competitions: matharena:NAME; without a name HMMT February 2025.",
)
