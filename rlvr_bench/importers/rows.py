"""Rows of parquet files of other programs, read a few at a time. An error names the file and the row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from rlvr_bench.errors import DataError, in_one_line
from rlvr_bench.importers.streams import open_parquet

__all__ = ["parquet_rows"]

_BATCH_ROWS = 16


def parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its address, as those of ``columns`` (dotted paths too) that the file has. Raises DataError."""
    number = 0
    try:
        with open_parquet(file) as source:
            for batch in source.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns), use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", row
    except (pa.ArrowException, UnicodeDecodeError, OverflowError, ValueError) as error:
        raise DataError(f"{file}, after row {number}: {in_one_line(str(error))}") from error
