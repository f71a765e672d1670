"""The command ``report``: one page with charts from any number of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson
from rlvr_bench.cli.tables import Jobs
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.storage import as_path

__all__ = ["register"]

Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...",
        parser=as_path,
        help="Run folders or scorecard files. The first one of a task is its baseline.",
    ),
]
Html = Annotated[Path, typer.Option(parser=as_path, metavar="<path>", help="File to write.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Compare even if this field differs (chat_template, problems, ...). May be repeated."),
]
Rollouts = Annotated[int, typer.Option(help="Rollouts to show per problem and verdict, if RUN is a folder. 0: none.")]


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
    """Write one self-contained page with charts and tables. Reads scorecards; run folders add texts and rollouts."""
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.reporting import report as write_report

    with Bars() as bars:
        count_pair = bars.counter("compare", "pairs")
        page = write_report(runs, html, allow=allow or (), rollouts=rollouts, jobs=jobs, on_progress=count_pair)
    if as_json:
        print_json(page)
        return
    size = page.size_bytes / 2**20
    line = f"{page.html}: {page.runs} runs on {', '.join(page.tasks)}, {size:.1f} MiB"
    Terminal().print(line, highlight=False, markup=False, soft_wrap=True)
