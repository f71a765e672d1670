"""The verb ``plan``: how many problems and rollouts a comparison needs to show a difference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.errors import BadArgument
from rlvr_bench.storage import as_path

if TYPE_CHECKING:
    from rlvr_bench.planning import Plan

__all__ = ["register"]

Run = Annotated[
    Path | None,
    typer.Argument(metavar="[RUN]", parser=as_path, help="Run folder or scorecard whose solve rates are assumed."),
]
Rates = Annotated[
    str | None,
    typer.Option(help="Solve rates instead: easy, hard, spread, two-groups, half-unsolvable, or a Beta's A,B."),
]
Difference = Annotated[float, typer.Option(help="Difference to show, in points of pass@k.")]
Problems = Annotated[str | None, typer.Option(help="Numbers of problems, such as 100,300. Default: 30 to 3,000.")]
Rollouts = Annotated[
    str | None, typer.Option(help="Rollouts per problem, such as 16,64. Default: 16 to 1,024, from k up.")
]
Tokens = Annotated[float | None, typer.Option(help="Tokens per response. Default: the run's mean.")]
Spread = Annotated[float, typer.Option(help="Standard deviation of a problem's own move, in log odds.")]
ClusterSize = Annotated[float, typer.Option(help="Problems per cluster, where they are not independent.")]
Correlation = Annotated[float, typer.Option(help="Correlation of the differences within a cluster.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(plan)


def plan(
    run: Run = None,
    k: Annotated[int, typer.Option("--k", help="Budget of pass@k.")] = 1,
    difference: Difference = 3.0,
    rates: Rates = None,
    power: Annotated[float, typer.Option(help="Chance with which the difference is to show.")] = 0.8,
    level: Annotated[float, typer.Option(help="Confidence level of the comparison.")] = 0.95,
    problems: Problems = None,
    rollouts: Rollouts = None,
    tokens: Tokens = None,
    spread: Spread = 0.5,
    cluster_size: ClusterSize = 1.0,
    correlation: Correlation = 0.2,
    as_json: AsJson = False,
) -> None:
    """How many problems and rollouts a paired comparison needs to show a difference, and their cost in tokens."""
    from rlvr_bench.planning import PlanOptions
    from rlvr_bench.planning import plan as make_plan

    options = PlanOptions(
        k=k,
        difference=difference,
        power=power,
        level=level,
        rates=rates,
        problems=_numbers("--problems", problems),
        rollouts=_numbers("--rollouts", rollouts),
        tokens=tokens,
        spread=spread,
        cluster_size=cluster_size,
        correlation=correlation,
    )
    result = make_plan(run, options)
    if as_json:
        print_json(result)
    else:
        _show(Terminal(), result)


def _numbers(name: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise BadArgument(name, text, "must be whole numbers separated by commas, such as 100,300") from None


def _show(console: Console, result: Plan) -> None:
    from rlvr_bench.cli.show import show_table

    console.print(
        f"pass@{result.k} {result.first:.1%} against {result.second:.1%} ({result.difference:+g} points); "
        f"chance to show it at the {result.level:.0%} level"
    )
    console.print(f"solve rates: {result.assumed}")
    console.print(f"design: {result.design}")
    rollouts = [need.rollouts for need in result.needs]
    powers = {(cell.problems, cell.rollouts): cell for cell in result.cells}
    rows = [
        [f"{size:,}", *(_percent(powers[size, n].power) + _tokens(powers[size, n].tokens) for n in rollouts)]
        for size in sorted({cell.problems for cell in result.cells})
    ]
    needs = [
        ("more" if need.problems is None else f"{need.problems:,}") + _tokens(need.tokens) for need in result.needs
    ]
    rows.append([f"needed for {result.power:.0%}", *needs])
    show_table(console, "", ["problems", *(f"n = {n:,}" for n in rollouts)], rows)
    if result.tokens_per_response is not None:
        console.print(f"in brackets: tokens of both runs, at {result.tokens_per_response:,.0f} a response")


def _percent(share: float) -> str:
    return ">99%" if share > 0.99 else f"{share:.0%}"


def _tokens(count: int | None) -> str:
    if count is None:
        return ""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f" ({count / size:.3g}{unit})"
    return f" ({count})"
