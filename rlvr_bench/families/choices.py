"""Questions with lettered options, shuffled for each problem with a seed that the source of the run names.

A model that likes one letter, or a set whose right answers are often at one letter, would otherwise move the score. The order
of the options is kept with each problem, so that what guessing reaches is known exactly (`rlvr_bench.scorers.guessing`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.errors import DataError
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task

__all__ = ["LETTERS", "SHUFFLE_SEED", "Choice", "choice_problem", "choice_task"]

SHUFFLE_SEED = 0
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CASES = (
    Case("I do not know.", "no_answer"),
    Case("\\boxed{A or B}", "wrong"),
    Case("\\boxed{Z}", "wrong"),
)
# Such an option means others by their letter or place: its question keeps its order.
_MEANS_OTHERS = re.compile(
    r"(?i:\b(?:all|none|both|any|each|either|neither|some|most|two)\s+(?:one\s+)?of\s+(?:the\s+)?(?:above|below|these|them|other)"
    r"|\b(?:the|options?|answers?|choices?)\s+(?:above|below)\b"
    r"|\b(?:above|preceding|previous|following)\s+(?:options?|answers?|choices?)\b)"
    r"|\b(?i:options?|choices?|answers?)\s*\(?[A-J]\)?(?![\w'])"
    r"|^\W*(?:(?i:both|neither|either|only)\s+)?\(?[A-J]\)?\s*(?:,|&|(?i:and|or|nor)\b)\s*\(?[A-J]\b"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """A question, its options in the order of the data, and the index of the right one."""

    id: str
    question: str
    options: Sequence[str]
    right: int
    tier: str = ""
    cluster: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceDataset(HubDataset):
    """A hub data set whose options are shuffled with ``seed``; the seed is part of the description that a run keeps."""

    seed: int = SHUFFLE_SEED

    def describe(self) -> str:
        return f"{super().describe()}, options shuffled with seed {self.seed}"


def choice_problem(choice: Choice, where: str, seed: int = SHUFFLE_SEED) -> Problem:
    """The problem with its options in random order: a permutation that only the seed and the id decide.

    ``data["order"]`` has the index in the data of each option as shown. An option that means others by letter or place ("both
    A and B", "none of the above") keeps the order of its question. Raises DataError where there are fewer than two options or
    more than letters, an option is empty, or there is no right one.
    """
    options = [str(option).strip() for option in choice.options]
    if not 2 <= len(options) <= len(LETTERS) or not all(options) or not 0 <= choice.right < len(options):
        raise DataError(
            f"{where}: expected 2 to {len(LETTERS)} options and the right one among them, got {len(options)}"
            f"{', one of them empty' if not all(options) else ''} and number {choice.right + 1}"
        )
    order = list(range(len(options)))
    if not any(map(_MEANS_OTHERS.search, options)):
        order.sort(key=lambda index: hashlib.sha256(f"{seed}/{choice.id}/{index}".encode()).digest())
    lines = [f"{letter}. {options[index]}" for letter, index in zip(LETTERS, order, strict=False)]
    return Problem(
        id=choice.id,
        question="\n".join([choice.question, "", *lines]),
        answer=LETTERS[order.index(choice.right)],
        tier=choice.tier,
        cluster=choice.cluster,
        data={"order": order},
    )


def choice_task(
    name: str,
    path: str,
    summary: str,
    read: Callable[[Row], Choice],
    *,
    rows: int | None,
    licence: str,
    split: str,
    config: str | None = None,
    sha256: str | None = None,
    seed: int = SHUFFLE_SEED,
) -> Task:
    """The task of a data set of lettered questions; ``read`` turns a row into a question."""

    def to_problem(row: Row) -> Problem:
        return choice_problem(read(row), row.where, seed)

    return Task(
        name=name,
        version="1",
        summary=summary,
        kind="choice",
        licence=licence,
        source=ChoiceDataset(
            path=path, config=config, split=split, to_problem=to_problem, rows=rows, sha256=sha256, seed=seed
        ),
        prompt="choice-boxed",
        verifier="choice",
        sampling=SamplingParameters(max_tokens=16384),
        cases=CASES,
    )
