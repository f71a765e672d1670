"""Leaderboards on disk: the CSV that is kept up to date, and Markdown, JSON and Parquet made from it."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.comparison.markdown import as_markdown
from rlvr_bench.errors import DataError
from rlvr_bench.leaderboards.columns import BOARD, KEY, Cell, Column, Row, columns, is_added
from rlvr_bench.leaderboards.common_k import bounds_text, common_k, unsolved_at

__all__ = ["csv_text", "json_text", "key_of", "markdown_text", "parquet_bytes", "read_csv"]

_IN_MARKDOWN = [(metric, column) for metric, column in BOARD if "markdown" in column.tables]
# A spreadsheet takes text that starts so for a formula; an apostrophe before it says that it is text.
_FORMULA = re.compile(r"['=+\-@\t\r]")


def key_of(row: Row) -> tuple[Cell, ...]:
    """What makes two runs the same row."""
    return tuple(row[name] for name in KEY)


def read_csv(file: Path, ks: Sequence[int]) -> list[Row]:
    """The rows of a leaderboard that ``csv_text`` wrote; none where the file does not exist.

    Columns that earlier versions did not have may be missing: their cells are empty. Raises DataError: columns are not
    those of this leaderboard, a cell is not of its column's type, or two rows have the same key. Such a file is never
    rewritten.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: dict[tuple[Cell, ...], Row] = {}
    try:
        header = next(reader, [])
        empty = {column.name: None for column in columns(ks)}
        expected = [column for column in columns(ks) if column.name in header or not is_added(column.name)]
        _check_header(file, header, [column.name for column in expected])
        for cells in reader:
            row = empty | _row(f"{file}, line {reader.line_num}", cells, expected)
            if key_of(row) in rows:
                raise DataError(
                    f"{file}, line {reader.line_num}: a second row with the same {', '.join(KEY)}. Delete one."
                )
            rows[key_of(row)] = row
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: not a CSV file ({error})") from error
    return list(rows.values())


def csv_text(rows: Sequence[Row], ks: Sequence[int]) -> str:
    """The rows as CSV (RFC 4180 but for the line ends, which are plain newlines), all columns, an empty cell for None."""
    names = [column.name for column in columns(ks)]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_written(row[name]) for name in names])
    return out.getvalue()


def json_text(rows: Sequence[Row]) -> str:
    """The rows as a JSON array of objects, null for None."""
    return msgspec.json.format(msgspec.json.encode(rows), indent=1).decode() + "\n"


def parquet_bytes(rows: Sequence[Row], ks: Sequence[int]) -> bytes:
    """The rows as Parquet, null for None."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64()}
    schema = pa.schema([(column.name, types[column.kind]) for column in columns(ks)])
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), out, compression="zstd")
    return out.getvalue()


def markdown_text(rows: Sequence[Row], ks: Sequence[int]) -> str:
    """A table for each task and setting, best first at the smallest budget, of what one reads; intervals in brackets."""
    parts = []
    for task, setting in dict.fromkeys((row["task"], row["setting"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["setting"]) == (task, setting)]
        shown = [k for k in ks if any(row[f"pass@{k}"] is not None or bounds_text(row, k) for row in mine)]
        head = ["model", "method", "step", "n", *(f"pass@{k} [95 %] rank" for k in shown)]
        common = common_k(mine, ks)
        head += [f"unsolved in {common}" if common else "unsolved", "gained / lost (by chance)"]
        head += [column.short for _, column in _IN_MARKDOWN]
        body = [_markdown_row(row, shown, common) for row in sorted(mine, key=lambda row: _order(row, ks))]
        lines = [head, ["---"] * len(head), *body]
        title = f"### {as_markdown(str(task))}: {mine[0]['problems']} problems"
        parts.append("\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines), ""]))
    return "\n".join(parts)


def _order(row: Row, ks: Sequence[int]) -> tuple[float, str]:
    place = row[f"rank@{ks[0]}"]
    return (math.inf if place is None else float(place), str(row["model"]))


def _markdown_row(row: Row, ks: Sequence[int], common: int | None) -> list[str]:
    sets = f"{row['gained']} / {row['lost']} ({_shown(row['by_chance'], '.1f')})" if row["gained"] is not None else ""
    model = row["model"] if row["tools"] is None else f"{row['model']} + {row['tools']}"
    return [
        *(as_markdown("" if cell is None else str(cell)) for cell in (model, row["method"], row["step"], row["n"])),
        *(_markdown_pass(row, k) for k in ks),
        unsolved_at(row, common),
        sets,
        *(_shown(row[column.name], ".1%" if metric.is_fraction else ".3f") for metric, column in _IN_MARKDOWN),
    ]


def _markdown_pass(row: Row, k: int) -> str:
    if row[f"pass@{k}"] is None:
        return bounds_text(row, k)
    value, low, high = (100 * float(row[f"pass@{k}{end}"] or 0) for end in ("", "_low", "_high"))
    first, last = row[f"rank@{k}_low"], row[f"rank@{k}_high"]
    more = f" (errors leave {bounds_text(row, k)})" if bounds_text(row, k) else ""
    return f"{value:.1f} [{low:.1f}, {high:.1f}]{more} {first if first == last else f'{first}-{last}'}"


def _shown(value: Cell, style: str) -> str:
    return "" if value is None else format(float(value), style)


def _written(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    return repr(value)


def _check_header(file: Path, found: list[str], expected: list[str]) -> None:
    if found == expected:
        return
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    parts = [
        f"{what}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
        for what, names in (("missing", missing), ("not known", extra))
        if names
    ] or ["they stand in another order, or twice"]
    raise DataError(
        f"{file}: not the columns of this leaderboard ({'; '.join(parts)}), and so left as it is. Give the --k it was made "
        f"with, mend it, or write to another file."
    )


def _row(where: str, cells: list[str], expected: Sequence[Column]) -> Row:
    if len(cells) != len(expected):
        raise DataError(
            f"{where}: {len(cells)} cells, expected {len(expected)}. Mend the line, or write to another file."
        )
    return {column.name: _read(where, column, cell) for column, cell in zip(expected, cells, strict=True)}


def _read(where: str, column: Column, cell: str) -> Cell:
    if not cell:
        return None
    if column.kind == "text":
        return cell[1:] if cell[0] == "'" and _FORMULA.match(cell[1:]) else cell
    read: Any = int if column.kind == "whole" else float
    try:
        value: int | float = read(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        what = "a whole number" if column.kind == "whole" else "a number"
        raise DataError(f"{where}: {column.name} is {cell!r}, expected {what} or nothing. Mend the cell.")
    return value
