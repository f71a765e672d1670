"""The command ``leaderboard``: one row per checkpoint and task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlvr_bench.cli.options import read_budgets
from rlvr_bench.cli.tables import AsFormat, Jobs
from rlvr_bench.cli.terminal import Terminal, write_out
from rlvr_bench.errors import BadArgument
from rlvr_bench.storage import as_path

__all__ = ["register"]

STDOUT = Path("-")
Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", parser=as_path, help="Run folders, scorecards, or folders of these."),
]
Csv = Annotated[
    Path | None,
    typer.Option(
        parser=as_path,
        metavar="<path>",
        help="Leaderboard to write. Rows of these runs are updated, others are kept.",
    ),
]
Markdown = Annotated[Path | None, typer.Option(help="Write readable tables as Markdown; - for standard output.")]
Json = Annotated[Path | None, typer.Option(help="Write all columns as JSON; - for standard output.")]
Parquet = Annotated[Path | None, typer.Option(help="Write all columns as Parquet.")]
Ks = Annotated[str | None, typer.Option("--k", help="Budgets of the pass@k columns. Default: 1,4,16,64,256,1024.")]
Base = Annotated[
    str | None, typer.Option(help="Model to which gained and lost problems refer. Default: each row's base model.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="MODEL:FIELD=VALUE for method, base_model or step. MODEL may contain * and ?."),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(leaderboard)


def leaderboard(
    runs: Runs,
    csv: Csv = None,
    markdown: Markdown = None,
    json: Json = None,
    parquet: Parquet = None,
    k: Ks = None,
    base: Base = None,
    about: Set = None,
    jobs: Jobs = 1,
    format_: AsFormat = "table",
) -> None:
    """Make a leaderboard with one row per checkpoint and task. Reads scorecards only.

    Columns: pass@k with intervals and ranks, boundary, entropy, quality.
    """
    from rlvr_bench import leaderboards
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.cli.show_leaderboard import show_leaderboard

    ks = leaderboards.DEFAULT_KS if k is None else read_budgets(k)
    with Bars() as bars:
        board = leaderboards.leaderboard(
            runs,
            existing=csv,
            ks=ks,
            base=base,
            about=_about(about or []),
            jobs=jobs,
            on_progress=bars.counter("read", "scorecards"),
        )
    if csv is not None:
        _write(csv, leaderboards.csv_text(board.rows, board.ks).encode())
    if markdown is not None:
        _write(markdown, leaderboards.markdown_text(board.rows, board.ks).encode())
    if json is not None:
        _write(json, leaderboards.json_text(board.rows).encode())
    if parquet is not None:
        _write(parquet, leaderboards.parquet_bytes(board.rows, board.ks))
    if STDOUT not in (markdown, json):
        show_leaderboard(Terminal(), board, format_)


def _about(texts: list[str]) -> dict[tuple[str, str], str]:
    """(model, field) -> value. A model's name may contain colons, and a value equals signs."""
    values = {}
    for text in texts:
        left, equals, value = text.partition("=")
        model, colon, name = left.rpartition(":")
        if not (equals and colon and model):
            raise BadArgument("--set", text, "must read MODEL:FIELD=VALUE, such as 'zoo:grpo:method=GRPO'")
        values[model, name] = value
    return values


def _write(file: Path, content: bytes) -> None:
    from rlvr_bench.store.paths import write_atomically

    if file == STDOUT:
        write_out(content.decode())
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content)
