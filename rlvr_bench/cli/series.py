"""The command ``series``: the checkpoints of one training run, by training step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from rlvr_bench.cli.compare import Allow
from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson
from rlvr_bench.cli.tables import AsFormat, p_text, show_blocks, text_table
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.errors import BadArgument
from rlvr_bench.metrics import METRICS, find_metric
from rlvr_bench.tables import Cell, Column, Figure, Format, Line, Table, best_marked

if TYPE_CHECKING:
    from rlvr_bench.analysis.performance_law import EntropyLaw
    from rlvr_bench.analysis.stages import StageFit
    from rlvr_bench.analysis.training_series import Metric, TrainingSeries
    from rlvr_bench.analysis.turnover import BesideChance, BestCheckpoint, CheckpointTurnover, Turnover
    from rlvr_bench.records import Estimate

__all__ = ["register"]

Runs = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Run folders, scorecards, folders of these, or globs.")
]
Budget = Annotated[
    int | None,
    typer.Option(
        "--k", help="Budget of the turnover and the best checkpoint. Default: the largest at which chance is tested."
    ),
]
Steps = Annotated[
    str | None,
    typer.Option(help="Training steps, such as 0,20,40, in the order of the runs. Default: from their names."),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(series)


def series(
    runs: Runs,
    steps: Steps = None,
    k: Budget = None,
    allow: Allow = None,
    format_: AsFormat = "table",
    as_json: AsJson = False,
) -> None:
    """Show metrics by training step, stages of training, turnover of solved problems, and the entropy-performance law.

    Reads scorecards only.
    """
    from rlvr_bench.analysis.training_series import series as read_series

    training = read_series(runs, None if steps is None else _read_steps(steps), allow or ())
    budget = _budget(training, k)
    if as_json:
        print_json(training)
    else:
        _show(Terminal(), training, format_, budget)


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


def _budget(training: TrainingSeries, k: int | None) -> int | None:
    ks = [turnover.k for turnover in training.turnover]
    if k is not None and k not in ks:
        raise BadArgument("--k", k, f"there is turnover at {', '.join(map(str, ks))}" if ks else "there is no turnover")
    tested = [turnover.k for turnover in training.turnover if not any(map(_is_modelled, turnover.checkpoints))]
    return k or max(tested, default=None) or (ks[0] if ks else None)


def _is_modelled(point: CheckpointTurnover) -> bool:
    return point.forgotten is not None and point.forgotten.modelled


def _show(console: Console, training: TrainingSeries, form: Format, k: int | None) -> None:
    show_blocks(console, list(_blocks(training, k, as_drawn=form == "table")), form)


def _blocks(training: TrainingSeries, k: int | None, *, as_drawn: bool) -> Iterator[Line | Table]:
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
    for turnover in training.turnover:
        if turnover.k == k:
            yield from _turnover(turnover, with_interval=not as_drawn)
    for best in training.best:
        if best.k == k:
            yield _best(best, [point.step for point in training.checkpoints])
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
    p_value = p_text(p_holm)
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


def _turnover(turnover: Turnover, *, with_interval: bool) -> Iterator[Line | Table]:
    title = f"Turnover at k = {turnover.k:,}: {turnover.union:.1f} problems are solved by some checkpoint"
    if turnover.share_if_alike is not None:
        title += f"; checkpoints of one solve rate would each solve {turnover.share_if_alike:.0%} of them"
    yield Line((title,))
    heads = [
        "step",
        "solved",
        "of these",
        "first solved",
        "by chance",
        "p (Holm)",
        "forgotten",
        "by chance",
        "p (Holm)",
    ]
    rows = []
    for point in turnover.checkpoints:
        limits = (point.solved.low, point.solved.high) if with_interval else (None, None)
        solved = (
            None
            if point.solved.value is None
            else Figure(value=point.solved.value, low=limits[0], high=limits[1], digits=1)
        )
        share = "" if point.share is None else f"{point.share:.0%}"
        beside = [cell for statement in (point.first, point.forgotten) for cell in _beside(statement)]
        rows.append([f"{point.step:,}", solved, share, *beside, f"{point.never:.1f}"])
    yield text_table([*heads, "never solved"], rows)
    if any(map(_is_modelled, turnover.checkpoints)):
        yield Line(("~: from a fitted Beta model, not tested; chance needs more rollouts than there are",))


def _beside(statement: BesideChance | None) -> list[str]:
    if statement is None:
        return ["", "", ""]
    sign = "~" if statement.modelled else ""
    chance = "" if statement.by_chance is None else f"{sign}{statement.by_chance:.1f}"
    return [f"{statement.number:.1f}", chance, p_text(statement.p_holm)]


def _best(best: BestCheckpoint, steps: Sequence[int]) -> Line:
    fresh = best.fresh
    limits = "" if fresh.low is None or fresh.high is None else f" [{fresh.low:.1%}, {fresh.high:.1%}]"
    agreeing = best.chosen[steps.index(best.step)]
    text = (
        f"best checkpoint by pass@{best.k}: step {best.step:,} with {best.value:.1%}; on rollouts that did not choose it, "
        f"the best has {fresh.value:.1%}{limits}. Half of the rollouts, at random, choose this step in {agreeing:.0%} of cases"
    )
    return Line((text,))


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
