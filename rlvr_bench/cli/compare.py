"""The verb ``compare``: two or more runs on the same problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson, Budgets, read_budgets, read_place
from rlvr_bench.cli.terminal import Terminal

__all__ = ["register"]

Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...", parser=read_place, help="Run folders or scorecard files; the first is the baseline."
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Compare although this field differs (chat_template, problems, ...). Any number of times."),
]
AllowErrors = Annotated[
    bool,
    typer.Option(
        "--allow-errors",
        help="Compare although a verifier failed on more than 1 % of the rollouts; they enter as bounds.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(compare)


def compare(
    runs: Runs,
    k: Budgets = None,
    allow: Allow = None,
    allow_errors: AllowErrors = False,
    as_json: AsJson = False,
) -> None:
    """Paired differences in pass@k, crossover, and solved problems of two or more runs. Reads scorecards only."""
    from rlvr_bench.cli.show_compare import show_comparison
    from rlvr_bench.comparison import compare as compare_runs

    ks = None if k is None else read_budgets(k)
    found = compare_runs(runs, ks, allow or (), allow_errors=allow_errors)
    if as_json:
        print_json(found)
    else:
        show_comparison(Terminal(), found, every_k=ks is not None)
