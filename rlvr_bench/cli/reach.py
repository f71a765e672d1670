"""The command ``reach``: what a checkpoint can solve, from rollouts of any checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson, EngineArg, RunPath, engine_arguments, read_budgets
from rlvr_bench.cli.terminal import Terminal, styled
from rlvr_bench.options import ReachOptions
from rlvr_bench.storage import as_path

if TYPE_CHECKING:
    from rlvr_bench.analysis.reach_results import ProblemRate, Reach

__all__ = ["register"]

From = Annotated[
    list[Path] | None,
    typer.Option("--from", parser=as_path, metavar="RUN", help="A run of another checkpoint. Any number of times."),
]
Engine = Annotated[
    str,
    typer.Option(help="auto (vllm if it is installed and can score the law, else transformers), vllm, transformers."),
]
Budgets = Annotated[str, typer.Option("--k", help="Budgets, also far above the rollouts drawn.")]
Own = Annotated[bool, typer.Option("--own/--no-own", help="Whether the rollouts of RUN count too.")]
_DEFAULT_KS = ",".join(map(str, ReachOptions.ks))
_SHOWN = 10  # problems; all are in --json


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(reach)


def reach(
    run: RunPath,
    others: From = None,
    engine: Engine = ReachOptions.engine,
    k: Budgets = _DEFAULT_KS,
    own: Own = ReachOptions.own,
    engine_arg: EngineArg = None,
    as_json: AsJson = False,
) -> None:
    """Estimate how often RUN's checkpoint solves each problem, also from correct rollouts of other checkpoints.

    All runs must have been drawn with --token-stats full, from one task and prompt. Scores are stored in RUN.
    """
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.pipeline.reaching import reach as reach_run

    options = ReachOptions(engine=engine, ks=tuple(read_budgets(k)), own=own, engine_args=engine_arguments(engine_arg))
    with Bars() as bars:
        result = reach_run(run, others or (), options, bars)
    if as_json:
        print_json(result)
    else:
        _show(Terminal(), result)


def _show(console: Console, result: Reach) -> None:
    from rlvr_bench.cli.show import show_table

    console.print(
        styled(
            *("what ", (result.target.model, "bold"), f" solves of {result.task}, drawn at {result.law}: "),
            f"{len(result.problems):,} problems, {result.responses:,} distinct correct responses",
        )
    )
    rows = [[x.model, f"{x.rollouts:,}", f"{x.correct:,}", x.law, "target" if x.is_own else ""] for x in result.drawers]
    show_table(console, "", ["rollouts of", "drawn", "correct", "at", ""], rows)
    rows = [[f"{x.k:,}", _share(x.value), f"{_share(x.low)} to {_share(x.high)}"] for x in result.pass_at_k]
    show_table(console, "", ["k", "pass@k", "95% interval"], rows)
    title = "solved by, not by the target"
    columns = [title, "problems", "k", "within reach", "probably", "unlikely", "beyond", "expected"]
    show_table(console, "", columns, _splits(result))
    hardest = sorted((x for x in result.problems if x.bound > 0), key=lambda x: x.rate or 0.0)[:_SHOWN]
    columns = ["hardest problems", "certainly at least", "solve rate", "95% interval", "tries"]
    show_table(console, "", columns, [_problem(x) for x in hardest])
    for note in result.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    console.print(
        f"{result.scored:,} responses scored in {result.scoring_s:.1f} of {result.seconds:.1f} s; every problem: --json",
        highlight=False,
    )


def _splits(result: Reach) -> list[list[str]]:
    rows = []
    for x in result.solved_by_others:
        numbers = (x.within, x.probably, x.unlikely, x.beyond)
        rows.append([x.by, str(x.problems), f"{x.k:,}", *map(str, numbers), f"{x.expected:.1f}"])
    return rows


def _problem(x: ProblemRate) -> list[str]:
    rate = "" if x.rate is None else f"{x.rate:.2g}"
    tries = "too few effective rollouts" if x.tries is None else f"{x.tries:,.0f}"
    return [x.id, f"{x.bound:.2g}", rate, f"{x.low:.2g} to {x.high:.2g}", tries]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
