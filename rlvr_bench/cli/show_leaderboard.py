"""Prints a leaderboard as lines and tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlvr_bench.cli.tables import print_drawing, show_blocks
from rlvr_bench.cli.terminal import styled, write_out
from rlvr_bench.leaderboards import Leaderboard, Row, markdown_text, table_of_all, tables_of
from rlvr_bench.leaderboards.columns import BOARD
from rlvr_bench.leaderboards.common_k import bounds_text, common_k, unsolved_at
from rlvr_bench.leaderboards.files import row_order
from rlvr_bench.leaderboards.names import sampling_words
from rlvr_bench.tables import Format, Line

__all__ = ["show_leaderboard"]

_IN_TERMINAL = [(metric, column) for metric, column in BOARD if "terminal" in column.tables]
_WIDE = 120
_FEWER = 3  # number of budgets that fit in a narrow terminal


def show_leaderboard(console: Console, board: Leaderboard, form: Format = "table") -> None:
    """Print a table for each task and setting, sorted by pass@k at the smallest budget, the best first.

    Cells have pass@k, its interval, and the interval of the rank. TSV has one table with all columns of the CSV.
    """
    notes = [Line((f"note: {note}",), is_whole=True) for note in board.notes]
    if form == "table":
        _draw(console, board)
        show_blocks(console, notes)
    elif form == "tsv":
        show_blocks(console, [*notes, table_of_all(board.rows, board.ks)], form)
    elif form == "markdown":
        write_out(markdown_text(board.rows, board.ks))
        if notes:
            show_blocks(console, notes, form)
    else:
        show_blocks(console, [*tables_of(board.rows, board.ks), *notes], form)


def _draw(console: Console, board: Leaderboard) -> None:
    for task, setting in dict.fromkeys((row["task"], row["setting"]) for row in board.rows):
        mine = [row for row in board.rows if (row["task"], row["setting"]) == (task, setting)]
        line = f"{task}: {mine[0]['problems']} problems; below pass@k its 95 % interval and the rank's"
        console.print(line, highlight=False, markup=False)
        wide = console.width >= _WIDE or not console.is_terminal
        print_drawing(console, _table(mine, _shown_ks(mine, board.ks, wide=wide), board.ks, wide=wide))


def _shown_ks(rows: Sequence[Row], ks: Sequence[int], *, wide: bool) -> list[int]:
    """The budgets at which any row has a value or bounds; in a narrow terminal the smallest, middle and largest."""
    known = [k for k in ks if any(row[f"pass@{k}"] is not None or bounds_text(row, k) for row in rows)]
    if wide or len(known) <= _FEWER:
        return known
    return [known[0], known[len(known) // 2], known[-1]]


def _table(rows: Sequence[Row], ks: Sequence[int], all_ks: Sequence[int], *, wide: bool) -> Table:
    common = common_k(rows, all_ks)
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("model", overflow="fold", min_width=12)
    has_base = any(row["gained"] is not None for row in rows)
    unsolved = f"unsolved in {common}" if common else "unsolved"
    last = (unsolved, *(column.short for _, column in _IN_TERMINAL)) if wide else ()
    for name in ("n", *(f"pass@{k}" for k in ks), *(("+/-",) if has_base else ()), *last):
        table.add_column(name, justify="right", no_wrap=True)
    ordered = sorted(rows, key=row_order(ks))
    for row, words in zip(ordered, sampling_words(ordered), strict=True):
        change = "" if row["gained"] is None else f"+{_number(row, 'gained', '.1f')}/-{_number(row, 'lost', '.1f')}"
        sets = [change] if has_base else []
        more = [unsolved_at(row, common), *_estimates(row)] if wide else []
        table.add_row(_name(row, words), f"{row['n']}", *(_cell(row, k) for k in ks), *sets, *more)
    return table


def _estimates(row: Row) -> list[str]:
    return [_number(row, column.name, ".1%" if metric.is_fraction else ".3f") for metric, column in _IN_TERMINAL]


def _number(row: Row, name: str, style: str) -> str:
    value = row[name]
    return "" if value is None else format(float(value), style)


def _name(row: Row, words: str) -> Text:
    about = [str(row["method"])] if row["method"] is not None else []
    about += [f"step {row['step']}"] if row["step"] is not None else []
    about += [f"with {row['tools']}"] if row["tools"] is not None else []
    about += [words] if words else []
    text = styled(" ".join(str(row["model"]).split()))
    return text.append(f"\n{', '.join(about)}", style="dim") if about else text


def _cell(row: Row, k: int) -> Text:
    bounds = bounds_text(row, k)
    if row[f"pass@{k}"] is None:
        return Text(f"{bounds.replace(' to ', '-')}%").append("\nbounds", style="dim") if bounds else Text("")
    value, low, high = (100 * float(row[f"pass@{k}{end}"] or 0) for end in ("", "_low", "_high"))
    first, last = row[f"rank@{k}_low"], row[f"rank@{k}_high"]
    ranks = f"#{first}" if first == last else f"#{first}-{last}"
    more = f"\nerrors {bounds.replace(' to ', '-')}" if bounds else ""
    return Text(f"{value:.1f}%").append(f"\n{low:.1f}-{high:.1f}\n{ranks}{more}", style="dim")
