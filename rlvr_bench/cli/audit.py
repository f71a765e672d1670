"""The command ``audit``: a sample of rollouts for people or a judge to label, and how often the verifier errs by it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson, RunPath
from rlvr_bench.cli.tables import AsFormat, show_blocks
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.storage import as_path
from rlvr_bench.tables import Column, Figure, Line, Table

if TYPE_CHECKING:
    from rlvr_bench.measured_error import AuditCell
    from rlvr_bench.pipeline.labelling import LabelAudit

__all__ = ["register"]

Sample = Annotated[
    int | None,
    typer.Option(help="Number of rollouts to sample, equally many of every kind of verdict. Default: 300, once."),
]
Seed = Annotated[int, typer.Option(help="Seed of the sample.")]
LabelFiles = Annotated[
    list[Path] | None,
    typer.Option("--label", parser=as_path, metavar="<path>", help="JSONL file of labels to store. May be repeated."),
]
Judged = Annotated[bool, typer.Option("--judged", help="Take the decisions of the run's judge as labels.")]
Html = Annotated[
    Path | None,
    typer.Option(parser=as_path, metavar="<path>", help="Write a page on which a person labels the sample."),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(audit)


def audit(
    run: RunPath,
    sample: Sample = None,
    seed: Seed = 0,
    label: LabelFiles = None,
    judged: Judged = False,
    html: Html = None,
    format_: AsFormat = "table",
    as_json: AsJson = False,
) -> None:
    """Sample rollouts of a graded run to be labelled right or wrong, read labels, and say how often its verifier errs."""
    from rlvr_bench.pipeline.labelling import audit_labels

    audited = audit_labels(run, sample, seed, labels=label or (), judged=judged, html=html)
    if as_json:
        print_json(audited)
    else:
        show_blocks(Terminal(), _blocks(audited), format_)


def _blocks(audited: LabelAudit) -> list[Line | Table]:
    by = ", ".join(f"{name} {count:,}" for name, count in audited.by.items())
    head = f"{audited.sampled:,} rollouts sampled, {audited.labelled:,} labelled"
    parts = [head, f"by {by}" if by else "", f"{audited.unsure:,} unsure" if audited.unsure else ""]
    columns = ("verdict", "rollouts", "labelled", "misjudged", "share")
    blocks: list[Line | Table] = [
        Line((", ".join(filter(None, parts)),)),
        Table(
            tuple(
                Column(name, "left" if not i else "right", "95% interval" if name == "share" else "")
                for i, name in enumerate(columns)
            ),
            tuple(map(_cell_row, audited.cells)),
        ),
    ]
    blocks += [
        Line((f"{rate.name.replace('_', ' ')}: {rate.value:.2%} [{rate.low:.2%}, {rate.high:.2%}]",))
        for rate in audited.rates
        if rate.group is None
    ]
    if audited.outside:
        blocks.append(
            Line((f"note: {audited.outside:,} labels are of rollouts outside the sample: no rate counts them",))
        )
    if audited.html is not None:
        blocks.append(Line((f"page: {audited.html}",), is_whole=True))
    blocks.append(Line((_next_step(audited),), is_whole=True))
    return blocks


def _cell_row(cell: AuditCell) -> tuple[str | Figure | None, ...]:
    share = Figure.of(cell.share, cell.low, cell.high, percent=True) if cell.labelled else None
    return cell.name, f"{cell.rollouts:,}", f"{cell.labelled:,}", f"{cell.misjudged:,}", share


def _next_step(audited: LabelAudit) -> str:
    if not audited.missing:
        return f"next: rlvr-bench score {audited.run} --verifier-error labels"
    page = "" if audited.html is not None else f"`rlvr-bench audit {audited.run} --html FILE` makes a page for it; "
    return f"next: label some of each kind ({len(audited.missing)} have none yet); {page}--label FILE reads the labels"
