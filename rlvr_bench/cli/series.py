"""The verb ``series``: the checkpoints of one training run against their step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlvr_bench.cli.compare import Allow
from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson
from rlvr_bench.cli.terminal import Terminal, styled
from rlvr_bench.errors import BadArgument
from rlvr_bench.metrics import METRICS, find_metric

if TYPE_CHECKING:
    from rlvr_bench.analysis.performance_law import EntropyLaw
    from rlvr_bench.analysis.stages import StageFit
    from rlvr_bench.analysis.training_series import Metric, TrainingSeries
    from rlvr_bench.records import Estimate

__all__ = ["register"]

Runs = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Run folders, scorecards, folders of them, or globs.")
]
Steps = Annotated[
    str | None,
    typer.Option(help="Training steps, such as 0,20,40, in the order of the runs. Default: from their names."),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(series)


def series(runs: Runs, steps: Steps = None, allow: Allow = None, as_json: AsJson = False) -> None:
    """Metrics against the training step, stages of training, and the entropy-performance law. Reads scorecards only."""
    from rlvr_bench.analysis.training_series import series as put_in_a_row

    found = put_in_a_row(runs, None if steps is None else _read_steps(steps), allow or ())
    if as_json:
        print_json(found)
    else:
        _show(Terminal(), found)


def _read_steps(text: str) -> list[int]:
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError:
        raise BadArgument("--steps", text, "must be whole numbers separated by commas, such as 0,20,40") from None
    if min(steps) < 0:
        raise BadArgument("--steps", text, "every step must be 0 or more")
    return steps


# (name, group): the columns of the table that a terminal has room for
_COLUMNS = {(metric.name, group): title for metric in METRICS for group, title in metric.series_titles}


def _show(console: Console, found: TrainingSeries) -> None:
    from rlvr_bench.cli.show import show_table

    title = f": {len(found.checkpoints)} checkpoints on {found.n_problems:,} problems"
    console.print(styled((found.task, "bold"), title))
    shown = _shown(found)
    rows = [
        [f"{point.step:,}", *(_cell(metric, i) for _, metric in shown)] for i, point in enumerate(found.checkpoints)
    ]
    show_table(console, "", ["step", *(title for title, _ in shown)], rows)
    if any("*" in title for title, _ in shown):
        console.print("*: token entropy of correct and wrong rollouts of equal length", highlight=False)
    rows = [_stage(fit) for fit in found.stages]
    show_table(console, "", ["second stage", "knot", "95% interval", "slope", "then", "p"], rows)
    for note in dict.fromkeys(fit.note for fit in found.stages if fit.second_stage is None):
        console.print(f"?: {note}", highlight=False)
    for mark in found.milestones:
        console.print(
            f"{mark.metric}: {mark.first:.3g} to {mark.last:.3g}, three quarters of it by step {mark.step:,}",
            highlight=False,
        )
    if found.law is not None:
        _show_law(console, found.law)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _shown(found: TrainingSeries) -> list[tuple[str, Metric]]:
    curve = [metric for metric in found.metrics if metric.name == "pass@k" and all(_cells(metric))]
    ends = dict.fromkeys(metric.k for metric in (curve[:1] + curve[-1:]))
    columns = [(f"pass@{metric.k}", metric) for metric in curve if metric.k in ends]
    for (name, group), title in _COLUMNS.items():
        columns += [(title, metric) for metric in found.metrics if (metric.name, metric.group) == (name, group)]
    return columns


def _cells(metric: Metric) -> list[str]:
    return [_cell(metric, i) for i in range(len(metric.values))]


def _cell(metric: Metric, i: int) -> str:
    """The value; where there is none, the bounds of a solve rate."""
    value = metric.values[i]
    if value is None:
        least, most = (side[i] if side else None for side in (metric.at_least, metric.at_most))
        return "" if least is None or most is None else f"{least:.1%} to {most:.1%}"
    row = find_metric(metric.name)
    return f"{value:.1%}" if row is not None and row.is_fraction else f"{value:.3f}"


def _stage(fit: StageFit) -> list[str]:
    name = fit.metric if fit.scale == "linear" else f"{fit.metric} (log)"
    p_value = "" if fit.p_value is None else f"{fit.p_value:.3f}"
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


def _show_law(console: Console, law: EntropyLaw) -> None:
    explained = "" if law.r_squared is None else f", R2 = {law.r_squared:.2f}"
    console.print(
        f"pass@1 = -a exp(entropy) + b: a {_interval(law.a)}, b {_interval(law.b)}, ceiling {_interval(law.ceiling)}, "
        f"rmse {law.rmse:.3f}{explained}",
        highlight=False,
        markup=False,
    )
    if law.forecast is None:
        console.print(law.note or "", highlight=False)
        return
    forecast = law.forecast
    console.print(
        f"forecast from the first {forecast.n_fitted}: rmse {forecast.rmse:.3f} on the other {len(forecast.actual)} "
        f"({forecast.rmse_unchanged:.3f} if nothing had changed), off by {_interval(forecast.final_error)} at the end",
        highlight=False,
        markup=False,
    )


def _interval(estimate: Estimate) -> str:
    limits = "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.3f}{limits}"
