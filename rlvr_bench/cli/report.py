"""The verb ``report``: one page with charts from any number of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson, read_place
from rlvr_bench.cli.tables import Jobs
from rlvr_bench.cli.terminal import Terminal

__all__ = ["register"]

Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...", parser=read_place, help="Run folders or scorecard files; the first of a task is its baseline."
    ),
]
Html = Annotated[Path, typer.Option(parser=read_place, metavar="<path>", help="File to write.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Compare although this field differs (chat_template, problems, ...). Any number of times."),
]
Rollouts = Annotated[
    int, typer.Option(help="Rollouts of each verdict to show per problem, where RUN is a folder; 0 for none.")
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(report)


def report(
    runs: Runs,
    html: Html = Path("report.html"),
    allow: Allow = None,
    rollouts: Rollouts = 2,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """One page with charts and tables, whole in itself. Reads scorecards; run folders add texts and rollouts."""
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.reporting import report as write_report

    with Bars() as bars:
        heard = bars.counter("compare", "pairs")
        found = write_report(runs, html, allow=allow or (), rollouts=rollouts, jobs=jobs, on_progress=heard)
    if as_json:
        print_json(found)
        return
    size = found.size_bytes / 2**20
    line = f"{found.html}: {found.runs} runs on {', '.join(found.tasks)}, {size:.1f} MiB"
    Terminal().print(line, highlight=False, markup=False, soft_wrap=True)
