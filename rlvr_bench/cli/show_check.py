"""A check as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlvr_bench.checking import Acceptance, Check, Finding
from rlvr_bench.checking.outputs import VERDICTS, change_text, value_text, why

__all__ = ["show_accepted", "show_check"]

_STYLES = {"ok": "green", "regression": "bold red", "cannot_tell": "bold yellow"}


def show_check(console: Console, result: Check, *, strict: bool) -> None:
    """Print a table for each run and its baseline, then every finding that is not ok, as a sentence."""
    for task, run, baseline in dict.fromkeys((item.task, item.run, item.baseline) for item in result.findings):
        findings = [item for item in result.findings if (item.task, item.run, item.baseline) == (task, run, baseline)]
        console.print(f"{task}: {run} against {baseline}", highlight=False, markup=False, soft_wrap=True)
        console.print(_table(findings, result.level), markup=False)
    for item in result.findings:
        if item.outcome != "ok":
            text = Text(f"{VERDICTS[item.outcome]}: ", style=_STYLES[item.outcome])
            where = f"{item.run} on {item.task}: " if len(result.findings) > 1 else ""
            console.print(text.append(f"{where}{why(item)}", style="default"), soft_wrap=True)
    for note in result.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    console.print(_verdict(result, strict=strict))


def show_accepted(console: Console, done: Sequence[Acceptance]) -> None:
    """What ``check --update`` prints."""
    for item in done:
        before = "new" if item.replaced is None else f"in place of {item.replaced}"
        line = f"{item.baseline}: {item.model} on {item.task}, {before}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(findings: Sequence[Finding], level: float) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False)
    columns = ("metric", "before", "now", "worse by", f"{level:.0%} limits", "allowed", "outcome")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=True, justify="left" if number in (0, len(columns) - 1) else "right")
    for item in findings:
        limits = " to ".join(change_text(item, value) for value in (item.low, item.high))
        table.add_row(
            item.metric,
            *(value_text(item, value) for value in (item.first, item.second)),
            change_text(item, item.worse_by),
            limits,
            change_text(item, item.tolerance),
            Text(VERDICTS[item.outcome], style=_STYLES[item.outcome]),
        )
    return table


def _verdict(result: Check, *, strict: bool) -> Text:
    if result.outcome == "ok":
        return Text("check: ok", style=_STYLES["ok"])
    if result.outcome == "regression":
        return Text("check: a regression was shown", style=_STYLES["regression"])
    end = "counts as failed (strict)" if strict else "passes with this warning; --strict fails it"
    return Text(f"check: no regression was shown, nor ruled out: {end}", style=_STYLES["cannot_tell"])
