"""Prints where our verifier and another program disagree."""

from __future__ import annotations

from rich.console import Console

from rlvr_bench.cli.tables import show_blocks, text_table
from rlvr_bench.disagreements import Disagreement, Disagreements
from rlvr_bench.errors import in_one_line
from rlvr_bench.tables import Format, Line, Table

__all__ = ["show_disagreements"]

_ROWS = 20
_COLUMNS = ["problem", "rollout", "gold", "their answer", "our answer", "theirs", "ours", "reason"]


def show_disagreements(console: Console, result: Disagreements | None, form: Format = "table") -> None:
    """Print the counts and the first rows, for TSV all rows; nothing where there are no verdicts of both."""
    if result is None:
        return
    shown = result.rows if form == "tsv" else result.rows[:_ROWS]
    blocks: list[Line | Table] = [Line((f"{result.summary} (ours: {result.verifier}; theirs: {result.program})",))]
    if shown:
        blocks.append(text_table(_COLUMNS, [_row(row) for row in shown]))
    if len(shown) < len(result.rows):
        more = f"the first {len(shown)} of {len(result.rows):,}; all of them: rlvr-bench grade RUN --disagreements FILE.csv"
        blocks.append(Line((more,)))
    show_blocks(console, blocks, form)


def _row(row: Disagreement) -> list[str]:
    texts = [in_one_line(text or "", 40) for text in (row.gold, row.their_answer, row.our_answer)]
    return [row.problem_id, str(row.index), *texts, row.theirs, row.ours, row.reason or ""]
