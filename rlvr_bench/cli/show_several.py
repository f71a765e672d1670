"""Prints the results of several runs: a table of the successes, a line for each failure; sets the exit status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import typer

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.tables import show_blocks
from rlvr_bench.cli.terminal import Terminal, say
from rlvr_bench.metrics import METRICS, find_metric
from rlvr_bench.pipeline.several import Done, Graded
from rlvr_bench.records import STATUSES
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.scorecard_views import figure_of, shown_curve
from rlvr_bench.tables import Cell, Column, Format, Line, Table, best_marked

__all__ = ["end_of_gradings", "end_of_runs", "end_of_scores"]

T = TypeVar("T")

_METRICS = ("unsolved", *(metric.name for metric in METRICS if any(column.tables for column in metric.board)))
_BUDGETS = 3


def end_of_scores(done: Sequence[Done[Scorecard]], form: Format, *, as_json: bool) -> None:
    """Print a row for each scorecard. Raises typer.Exit with status 2 where a run failed."""
    with_intervals = form != "table"
    end_of_runs(
        done, lambda card: card, lambda well: [_scores(well, with_intervals=with_intervals)], form, as_json=as_json
    )


def end_of_gradings(done: Sequence[Done[Graded]], form: Format, *, as_json: bool) -> None:
    """Print a row for each grading. Raises typer.Exit with status 2 where a run failed."""
    end_of_runs(done, _grading_json, lambda well: [_gradings(well)], form, as_json=as_json)


def end_of_runs(
    done: Sequence[Done[T]],
    plain: Callable[[T], object],
    blocks: Callable[[Sequence[Done[T]]], Sequence[Line | Table]],
    form: Format,
    *,
    as_json: bool,
) -> None:
    """Print the results as JSON (``plain``) or as ``blocks``, and a line for each failure.

    Raises typer.Exit with status 2 where a run failed.
    """
    well = [item for item in done if item.result is not None]
    if as_json:
        print_json([_failed(item) if item.result is None else plain(item.result) for item in done])
    elif well:
        show_blocks(Terminal(), blocks(well), form)
    for item in done:
        if item.error is not None:
            where = "" if str(item.run) in item.error else f"{item.run}: "
            say(f"rlvr-bench: {where}{item.error}")
    if len(well) < len(done):
        raise typer.Exit(2)


def _failed(item: Done[T]) -> dict[str, str | None]:
    return {"run": str(item.run), "error": item.error}


def _grading_json(graded: Graded) -> dict[str, object]:
    return {
        "grading": graded.grading,
        "flips": graded.flips,
        "audit": graded.audit,
        "disagreements": graded.disagreements,
    }


def _scores(done: Sequence[Done[Scorecard]], *, with_intervals: bool) -> Table:
    """A row for each scorecard. ``with_intervals`` is False for a terminal, which has no room for them."""
    cards = [item.result for item in done if item.result is not None]
    tasks = [card.run.task for card in cards]
    columns = [Column("model"), Column("task"), Column("problems", "right"), Column("n", "right")]
    cells: list[Sequence[Cell]] = [
        [card.run.model for card in cards],
        tasks,
        [f"{card.run.n_problems_drawn}" for card in cards],
        [f"{card.run.n_min}" for card in cards],
    ]
    for name, k in [*(("pass@k", k) for k in _budgets(cards)), *((name, None) for name in _METRICS)]:
        figures = [_cell(card, name, k, with_interval=with_intervals) for card in cards]
        if any(figures):
            columns.append(Column(name.replace("@k", f"@{k}").replace("_", " "), "right"))
            cells.append(_best_of_each_task(figures, tasks, name))
    return Table(tuple(columns), tuple(zip(*cells, strict=True)))


def _budgets(cards: Sequence[Scorecard]) -> list[int]:
    """The smallest, the middle and the largest of the budgets of ``shown_curve``; all if they are at most three."""
    known = sorted({estimate.k for card in cards for estimate in shown_curve(card.estimates) if estimate.k is not None})
    return known if len(known) <= _BUDGETS else [known[0], known[len(known) // 2], known[-1]]


def _cell(card: Scorecard, name: str, k: int | None, *, with_interval: bool) -> Cell:
    estimates = [e for e in card.estimates if e.name == name and e.group is None and (k is None or e.k == k)]
    figure = figure_of(estimates[0]) if estimates else None
    return figure if with_interval or figure is None else msgspec.structs.replace(figure, low=None, high=None)


def _best_of_each_task(figures: Sequence[Cell], tasks: Sequence[str], name: str) -> list[Cell]:
    metric = find_metric(name)
    marked = list(figures)
    for task in set(tasks):
        at = [i for i, other in enumerate(tasks) if other == task]
        best = best_marked([figures[i] for i in at], "neither" if metric is None else metric.better)
        for i, cell in zip(at, best, strict=True):
            marked[i] = cell
    return marked


def _gradings(done: Sequence[Done[Graded]]) -> Table:
    audited = any(item.result is not None and item.result.audit is not None for item in done)
    imported = any(item.result is not None and item.result.disagreements is not None for item in done)
    more = [*(["audit disagrees"] if audited else []), *(["differ from theirs"] if imported else [])]
    numbers = ["rollouts", *STATUSES, "distinct answers", "changed", *more]
    columns = (Column("run"), Column("verifier"), *(Column(name.replace("_", " "), "right") for name in numbers))
    return Table(columns, tuple(_grading_row(item, audited=audited, imported=imported) for item in done))


def _grading_row(item: Done[Graded], *, audited: bool, imported: bool) -> tuple[Cell, ...]:
    if item.result is None:
        return ()
    grading, audit = item.result.grading, item.result.audit
    counts = [grading.rollouts, *(grading.statuses.get(name, 0) for name in STATUSES), grading.distinct]
    rate = "" if audit is None or audit.rate is None else f"{audit.rate:.1%}"
    numbers = [f"{count}" for count in (*counts, len(item.result.flips))]
    both = item.result.disagreements
    differ = "" if both is None else f"{both.differ:,} of {both.compared:,}"
    more = [*([rate] if audited else []), *([differ] if imported else [])]
    return (str(item.run), f"{grading.verifier} {grading.version}", *numbers, *more)
