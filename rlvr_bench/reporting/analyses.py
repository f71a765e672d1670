"""What was computed beside the runs of a page: rescorings, interventions, judges, tools, and their training series."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from rlvr_bench.analysis.intervention_results import Interventions
from rlvr_bench.analysis.shift_results import Rescoring
from rlvr_bench.analysis.stored_results import read_interventions, read_rescorings
from rlvr_bench.analysis.training_series import TrainingSeries, series_of
from rlvr_bench.comparison.steps import step_of
from rlvr_bench.reporting.sources import Source

__all__ = [
    "PageInterventions",
    "PageJudge",
    "PageRescoring",
    "PageSeries",
    "PageTools",
    "interventions",
    "judge_of",
    "rescorings",
    "text_and_tools",
    "tools_of",
    "training",
]

T = TypeVar("T", bound=msgspec.Struct)


class PageRescoring(msgspec.Struct, frozen=True, kw_only=True):
    """Run number ``run`` under another checkpoint, as ``rescored/<name>/rescore.json`` has it."""

    run: int
    name: str
    result: Rescoring


class PageInterventions(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of run number ``run`` swapped, as ``interventions/<name>/result.json`` has it."""

    run: int
    name: str
    result: Interventions


class PageSeries(msgspec.Struct, frozen=True, kw_only=True):
    """The checkpoints of one training run, numbers ``runs`` by step; their metrics are the estimates of those runs."""

    series: str
    runs: list[int]
    result: TrainingSeries


class PageTools(msgspec.Struct, frozen=True, kw_only=True):
    """What a run could call while it answered, and how often it did: calls, and failed ones, per response."""

    language: str
    version: str
    calls: float | None
    errors: float | None


class PageJudge(msgspec.Struct, frozen=True, kw_only=True):
    """Who judged a run's reasoning, how votes were combined, and the verdicts on its correct rollouts."""

    judge: str
    version: str
    rule: str
    rollouts: int
    valid: int
    invalid: int
    error: int


def rescorings(sources: Sequence[Source]) -> list[PageRescoring]:
    """Every rescoring that lies beside a run. Raises RunError where its file is damaged."""
    return [PageRescoring(run=i, name=name, result=found) for i, name, found in _beside(sources, read_rescorings)]


def interventions(sources: Sequence[Source]) -> list[PageInterventions]:
    """Every set of interventions that lies beside a run. Raises RunError where its file is damaged."""
    return [
        PageInterventions(run=i, name=name, result=found) for i, name, found in _beside(sources, read_interventions)
    ]


def _beside(sources: Sequence[Source], read: Callable[[Path], Mapping[str, T]]) -> Iterator[tuple[int, str, T]]:
    """What lies beside each run, with the run's number and the name of its folder."""
    for number, source in enumerate(sources):
        if source.run is not None:
            yield from ((number, name, result) for name, result in read(source.run.path).items())


def tools_of(source: Source) -> PageTools | None:
    """None for a run without tools."""
    tools, quality = source.card.run.tools, source.card.quality
    if tools is None:
        return None
    return PageTools(
        language=tools.language,
        version=tools.version,
        calls=quality.get("tool_calls_per_response"),
        errors=quality.get("tool_errors_per_response"),
    )


def judge_of(source: Source) -> PageJudge | None:
    """None for a run that was not judged, or not to the end."""
    judging = source.card.run.judging
    return None if judging is None else msgspec.convert(judging, PageJudge, from_attributes=True)


def text_and_tools(sources: Sequence[Source]) -> list[tuple[int, int]]:
    """Numbers of the runs of one checkpoint without tools and with them."""
    plain, able = (
        [number for number, source in enumerate(sources) if (tools_of(source) is None) is without]
        for without in (True, False)
    )
    return [(text, tool) for text in plain for tool in able if _checkpoint(sources[text]) == _checkpoint(sources[tool])]


def training(sources: Sequence[Source], allow: Collection[str]) -> list[PageSeries]:
    """Every training series of at least two steps; of two runs of one step the first counts.

    A checkpoint drawn with tools is of another series than without. Raises the errors of ``series``.
    """
    found: dict[str, dict[int, int]] = {}
    for number, source in enumerate(sources):
        if (place := place_in_series(source)) is not None:
            found.setdefault(place[0], {}).setdefault(place[1], number)
    return [_series(name, at, sources, allow) for name, at in found.items() if len(at) > 1]


def place_in_series(source: Source) -> tuple[str, int] | None:
    """The training series and the step of a checkpoint whose name tells them."""
    tools, step = tools_of(source), step_of(source.card.run.model)
    if step is None:
        return None
    return step.series if tools is None else f"{step.series} + {tools.language}", step.step


def _series(name: str, at: dict[int, int], sources: Sequence[Source], allow: Collection[str]) -> PageSeries:
    steps = sorted(at)
    cards = [(sources[at[step]].file, sources[at[step]].card) for step in steps]
    result = msgspec.structs.replace(series_of(cards, steps, allow), metrics=())
    return PageSeries(series=name, runs=[at[step] for step in steps], result=result)


def _checkpoint(source: Source) -> tuple[object, object]:
    return source.card.run.model, source.card.run.weights
