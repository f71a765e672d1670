"""Prints a check as lines and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from rlvr_bench.checking import Acceptance, Check, Finding
from rlvr_bench.checking.outputs import VERDICTS, change_figure, value_figure, why
from rlvr_bench.cli.tables import show_blocks
from rlvr_bench.tables import Cell, Column, Format, Line, Table

__all__ = ["show_accepted", "show_check"]

_STYLES = {"ok": "green", "regression": "bold red", "cannot_tell": "bold yellow"}


def show_check(console: Console, result: Check, *, strict: bool, form: Format = "table") -> None:
    """Print the result of ``check``: a table for each run and its baseline, then a line for each finding not ok."""
    styles = {VERDICTS[outcome]: style for outcome, style in _STYLES.items()}
    show_blocks(console, list(_blocks(result, strict=strict)), form, styles)


def _blocks(result: Check, *, strict: bool) -> Iterator[Line | Table]:
    for task, run, baseline in dict.fromkeys((item.task, item.run, item.baseline) for item in result.findings):
        mine = [item for item in result.findings if (item.task, item.run, item.baseline) == (task, run, baseline)]
        yield Line((f"{task}: {run} against {baseline}",), is_whole=True)
        yield _table(mine, result.level)
    for item in result.findings:
        if item.outcome != "ok":
            where = f"{item.run} on {item.task}: " if len(result.findings) > 1 else ""
            verdict = (f"{VERDICTS[item.outcome]}: ", _STYLES[item.outcome])
            yield Line((verdict, f"{where}{why(item)}"), is_whole=True)
    for note in result.notes:
        yield Line((f"note: {note}",), is_whole=True)
    yield _verdict(result, strict=strict)


def show_accepted(console: Console, done: Sequence[Acceptance]) -> None:
    """Print the result of ``check --update``."""
    for item in done:
        before = "new" if item.replaced is None else f"in place of {item.replaced}"
        line = f"{item.baseline}: {item.model} on {item.task}, {before}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(findings: Sequence[Finding], level: float) -> Table:
    columns = (
        Column("metric"),
        Column("before", "right"),
        Column("now", "right"),
        Column("worse by", "right", f"{level:.0%} limits"),
        Column("allowed", "right"),
        Column("outcome"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            item.metric,
            *(value_figure(item, value) for value in (item.first, item.second)),
            change_figure(item, item.worse_by, item.low, item.high),
            change_figure(item, item.tolerance),
            VERDICTS[item.outcome],
        )
        for item in findings
    ]
    return Table(columns, tuple(rows))


def _verdict(result: Check, *, strict: bool) -> Line:
    if result.outcome == "ok":
        return Line((("check: ok", _STYLES["ok"]),))
    if result.outcome == "regression":
        return Line((("check: a regression was shown", _STYLES["regression"]),))
    end = "counts as failed (strict)" if strict else "passes with this warning; --strict fails it"
    return Line(((f"check: no regression was shown, nor ruled out: {end}", _STYLES["cannot_tell"]),))
