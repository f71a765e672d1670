"""The command ``series``: the checkpoints of one training run, by training step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from rlvr_bench.cli.compare import Allow
from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson
from rlvr_bench.cli.tables import AsFormat, show_blocks, text_table
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.errors import BadArgument
from rlvr_bench.metrics import METRICS, find_metric
from rlvr_bench.tables import Cell, Column, Figure, Format, Line, Table, best_marked

if TYPE_CHECKING:
    from rlvr_bench.analysis.performance_law import EntropyLaw
    from rlvr_bench.analysis.stages import StageFit
    from rlvr_bench.analysis.training_series import Metric, TrainingSeries
    from rlvr_bench.records import Estimate

__all__ = ["register"]

Runs = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Run folders, scorecards, folders of these, or globs.")
]
Steps = Annotated[
    str | None,
    typer.Option(help="Training steps, such as 0,20,40, in the order of the runs. Default: from their names."),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(series)


def series(
    runs: Runs, steps: Steps = None, allow: Allow = None, format_: AsFormat = "table", as_json: AsJson = False
) -> None:
    """Show metrics by training step, stages of training, and the entropy-performance law. Reads scorecards only."""
    from rlvr_bench.analysis.training_series import series as read_series

    training = read_series(runs, None if steps is None else _read_steps(steps), allow or ())
    if as_json:
        print_json(training)
    else:
        _show(Terminal(), training, format_)


def _read_steps(text: str) -> list[int]:
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError:
        raise BadArgument("--steps", text, "must be whole numbers separated by commas, such as 0,20,40") from None
    if min(steps) < 0:
        raise BadArgument("--steps", text, "every step must be 0 or more")
    return steps


# (name, group): the columns that fit into a terminal
_COLUMNS = {(metric.name, group): title for metric in METRICS for group, title in metric.series_titles}


def _show(console: Console, training: TrainingSeries, form: Format) -> None:
    show_blocks(console, list(_blocks(training, as_drawn=form == "table")), form)


def _blocks(training: TrainingSeries, *, as_drawn: bool) -> Iterator[Line | Table]:
    """``as_drawn``: numbers without their intervals, for which a terminal has no room."""
    yield Line(
        ((training.task, "bold"), f": {len(training.checkpoints)} checkpoints on {training.n_problems:,} problems")
    )
    shown = _shown(training)
    columns = [_cells(metric, with_interval=not as_drawn) for _, metric in shown]
    steps: list[Cell] = [f"{point.step:,}" if as_drawn else f"{point.step}" for point in training.checkpoints]
    heads = [Column("step")]
    heads += [Column(title) if as_drawn else Column(title, "right", "95% interval") for title, _ in shown]
    yield Table(tuple(heads), tuple(zip(steps, *columns, strict=True)))
    if any("*" in title for title, _ in shown):
        yield Line(("*: token entropy of correct and wrong rollouts of equal length",))
    heads_of_stages = ["second stage", "knot", "95% interval", "slope", "then", "p (Holm)"]
    yield text_table(heads_of_stages, [_stage(fit) for fit in training.stages])
    for note in dict.fromkeys(fit.note for fit in training.stages if fit.second_stage is None):
        yield Line((f"?: {note}",))
    for mark in training.milestones:
        change = f"{mark.first:.3g} to {mark.last:.3g}"
        when = f"by step {mark.step:,} [{mark.low:,}, {mark.high:,}]"
        yield Line((f"{mark.metric}: {change}, three quarters of it {when}",))
    if training.law is not None:
        yield from _law(training.law)
    for note in training.notes:
        yield Line((f"note: {note}",))


def _shown(training: TrainingSeries) -> list[tuple[str, Metric]]:
    curve = [metric for metric in training.metrics if metric.name == "pass@k" and None not in _cells(metric)]
    ends = dict.fromkeys(metric.k for metric in (curve[:1] + curve[-1:]))
    columns = [(f"pass@{metric.k}", metric) for metric in curve if metric.k in ends]
    for (name, group), title in _COLUMNS.items():
        columns += [(title, metric) for metric in training.metrics if (metric.name, metric.group) == (name, group)]
    return columns


def _cells(metric: Metric, *, with_interval: bool = False) -> list[Cell]:
    """The values; where there is none, the bounds of a solve rate."""
    row = find_metric(metric.name)
    percent = row is not None and row.is_fraction
    cells: list[Cell] = []
    none = (None,) * len(metric.values)
    columns = (metric.values, metric.low, metric.high, metric.at_least or none, metric.at_most or none)
    for value, low, high, least, most in zip(*columns, strict=True):
        limits = (low, high) if with_interval else (None, None)
        number = least if value is None else value
        figure = None if number is None else Figure.of(number, *limits, percent=percent)
        cells.append(figure and msgspec.structs.replace(figure, most=most if value is None else None))
    return best_marked(cells, "neither" if row is None else row.better)


def _stage(fit: StageFit) -> list[str]:
    name = fit.metric if fit.scale == "linear" else f"{fit.metric} (log)"
    p_holm = fit.p_value if fit.p_holm is None else fit.p_holm
    p_value = "" if p_holm is None else f"{p_holm:.3f}"
    if fit.knot is None:
        return [
            name,
            "none" if fit.second_stage is False else "?",
            "",
            "" if fit.slope is None else f"{fit.slope:.2e}",
            "",
            p_value,
        ]
    interval = f"{fit.low:,.0f} to {fit.high:,.0f}"
    return [name, f"{fit.knot:,.0f}", interval, f"{fit.slope_before:.2e}", f"{fit.slope_after:.2e}", p_value]


def _law(law: EntropyLaw) -> Iterator[Line]:
    explained = "" if law.r_squared is None else f", R2 = {law.r_squared:.2f}"
    fitted = f"a {_interval(law.a)}, b {_interval(law.b)}, ceiling {_interval(law.ceiling)}, rmse {law.rmse:.3f}"
    yield Line((f"pass@1 = -a exp(entropy) + b: {fitted}{explained}",))
    if law.forecast is None:
        yield Line((law.note or "",))
        return
    forecast = law.forecast
    text = (
        f"forecast from the first {forecast.n_fitted}: rmse {forecast.rmse:.3f} on the other {len(forecast.actual)} "
        f"({forecast.rmse_unchanged:.3f} if nothing had changed), off by {_interval(forecast.final_error)} at the end"
    )
    yield Line((text,))


def _interval(estimate: Estimate) -> str:
    limits = "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.3f}{limits}"
