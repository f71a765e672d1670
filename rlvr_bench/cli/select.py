"""The verb ``select``: a rejection-sampling fine-tuning set from a run's rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson, RunPath
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.storage import as_path

if TYPE_CHECKING:
    from rlvr_bench.pipeline.selecting import SelectionSummary

__all__ = ["register"]

How = Annotated[
    Literal["correct", "noise", "entropy", "rbf"],
    typer.Option(
        help="Of the correct rollouts: at random, the same with 5% wrong ones, highest entropy, or branching."
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        parser=as_path,
        metavar="<path>",
        help="JSONL file to write: prompt and completion, as TRL's SFTTrainer reads them.",
    ),
]
PerProblem = Annotated[int, typer.Option(help="At most so many distinct correct rollouts of a problem.")]
WrongShare = Annotated[
    float | None, typer.Option(help="Share of wrong rollouts in the set. Default: 0.05 for noise, else 0.")
]
Seed = Annotated[int, typer.Option(help="Seed of what is drawn at random.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(select)


def select(
    run: RunPath,
    out: Out,
    strategy: How = "correct",
    per_problem: PerProblem = 4,
    wrong_share: WrongShare = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write a rejection-sampling fine-tuning set from a graded run's rollouts."""
    from rlvr_bench.pipeline.selecting import select as select_rollouts

    made = select_rollouts(run, strategy, out=out, per_problem=per_problem, wrong_share=wrong_share, seed=seed)
    if as_json:
        print_json(made)
    else:
        _show(Terminal(), made)


def _show(console: Console, made: SelectionSummary) -> None:
    lines = (
        f"{made.file}: {made.rollouts:,} rollouts of {made.problems:,} problems, {made.wrong:,} of them wrong "
        f"({made.wrong_share:.1%}), as {made.format}",
        f"left out: {made.duplicates:,} duplicates and {made.truncated:,} truncated among the correct rollouts; "
        f"{made.unsolved:,} problems have none",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
