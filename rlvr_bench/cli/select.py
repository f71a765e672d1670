"""The command ``select``: a rejection-sampling fine-tuning set from a run's rollouts."""

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
        help="Which correct rollouts: random ones, random ones plus 5% wrong ones, highest entropy, highest branching."
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
PerProblem = Annotated[int, typer.Option(help="Largest number of distinct correct rollouts of one problem.")]
WrongShare = Annotated[
    float | None, typer.Option(help="Share of wrong rollouts in the set. Default: 0.05 for noise, else 0.")
]
PromptName = Annotated[
    str | None,
    typer.Option(
        "--prompt", help="Template of an imported run's prompts. Default: the prompts in its files, if mapped."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the random choices.")]


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
    prompt: PromptName = None,
    as_json: AsJson = False,
) -> None:
    """Write a rejection-sampling fine-tuning set from a graded run's rollouts."""
    from rlvr_bench.pipeline.selecting import select as select_rollouts

    summary = select_rollouts(
        run, strategy, out=out, per_problem=per_problem, wrong_share=wrong_share, seed=seed, prompt=prompt
    )
    if as_json:
        print_json(summary)
    else:
        _show(Terminal(), summary)


def _show(console: Console, summary: SelectionSummary) -> None:
    lines = (
        f"{summary.file}: {summary.rollouts:,} rollouts of {summary.problems:,} problems, {summary.wrong:,} of them wrong "
        f"({summary.wrong_share:.1%}), as {summary.format}",
        f"left out: {summary.duplicates:,} duplicates and {summary.truncated:,} truncated among the correct rollouts; "
        f"{summary.unsolved:,} problems have none",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
