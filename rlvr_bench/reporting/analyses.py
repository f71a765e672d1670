"""Further results of the runs of a page: caps, rescorings, interventions, judges, tools, and training series."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from rlvr_bench.analysis.intervention_results import Interventions
from rlvr_bench.analysis.reach_results import Reach
from rlvr_bench.analysis.shift_results import Rescoring
from rlvr_bench.analysis.stored_results import read_interventions, read_reaches, read_rescorings
from rlvr_bench.analysis.training_series import TrainingSeries, series_of
from rlvr_bench.comparison.cap_scores import CapScores, read_cap_scores
from rlvr_bench.comparison.steps import step_of
from rlvr_bench.measured_error import MeasuredError
from rlvr_bench.reporting.sources import Source

__all__ = [
    "PageCaps",
    "PageInterventions",
    "PageJudge",
    "PageReach",
    "PageRescoring",
    "PageSeries",
    "PageTools",
    "caps_of",
    "error_of",
    "interventions",
    "judge_of",
    "reaches",
    "rescorings",
    "text_and_tools",
    "tools_of",
    "training",
]

T = TypeVar("T", bound=msgspec.Struct)


class PageRescoring(msgspec.Struct, frozen=True, kw_only=True):
    """A rescoring of run number ``run``: the content of ``rescored/<name>/rescore.json``."""

    run: int
    name: str
    result: Rescoring


class PageCaps(msgspec.Struct, frozen=True, kw_only=True):
    """Run number ``run`` at several caps: the content of ``caps/scores.json``."""

    run: int
    result: CapScores


class PageReach(msgspec.Struct, frozen=True, kw_only=True):
    """Solve rates of run number ``run``: the content of ``reach/<name>.json``."""

    run: int
    name: str
    result: Reach


class PageInterventions(msgspec.Struct, frozen=True, kw_only=True):
    """Interventions in run number ``run``: the content of ``interventions/<name>/result.json``."""

    run: int
    name: str
    result: Interventions


class PageSeries(msgspec.Struct, frozen=True, kw_only=True):
    """A training series: the numbers of its runs by step. Its metrics are the estimates of these runs."""

    series: str
    runs: list[int]
    result: TrainingSeries


class PageTools(msgspec.Struct, frozen=True, kw_only=True):
    """The tool of a run, and the numbers of calls and of failed calls per response."""

    language: str
    version: str
    calls: float | None
    errors: float | None


class PageJudge(msgspec.Struct, frozen=True, kw_only=True):
    """The judge of a run's reasoning, the rule that combined the votes, and the verdicts on its correct rollouts."""

    judge: str
    version: str
    rule: str
    rollouts: int
    valid: int
    invalid: int
    error: int


def rescorings(sources: Sequence[Source]) -> list[PageRescoring]:
    """The rescorings stored in the runs. Raises RunError where a file is damaged."""
    return [PageRescoring(run=i, name=name, result=result) for i, name, result in _stored(sources, read_rescorings)]


def caps_of(sources: Sequence[Source]) -> tuple[list[PageCaps], list[str]]:
    """The runs at several caps, and notes on those that have changed since. Raises RunError where a file is damaged."""
    pages, notes = [], []
    for number, source in enumerate(sources):
        result = None if source.run is None else read_cap_scores(source.run.path)
        if result is None:
            continue
        if (result.grading, result.n) == (source.card.run.grading.folder, source.card.run.n):
            pages.append(PageCaps(run=number, result=result))
        else:
            notes.append(
                f"{source.card.run.model}: its caps are of other rollouts or verdicts and are left out: score --token-cap"
            )
    return pages, notes


def reaches(sources: Sequence[Source]) -> list[PageReach]:
    """The solve rates stored in the runs. Raises RunError where a file is damaged."""
    return [PageReach(run=i, name=name, result=result) for i, name, result in _stored(sources, read_reaches)]


def interventions(sources: Sequence[Source]) -> list[PageInterventions]:
    """The interventions stored in the runs. Raises RunError where a file is damaged."""
    return [
        PageInterventions(run=i, name=name, result=result) for i, name, result in _stored(sources, read_interventions)
    ]


def _stored(sources: Sequence[Source], read: Callable[[Path], Mapping[str, T]]) -> Iterator[tuple[int, str, T]]:
    """The results stored in each run, with the run's number and the name of the result."""
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
    """None for a run that was not judged, or only in part."""
    judging = source.card.run.judging
    return None if judging is None else msgspec.convert(judging, PageJudge, from_attributes=True)


def error_of(source: Source) -> MeasuredError | None:
    """The verifier's error of a run without its counts; None where the run was not scored with it."""
    error = source.card.verifier_error
    return None if error is None else msgspec.structs.replace(error, seen={}, undecided={})


def text_and_tools(sources: Sequence[Source]) -> list[tuple[int, int]]:
    """Pairs of runs of one checkpoint: the number of a run without tools, and of one with tools."""
    plain, with_tools = (
        [number for number, source in enumerate(sources) if (tools_of(source) is None) is without]
        for without in (True, False)
    )
    return [
        (text, tool)
        for text in plain
        for tool in with_tools
        if _checkpoint(sources[text]) == _checkpoint(sources[tool])
    ]


def training(sources: Sequence[Source], allow: Collection[str]) -> list[PageSeries]:
    """The training series of at least two steps; of two runs of one step the first is used.

    Runs with tools are another series than those without. Raises the errors of ``series``.
    """
    numbers: dict[str, dict[int, int]] = {}
    for number, source in enumerate(sources):
        if (step := series_and_step(source)) is not None:
            numbers.setdefault(step[0], {}).setdefault(step[1], number)
    return [_series(name, by_step, sources, allow) for name, by_step in numbers.items() if len(by_step) > 1]


def series_and_step(source: Source) -> tuple[str, int] | None:
    """The training series and the step of a checkpoint; None where its name does not have them."""
    tools, step = tools_of(source), step_of(source.card.run.model)
    if step is None:
        return None
    return step.series if tools is None else f"{step.series} + {tools.language}", step.step


def _series(name: str, by_step: dict[int, int], sources: Sequence[Source], allow: Collection[str]) -> PageSeries:
    steps = sorted(by_step)
    cards = [(sources[by_step[step]].file, sources[by_step[step]].card) for step in steps]
    result = msgspec.structs.replace(series_of(cards, steps, allow), metrics=())
    return PageSeries(series=name, runs=[by_step[step] for step in steps], result=result)


def _checkpoint(source: Source) -> tuple[object, object]:
    return source.card.run.model, source.card.run.weights
