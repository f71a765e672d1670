"""Whether a shard holds what its kind of shard can hold. One may come from anybody: its checksum says only that it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlvr_bench.errors import RunError
from rlvr_bench.records import LARGEST_INDEX, STATUSES

__all__ = ["LARGEST_INDEX", "check_metadata", "check_table", "completed", "readable"]

_LARGEST_COUNT = 2**31 - 1
_NEVER_EMPTY = frozenset(("problem_id", "index", "text", "text_hash", "status", "site", "arm", "repeat", "votes"))
_LATER = frozenset(("message",))  # columns that older shards do not have
_COUNTS = frozenset(("index", "n_tokens", "draw_start", "candidates", "site", "repeat", "tool_calls", "tool_errors"))
_PROFILE = "entropy_profile"
_PROFILE_BINS = 20


def check_metadata(file: Path, metadata: pq.FileMetaData, schema: pa.Schema) -> None:
    """Refuse a shard in which a column that every row needs is missing or has empty values, whichever columns are read.

    Raises RunError naming the file.
    """
    names = metadata.schema.to_arrow_schema().names
    for name in _NEVER_EMPTY & set(schema.names):
        if name not in names:
            raise _refused(file, f"column {name!r} is missing")
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        for place in range(columns.num_columns):
            column = columns.column(place)
            empty = column.statistics.null_count if column.statistics is not None else None
            if empty and column.path_in_schema in _NEVER_EMPTY & set(schema.names):
                raise _refused(file, f"column {column.path_in_schema!r} has {empty} empty values")


def readable(metadata: pq.FileMetaData, columns: Sequence[str]) -> list[str]:
    """The columns without those that this shard lacks because it is older than they are."""
    names = set(metadata.schema.to_arrow_schema().names)
    return [name for name in columns if name in names or name not in _LATER]


def completed(table: pa.Table, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    """The table with an empty column for each that was asked for and that this shard is too old to have."""
    for name in schema.names if columns is None else columns:
        if name in _LATER and name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, schema.field(name).type))
    return table


def _refused(file: Path, wrong: str) -> RunError:
    return RunError(f"{file}: not a shard of ours ({wrong}). Restore the file, or move it away and run the same again.")


def check_table(file: Path, table: pa.Table, schema: pa.Schema, columns: Sequence[str] | None, largest: int) -> None:
    """Refuse a shard with a column missing or of another type, or with values that no rollout or verdict can have.

    ``largest``: the largest index and count there may be.
    Raises RunError naming the file.
    """
    names = schema.names if columns is None else columns
    wrong = next(filter(None, (_wrong(table, schema, name, largest) for name in names)), None) or _twice(table)
    if wrong:
        raise RunError(
            f"{file}: not a shard of ours ({wrong}). Restore the file, or move it away and run the same again."
        )


def _wrong(table: pa.Table, schema: pa.Schema, name: str, largest: int) -> str | None:
    """What is wrong with a column, None where nothing is."""
    if name not in table.column_names:
        return f"column {name!r} is missing"
    column, expected = table[name], schema.field(name).type
    if column.type != expected:
        return f"column {name!r} is {column.type}, expected {expected}"
    if name in _NEVER_EMPTY and column.null_count:
        return f"column {name!r} has {column.null_count} empty values"
    most = largest if name == "index" else _LARGEST_COUNT
    if name in _COUNTS and (outside := _outside(column, most)) is not None:
        return f"column {name!r} has {outside}, expected 0 to {most:,}"
    if name == "status" and (unknown := set(_distinct(column)) - set(STATUSES)):
        return f"unknown status {sorted(map(str, unknown))[0][:40]!r}"
    if name == _PROFILE and not _all(pc.equal(pc.list_value_length(column), _PROFILE_BINS)):
        return f"an entropy profile has not {_PROFILE_BINS} bins"
    return None


def _outside(column: pa.ChunkedArray, most: int) -> int | None:
    """The first extreme that is no count."""
    found = pc.min_max(column).as_py()
    bounds = [value for value in (found["min"], found["max"]) if value is not None]
    return next((value for value in bounds if not 0 <= value <= most), None)


def _distinct(column: pa.ChunkedArray) -> list[str | None]:
    values: list[str | None] = pc.unique(column.cast(pa.string())).to_pylist()
    return values


def _all(found: pa.ChunkedArray) -> bool:
    return bool(pc.all(pc.fill_null(found, True)).as_py() in (True, None))


def _twice(table: pa.Table) -> str | None:
    """Whether two rows of one shard are about the same rollout."""
    if not {"problem_id", "index"} <= set(table.column_names):
        return None
    codes = table["problem_id"].combine_chunks()
    if isinstance(codes, pa.ChunkedArray):
        codes = codes.unify_dictionaries().combine_chunks()
    keys = (codes.indices.to_numpy().astype(np.int64) << 32) | table["index"].to_numpy()
    repeated = len(keys) - len(np.unique(keys))
    return f"{repeated} rollouts are in it twice" if repeated else None
