"""The input of a page: scorecards with their run folders, in the order of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rlvr_bench.comparison.cards import read_card
from rlvr_bench.comparison.steps import step_of
from rlvr_bench.records import Problem
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.store import Run, open_run

__all__ = ["Source", "by_task", "in_steps", "read_sources", "short_names"]


@dataclasses.dataclass(frozen=True)
class Source:
    """A scorecard, its file, and its run folder (None for a file outside of one)."""

    file: Path
    card: Scorecard
    run: Run | None

    def questions(self) -> dict[str, Problem]:
        """The problems by id; empty without a run folder. Raises RunError where the file is damaged."""
        if self.run is None or not (self.run.path / "problems.jsonl").is_file():
            return {}
        return {problem.id: problem for problem in self.run.problems()}


def read_sources(paths: Sequence[str | Path]) -> list[Source]:
    """Scorecards with their run folders, in the order given, without repeated files. Raises RunError."""
    sources: dict[Path, Source] = {}
    for path in paths:
        file, card = read_card(path)
        in_run = (file.parent / "manifest.json").is_file() and file.name == "scorecard.json"
        sources.setdefault(file.resolve(), Source(file, card, open_run(file.parent) if in_run else None))
    return list(sources.values())


def by_task(sources: Sequence[Source]) -> list[list[Source]]:
    """The sources of each task, tasks in order of first appearance."""
    groups: dict[str, list[Source]] = {}
    for source in sources:
        groups.setdefault(source.card.run.task, []).append(source)
    return list(groups.values())


def in_steps(sources: Sequence[Source]) -> list[Source]:
    """The sources with the checkpoints of each training series together, by step, at the position of the first one."""
    steps = [step_of(source.card.run.model) for source in sources]
    first: dict[str, int] = {}
    for number, step in enumerate(steps):
        if step is not None:
            first.setdefault(step.series, number)
    keys = [(number, 0) if step is None else (first[step.series], step.step) for number, step in enumerate(steps)]
    return [sources[number] for number in sorted(range(len(sources)), key=lambda number: (keys[number], number))]


def short_names(names: Sequence[str]) -> list[str]:
    """The last parts of each path, as few as make the names differ; a name that is not a path stays."""
    parts = [name.rstrip("/").split("/") for name in names]
    for depth in range(1, max(map(len, parts)) + 1):
        short = ["/".join(part[-depth:]) for part in parts]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)
