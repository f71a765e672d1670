"""Checks of a shard's content. A shard may come from anybody, and its checksum shows only that it is complete."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlvr_bench.errors import RunError
from rlvr_bench.records import LARGEST_INDEX, STATUSES
from rlvr_bench.verifiers.extraction.thoughts import THOUGHTS

__all__ = ["LARGEST_INDEX", "check_metadata", "check_table", "completed", "readable"]

_LARGEST_COUNT = 2**31 - 1
_NEVER_EMPTY = frozenset(("problem_id", "index", "text", "text_hash", "status", "site", "arm", "repeat", "votes"))
_TURNS = ("turns", "turn_ids", "turn_logprob", "turn_entropy", "turn_nucleus")
_LATER = frozenset(("message", "thought", *_TURNS))  # columns that shards of older versions lack
_COUNTS = frozenset(("index", "n_tokens", "draw_start", "candidates", "site", "repeat", "tool_calls", "tool_errors"))
# A log-probability may round to just above 0, an entropy to just below.
_ROUNDED = 1e-3
_NUMBERS = {
    "logprob_sum": (-math.inf, _ROUNDED),
    **dict.fromkeys(("entropy_mean", "entropy_low", "entropy_high"), (-_ROUNDED, math.inf)),
    **dict.fromkeys(("branching_mean", "branching_low", "branching_high"), (0.0, math.inf)),
    "high_entropy_share": (0.0, 1.0),
}
_NAMES = {
    "status": frozenset(STATUSES),
    "finish_reason": frozenset(("stop", "length", None)),
    "thought": frozenset((*THOUGHTS, None)),
}
_PROFILE = "entropy_profile"
_PROFILE_BINS = 20


def check_metadata(file: Path, metadata: pq.FileMetaData, schema: pa.Schema) -> None:
    """Check that every required column exists and has no null, also those that are not read.

    Raises RunError, which names the file.
    """
    names = metadata.schema.to_arrow_schema().names
    for name in _NEVER_EMPTY & set(schema.names):
        if name not in names:
            raise _refused(file, f"column {name!r} is missing")
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        for number in range(columns.num_columns):
            column = columns.column(number)
            empty = column.statistics.null_count if column.statistics is not None else None
            if empty and column.path_in_schema in _NEVER_EMPTY & set(schema.names):
                raise _refused(file, f"column {column.path_in_schema!r} has {empty} empty values")


def readable(metadata: pq.FileMetaData, columns: Sequence[str]) -> list[str]:
    """``columns`` without those that a shard of an older version lacks."""
    names = set(metadata.schema.to_arrow_schema().names)
    return [name for name in columns if name in names or name not in _LATER]


def completed(table: pa.Table, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    """The table with a column of nulls for each requested column that a shard of an older version lacks."""
    for name in schema.names if columns is None else columns:
        if name in _LATER and name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, schema.field(name).type))
    return table


def _refused(file: Path, wrong: str) -> RunError:
    return RunError(
        f"{file}: not a shard of ours ({wrong}). Restore the file, or move it away and run the same command again."
    )


def check_table(file: Path, table: pa.Table, schema: pa.Schema, columns: Sequence[str] | None, largest: int) -> None:
    """Check that columns exist and have the right type, and that a rollout or a verdict can have their values.

    ``largest``: the largest allowed index. Raises RunError, which names the file.
    """
    names = schema.names if columns is None else columns
    wrong = next(filter(None, (_wrong(table, schema, name, largest) for name in names)), None) or _twice(table)
    if wrong:
        raise _refused(file, wrong)


def _wrong(table: pa.Table, schema: pa.Schema, name: str, largest: int) -> str | None:
    """What is wrong with a column, or None."""
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
    if name in _NUMBERS and not _within(column, *_NUMBERS[name]):
        return (
            f"column {name!r} has a value that is no finite number from {_NUMBERS[name][0]:g} to {_NUMBERS[name][1]:g}"
        )
    if name in _NAMES and (unknown := set(_distinct(column)) - _NAMES[name]):
        return f"unknown {name} {sorted(map(str, unknown))[0][:40]!r}"
    if name == _PROFILE and not _all(pc.equal(pc.list_value_length(column), _PROFILE_BINS)):
        return f"an entropy profile does not have {_PROFILE_BINS} bins"
    return None


def _outside(column: pa.ChunkedArray, most: int) -> int | None:
    """The smallest or the largest value where it is not within 0 and ``most``, else None."""
    extremes = pc.min_max(column).as_py()
    bounds = [value for value in (extremes["min"], extremes["max"]) if value is not None]
    return next((value for value in bounds if not 0 <= value <= most), None)


def _within(column: pa.ChunkedArray, least: float, most: float) -> bool:
    """Whether all values that are there are finite and within the bounds."""
    inside = pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most))
    return _all(pc.and_(inside, pc.is_finite(column)))


def _distinct(column: pa.ChunkedArray) -> list[str | None]:
    values: list[str | None] = pc.unique(column.cast(pa.string())).to_pylist()
    return values


def _all(values: pa.ChunkedArray) -> bool:
    return bool(pc.all(pc.fill_null(values, True)).as_py() in (True, None))


def _twice(table: pa.Table) -> str | None:
    """What is wrong where two rows of a shard are of the same rollout, else None."""
    if not {"problem_id", "index"} <= set(table.column_names):
        return None
    codes = table["problem_id"].combine_chunks()
    if isinstance(codes, pa.ChunkedArray):
        codes = codes.unify_dictionaries().combine_chunks()
    keys = (codes.indices.to_numpy().astype(np.int64) << 32) | table["index"].to_numpy()
    repeated = len(keys) - len(np.unique(keys))
    return f"{repeated} rollouts are in it twice" if repeated else None
