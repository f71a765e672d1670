"""The command ``import``: rollouts and counts from other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlvr_bench.cli.messages import STDERR, print_json
from rlvr_bench.cli.options import AsJson, DataDir, Out
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.options import ImportOptions

__all__ = ["register"]

Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="Files, globs or folders of one evaluation of one model.")
]
ModelName = Annotated[str | None, typer.Option("--model", "-m", help="Name of the model. Default: as in the files.")]
TaskLabel = Annotated[
    str | None,
    typer.Option(
        "--task",
        "-t",
        help="The task: a shipped one or your file, whose problems they are; or a name. Default: as in the files.",
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="nemo-skills, lm-eval, lighteval, inspect, evalplus, verl or counts. Default: recognised from the files.",
    ),
]
VerdictName = Annotated[str | None, typer.Option(help="Verdict to use if the files have several.")]
Regrade = Annotated[
    bool,
    typer.Option("--regrade", help="Grade with the task's verifier, and show where the verdicts in the files differ."),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("import")(import_)


def import_(
    files: Files,
    model: ModelName = ImportOptions.model,
    task: TaskLabel = ImportOptions.task,
    format_: FormatName = ImportOptions.format,
    verdict: VerdictName = ImportOptions.verdict,
    regrade: Regrade = ImportOptions.regrade,
    data_dir: DataDir = ImportOptions.data_dir,
    out: Out = Path(ImportOptions.out),
    as_json: AsJson = False,
) -> None:
    """Import another program's rollouts, or counts from a CSV file, as a run, and score it."""
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.cli.show import show_scorecard
    from rlvr_bench.cli.show_disagreements import show_disagreements
    from rlvr_bench.pipeline.importing import import_run

    options = ImportOptions(
        model=model, task=task, format=format_, verdict=verdict, regrade=regrade, data_dir=data_dir, out=out
    )
    with Bars() as bars:
        imported = import_run(files, options, progress=bars)
    if as_json:
        print_json(imported)
        return
    for note in imported.notes:
        STDERR.print(f"note: {note}", markup=False, soft_wrap=True)
    show_scorecard(Terminal(), imported.scorecard, imported.run)
    show_disagreements(Terminal(), imported.disagreements)
