"""Leaderboards on disk: the CSV file, and Markdown, JSON, Parquet and other tables made from it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rlvr_bench.errors import DataError
from rlvr_bench.json_format import format_json
from rlvr_bench.leaderboards.columns import BOARD, KEY, Cell, Column, Row, caveats_of, columns, is_added
from rlvr_bench.leaderboards.common_k import bounds_text, common_k, unsolved_at
from rlvr_bench.leaderboards.names import sampling_words
from rlvr_bench.tables import Cell as Shown
from rlvr_bench.tables import Column as Heading
from rlvr_bench.tables import Figure, Line, Table, as_markdown, best_marked, markdown, no_formula

__all__ = [
    "csv_text",
    "json_text",
    "key_of",
    "markdown_text",
    "parquet_bytes",
    "read_csv",
    "row_order",
    "table_of_all",
    "tables_of",
]

_IN_MARKDOWN = [(metric, column) for metric, column in BOARD if "markdown" in column.tables]


def key_of(row: Row) -> tuple[Cell, ...]:
    """The cells that identify a row: runs with equal keys have the same row."""
    return tuple(row[name] for name in KEY)


def read_csv(file: Path, ks: Sequence[int]) -> list[Row]:
    """The rows of a leaderboard written by ``csv_text``; none if the file does not exist.

    Columns that earlier versions did not have may be missing; their cells are empty. Raises DataError: columns are not
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
    """The rows as CSV (RFC 4180, except that lines end with a newline), all columns, an empty cell for None."""
    names = [column.name for column in columns(ks)]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_written(row[name]) for name in names])
    return out.getvalue()


def json_text(rows: Sequence[Row]) -> str:
    """The rows as a JSON array of objects, null for None."""
    return format_json(rows).decode()


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
    """A table of the main columns for each task and setting, best at the smallest budget first, with intervals."""
    parts = []
    for line, table, footnotes in _tables(rows, ks):
        parts.append(f"### {as_markdown(line.text)}\n\n{markdown(table)}\n")
        parts += [f"{as_markdown(footnote.text)}\n" for footnote in footnotes]
    return "\n".join(parts)


def tables_of(rows: Sequence[Row], ks: Sequence[int]) -> list[Line | Table]:
    """The tables of ``markdown_text``, each after a line with its task and before the caveats of its intervals."""
    blocks: list[Line | Table] = []
    for line, table, footnotes in _tables(rows, ks):
        blocks += [line, table, *footnotes]
    return blocks


def table_of_all(rows: Sequence[Row], ks: Sequence[int]) -> Table:
    """All columns and rows of the CSV as one table."""
    names = [column.name for column in columns(ks)]
    return Table(tuple(map(Heading, names)), tuple(tuple(_as_is(row[name]) for name in names) for row in rows))


def _as_is(value: Cell) -> Shown:
    return value if value is None or isinstance(value, str) else Figure(value=value)


