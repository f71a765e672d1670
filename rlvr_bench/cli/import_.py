"""The command ``import``: rollouts and counts from other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlvr_bench.cli.messages import STDERR, print_json
from rlvr_bench.cli.options import AsJson, DataDir, Out
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.errors import visible
from rlvr_bench.options import MAP_FIELDS, ImportOptions

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
        help="nemo-skills, nemo-gym, lm-eval, lighteval, inspect, evalplus, evalscope, livecodebench, bigcode, qwen-math, "
        "verl, verl-generation, verifiers, verifiers-traces or counts. Default: recognised from the files.",
    ),
]
VerdictName = Annotated[str | None, typer.Option(help="Verdict to use if the files have several.")]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=PATH,...",
        help="Which field of a table is what, such as problem=qid,text=rollouts[].text,verdict=rollouts[].correct; or a .toml "
        "file of it. Fields: " + ", ".join(MAP_FIELDS) + ".",
    ),
]
Where = Annotated[
    list[str] | None, typer.Option(metavar="PATH=VALUE", help="With --map: keep the rollouts that have this value.")
]
Correct = Annotated[
    str | None,
    typer.Option(metavar="RULE", help="Verdicts or rewards that are correct: '>=0.9', '>0', '==1', or a value."),
]
NoAnswer = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="An answer that means that there is none, such as [invalid].")
]
SaveMap = Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Keep --map and its options in a new file.")]
PreviewOnly = Annotated[
    bool, typer.Option("--preview", help="Print three rollouts as they would be read; write nothing.")
]
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
    map_: Map = None,
    where: Where = None,
    correct: Correct = ImportOptions.correct,
    no_answer: NoAnswer = None,
    save_map: SaveMap = None,
    preview: PreviewOnly = False,
    data_dir: DataDir = ImportOptions.data_dir,
    out: Out = Path(ImportOptions.out),
    as_json: AsJson = False,
) -> None:
    """Import rollouts or counts of another program, or of any table, as a run, and score it."""
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.cli.show import show_scorecard
    from rlvr_bench.cli.show_disagreements import show_disagreements
    from rlvr_bench.cli.show_preview import show_preview
    from rlvr_bench.pipeline.importing import import_run
    from rlvr_bench.pipeline.previewing import preview_import

    options = ImportOptions(
        model=model,
        task=task,
        format=format_,
        verdict=verdict,
        regrade=regrade,
        map=map_,
        where=tuple(where or ()),
        correct=correct,
        no_answer=tuple(no_answer or ()),
        save_map=save_map,
        data_dir=data_dir,
        out=out,
    )
    if preview:
        seen = preview_import(files, options)
        if as_json:
            print_json(seen)
        else:
            show_preview(Terminal(), seen)
        return
    with Bars() as bars:
        imported = import_run(files, options, progress=bars)
    if as_json:
        print_json(imported)
        return
    for note in imported.notes:
        STDERR.print(f"note: {visible(note)}", markup=False, soft_wrap=True)
    show_scorecard(Terminal(), imported.scorecard, imported.run)
    show_disagreements(Terminal(), imported.disagreements)
