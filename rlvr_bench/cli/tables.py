"""Prints all tables: drawn by rich for a terminal, or as text for a paper, a web page, a log or a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Drawing
from rich.text import Text

from rlvr_bench.cli.messages import STDERR
from rlvr_bench.cli.terminal import styled, write_out
from rlvr_bench.tables import Cell, Column, Figure, Format, Line, Table, document

__all__ = ["AsFormat", "Jobs", "p_text", "print_drawing", "show_blocks", "show_table", "text_table"]

AsFormat = Annotated[
    Format,
    typer.Option(
        "--format",
        help="How tables are printed: table, markdown, latex (booktabs), plain or tsv. --json goes before it.",
    ),
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", help="Processes to work on runs side by side; results do not depend on it.")
]
_WIDEST = 10_000


def show_blocks(
    console: Console, blocks: Sequence[Line | Table], form: Format = "table", styles: Mapping[str, str] | None = None
) -> None:
    """Print lines and tables in this format; for TSV, only tables go to standard output, and lines to standard error.

    ``styles``: the terminal style of cells, by their text.
    """
    if form == "table":
        for block in blocks:
            if isinstance(block, Line):
                print_line(console, block)
            else:
                print_drawing(console, _drawing(block, styles or {}))
        return
    if form == "tsv":
        for block in blocks:
            if isinstance(block, Line):
                STDERR.print(block.text, soft_wrap=True)
    write_out(document(blocks, form))


def show_table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], form: Format = "table"
) -> None:
    """Print a title and a table with left-aligned columns; the first column is never cut."""
    show_blocks(console, [*([Line((title,))] if title else []), text_table(columns, rows)], form)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """A table whose columns are all left-aligned."""
    return Table(tuple(map(Column, columns)), tuple(map(tuple, rows)))


def p_text(value: float | None) -> str:
    """A p-value with three decimals; empty for None."""
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def print_line(console: Console, line: Line) -> None:
    """Print a line; in a terminal that is too narrow, wrap it between words unless ``is_whole``."""
    console.print(styled(*line.parts), soft_wrap=line.is_whole or not console.is_terminal)


def print_drawing(console: Console, drawing: Drawing) -> None:
    """Print a rich table: fitted to the width of a terminal, or in its full width elsewhere."""
    if console.is_terminal:
        console.print(drawing)
        return
    width = console.width
    console.width = max(1, Measurement.get(console, console.options.update(max_width=_WIDEST), drawing).maximum)
    console.print(drawing)
    console.width = width


def _drawing(table: Table, styles: Mapping[str, str]) -> Drawing:
    drawing = Drawing(header_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(table.columns):
        for title in (column.title, column.interval) if column.interval else (column.title,):
            drawing.add_column(title, no_wrap=number == 0, justify=column.align)
    for row in table.rows:
        cells = [text for cell, column in zip(row, table.columns, strict=True) for text in _texts(cell, column)]
        drawing.add_row(*(Text(text, style=styles[text]) if text in styles else text for text in cells))
    return drawing


def _texts(cell: Cell, column: Column) -> tuple[str, ...]:
    value = cell.alone if isinstance(cell, Figure) else cell or ""
    if not column.interval:
        return (cell.joined if isinstance(cell, Figure) and cell.limits else value,)
    return value, cell.span if isinstance(cell, Figure) else ""