def _tables(rows: Sequence[Row], ks: Sequence[int]) -> Iterator[tuple[Line, Table, list[Line]]]:
    for task, setting in dict.fromkeys((row["task"], row["setting"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["setting"]) == (task, setting)]
        shown = [k for k in ks if any(row[f"pass@{k}"] is not None or bounds_text(row, k) for row in mine)]
        common = common_k(mine, ks)
        title = Line((f"{task}: {mine[0]['problems']} problems",))
        yield title, _table(sorted(mine, key=row_order(ks)), shown, common), _footnotes(mine)


def _footnotes(rows: Sequence[Row]) -> list[Line]:
    """A line for each caveat of an interval of these rows, with the models that it holds for unless that is all."""
    models: dict[str, list[str]] = {}
    for row, name in zip(rows, _models(rows), strict=True):
        for caveat in caveats_of(row):
            models.setdefault(caveat, []).append(name)
    of = {caveat: "" if len(names) == len(rows) else f" of {', '.join(names)}" for caveat, names in models.items()}
    return [Line((f"intervals{whose}: {caveat}",)) for caveat, whose in of.items()]


def row_order(ks: Sequence[int]) -> Callable[[Row], tuple[float, str]]:
    """The key that sorts rows by their rank at the smallest budget, then by name."""

    def key(row: Row) -> tuple[float, str]:
        rank = row[f"rank@{ks[0]}"] if ks else None
        return (math.inf if rank is None else float(rank), str(row["model"]))

    return key


def _table(rows: Sequence[Row], ks: Sequence[int], common: int | None) -> Table:
    """All columns with their cells, the best figures marked; gained and lost if the base of any row is known."""
    made: list[tuple[Heading, list[Shown]]] = [(Heading("model"), [*_models(rows)])]
    made += [(Heading(name), [_text(row[name]) for row in rows]) for name in ("method", "step", "n")]
    for k in ks:
        cells = best_marked([_pass(row, k) for row in rows], "more")
        made.append((Heading(f"pass@{k} [95 %] rank", "right"), cells))
    unsolved = Heading(f"unsolved in {common}" if common else "unsolved", "right")
    made.append((unsolved, best_marked([_unsolved(row, common) for row in rows], "less")))
    if any(row["gained"] is not None for row in rows):
        made.append((Heading("gained / lost (by chance)", "right"), [_sets(row) for row in rows]))
    for metric, column in _IN_MARKDOWN:
        figures = [_figure(row[column.name], percent=metric.is_fraction) for row in rows]
        made.append((Heading(column.short, "right"), best_marked(figures, metric.better)))
    return Table(tuple(heading for heading, _ in made), tuple(zip(*(cells for _, cells in made), strict=True)))


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)


def _models(rows: Sequence[Row]) -> list[str]:
    return [_model(row, words) for row, words in zip(rows, sampling_words(rows), strict=True)]


def _model(row: Row, words: str) -> str:
    name = str(row["model"]) if row["tools"] is None else f"{row['model']} + {row['tools']}"
    return f"{name} ({words})" if words else name


def _unsolved(row: Row, k: int | None) -> Shown:
    text = unsolved_at(row, k)
    return Figure(value=float(text), digits=1 if "." in text else 0) if text else None


def _sets(row: Row) -> str:
    if row["gained"] is None:
        return ""
    gained, lost, chance = (
        "" if row[name] is None else f"{float(row[name] or 0):.1f}" for name in ("gained", "lost", "by_chance")
    )
    return f"{gained} / {lost} ({chance})"


def _pass(row: Row, k: int) -> Shown:
    value, low, high, least, most = (
        None if (cell := row[f"pass@{k}{end}"]) is None else float(cell)
        for end in ("", "_low", "_high", "_at_least", "_at_most")
    )
    if value is None:
        return None if least is None else Figure(value=least, most=most, digits=1, scale=100.0)
    first, last = row[f"rank@{k}_low"], row[f"rank@{k}_high"]
    tail = f"{first}" if first == last else f"{first}-{last}"
    if least is not None:
        tail = f"(errors leave {bounds_text(row, k)}) {tail}"
    return Figure(value=value, low=low or 0.0, high=high or 0.0, digits=1, scale=100.0, tail=tail)


def _figure(value: Cell, *, percent: bool) -> Shown:
    return None if value is None else Figure.of(float(value), percent=percent)


def _written(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return no_formula(value)
    return repr(value)


def _check_header(file: Path, header: list[str], expected: list[str]) -> None:
    if header == expected:
        return
    missing = [name for name in expected if name not in header]
    extra = [name for name in header if name not in expected]
    parts = [
        f"{what}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
        for what, names in (("missing", missing), ("not known", extra))
        if names
    ] or ["they are in another order, or there twice"]
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
        return cell[1:] if cell[0] == "'" and no_formula(cell[1:]) == cell else cell
    read: Any = int if column.kind == "whole" else float
    try:
        value: int | float = read(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        what = "a whole number" if column.kind == "whole" else "a number"
        raise DataError(f"{where}: {column.name} is {cell!r}, expected {what} or nothing. Mend the cell.")
    return value
