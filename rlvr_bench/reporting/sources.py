"""What a page is made from: scorecards, the run folders they lie in, in the order of training."""

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
    """A scorecard, its file, and the run folder that holds it (None for a lone file)."""

    file: Path
    card: Scorecard
    run: Run | None

    def questions(self) -> dict[str, Problem]:
        """The problems by id; empty where only the scorecard is at hand. Raises RunError where the file is damaged."""
        if self.run is None or not (self.run.path / "problems.jsonl").is_file():
            return {}
        return {problem.id: problem for problem in self.run.problems()}


def read_sources(paths: Sequence[str | Path]) -> list[Source]:
    """Scorecards with the run folders they lie in, in the order given, a file named twice once. Raises RunError."""
    sources: dict[Path, Source] = {}
    for path in paths:
        file, card = read_card(path)
        whole = (file.parent / "manifest.json").is_file() and file.name == "scorecard.json"
        sources.setdefault(file.resolve(), Source(file, card, open_run(file.parent) if whole else None))
    return list(sources.values())


def by_task(sources: Sequence[Source]) -> list[list[Source]]:
    """The sources of each task, tasks in order of first appearance."""
    groups: dict[str, list[Source]] = {}
    for source in sources:
        groups.setdefault(source.card.run.task, []).append(source)
    return list(groups.values())


def in_steps(sources: Sequence[Source]) -> list[Source]:
    """The checkpoints of a training series together and by step, where the first of them stood; the others in place."""
    steps = [step_of(source.card.run.model) for source in sources]
    first: dict[str, int] = {}
    for place, step in enumerate(steps):
        if step is not None:
            first.setdefault(step.series, place)
    keys = [(place, 0) if step is None else (first[step.series], step.step) for place, step in enumerate(steps)]
    return [sources[place] for place in sorted(range(len(sources)), key=lambda place: (keys[place], place))]


def short_names(names: Sequence[str]) -> list[str]:
    """The fewest last parts of each path that keep the names apart; a name that is no path stays."""
    parts = [name.rstrip("/").split("/") for name in names]
    for depth in range(1, max(map(len, parts)) + 1):
        short = ["/".join(part[-depth:]) for part in parts]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)
