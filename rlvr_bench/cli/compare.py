"""The command ``compare``: two or more runs on the same problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson, Budgets, read_budgets
from rlvr_bench.cli.tables import AsFormat
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.storage import as_path

__all__ = ["register"]

Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", parser=as_path, help="Run folders or scorecard files. The first is the baseline."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Compare even if this field differs (chat_template, problems, ...). May be repeated."),
]


Looks = Annotated[
    bool,
    typer.Option("--looks", help="Intervals and p-values that hold however often one looks while rollouts are added."),
]
AllowErrors = Annotated[
    bool,
    typer.Option(
        "--allow-errors",
        help="Compare although a verifier failed on more than 1 % of the rollouts; they enter as bounds.",
    ),
]


EqualTokens = Annotated[
    bool,
    typer.Option("--equal-tokens", help="Also where both runs use equally many tokens, with the crossover in tokens."),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(compare)


def compare(
    runs: Runs,
    k: Budgets = None,
    allow: Allow = None,
    allow_errors: AllowErrors = False,
    looks: Looks = False,
    equal_tokens: EqualTokens = False,
    format_: AsFormat = "table",
    as_json: AsJson = False,
) -> None:
    """Compare two or more runs: paired differences in pass@k, crossover, solved problems. Reads scorecards only."""
    from rlvr_bench.cli.show_compare import show_comparison
    from rlvr_bench.comparison import compare as compare_runs

    ks = None if k is None else read_budgets(k)
    compared = compare_runs(
        runs,
        ks,
        allow or (),
        looks="any" if looks else "one",
        allow_errors=allow_errors,
        at_equal_tokens=equal_tokens,
    )
    if as_json:
        print_json(compared)
    else:
        show_comparison(Terminal(), compared, every_k=ks is not None, form=format_)
