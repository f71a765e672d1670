"""A leaderboard as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlvr_bench.cli.terminal import styled
from rlvr_bench.leaderboards import Leaderboard, Row
from rlvr_bench.leaderboards.columns import BOARD
from rlvr_bench.leaderboards.common_k import bounds_text, common_k, unsolved_at

__all__ = ["show_leaderboard"]

_IN_TERMINAL = [(metric, column) for metric, column in BOARD if "terminal" in column.tables]
_WIDE = 120
_FEWER = 3  # budgets that fit a narrow terminal


def show_leaderboard(console: Console, found: Leaderboard) -> None:
    """A table for each task and setting, best first at the smallest budget: pass@k, its interval, and the rank's."""
    for task, setting in dict.fromkeys((row["task"], row["setting"]) for row in found.rows):
        mine = [row for row in found.rows if (row["task"], row["setting"]) == (task, setting)]
        line = f"{task}: {mine[0]['problems']} problems; below pass@k its 95 % interval and the rank's"
        console.print(line, highlight=False, markup=False)
        wide = console.width >= _WIDE
        console.print(_table(mine, _shown_ks(mine, found.ks, wide=wide), found.ks, wide=wide), markup=False)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def _shown_ks(rows: Sequence[Row], ks: Sequence[int], *, wide: bool) -> list[int]:
    """The budgets that any row has; in a narrow terminal the smallest, the largest and one between."""
    known = [k for k in ks if any(row[f"pass@{k}"] is not None or bounds_text(row, k) for row in rows)]
    if wide or len(known) <= _FEWER:
        return known
    return [known[0], known[len(known) // 2], known[-1]]


def _table(rows: Sequence[Row], ks: Sequence[int], found_ks: Sequence[int], *, wide: bool) -> Table:
    common = common_k(rows, found_ks)
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("model", overflow="fold", min_width=12)
    for name in (
        "n",
        *(f"pass@{k}" for k in ks),
        "+/-",
        *(
            (f"unsolved in {common}" if common else "unsolved", *(column.short for _, column in _IN_TERMINAL))
            if wide
            else ()
        ),
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: _order(row, ks)):
        sets = "" if row["gained"] is None else f"+{row['gained']}/-{row['lost']}"
        last = [unsolved_at(row, common), *_estimates(row)] if wide else []
        table.add_row(_name(row), f"{row['n']}", *(_cell(row, k) for k in ks), sets, *last)
    return table


def _estimates(row: Row) -> list[str]:
    return [_number(row, column.name, ".1%" if metric.is_fraction else ".3f") for metric, column in _IN_TERMINAL]


def _number(row: Row, name: str, style: str) -> str:
    value = row[name]
    return "" if value is None else format(float(value), style)


def _order(row: Row, ks: Sequence[int]) -> tuple[float, str]:
    place = row[f"rank@{ks[0]}"] if ks else None
    return (math.inf if place is None else float(place), str(row["model"]))


def _name(row: Row) -> Text:
    about = [str(row["method"])] if row["method"] is not None else []
    about += [f"step {row['step']}"] if row["step"] is not None else []
    about += [f"with {row['tools']}"] if row["tools"] is not None else []
    text = styled(" ".join(str(row["model"]).split()))
    return text.append(f"\n{', '.join(about)}", style="dim") if about else text


def _cell(row: Row, k: int) -> Text:
    bounds = bounds_text(row, k)
    if row[f"pass@{k}"] is None:
        return Text(f"{bounds.replace(' to ', '-')}%").append("\nbounds", style="dim") if bounds else Text("")
    value, low, high = (100 * float(row[f"pass@{k}{end}"] or 0) for end in ("", "_low", "_high"))
    first, last = row[f"rank@{k}_low"], row[f"rank@{k}_high"]
    place = f"#{first}" if first == last else f"#{first}-{last}"
    more = f"\nerrors {bounds.replace(' to ', '-')}" if bounds else ""
    return Text(f"{value:.1f}%").append(f"\n{low:.1f}-{high:.1f}\n{place}{more}", style="dim")
