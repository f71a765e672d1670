"""A summary of a shard in its parquet footer: rows, tokens, and counts by problem. ``status`` reads nothing else.

The summary is found by a mark at the end of the file. A parquet library first parses the statistics of every column,
which takes ten times as long.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlvr_bench.errors import RunError
from rlvr_bench.received import decode
from rlvr_bench.storage import is_remote
from rlvr_bench.store.paths import Listed, read_end, read_part

__all__ = ["Summary", "read_summaries", "with_summary"]

_KEY = b"rlvr-bench shard summary"
_MARK = _KEY + b"="
_DIGITS = 10  # of the length that follows the mark
_END = 2**14  # bytes read of a file at first
_MOST = 2**26  # bytes of a footer at most
_MAGIC = b"PAR1"
_READERS = 8
Count = Annotated[int, msgspec.Meta(ge=0)]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a shard; ``tokens``: of all its rollouts, None where unknown.

    ``counts``: its rollouts by problem, in a shard of rollouts; in one of verdicts, those that are correct.
    """

    rows: Count
    tokens: Count | None
    counts: dict[str, Count]


def with_summary(table: pa.Table) -> pa.Table:
    """The table with its summary in the metadata; unchanged if it is of neither rollouts nor verdicts."""
    if not {"problem_id", "index"} <= set(table.column_names):
        return table
    content = base64.b64encode(msgspec.json.encode(_summary(table)))  # base64: the mark cannot occur in it
    return table.replace_schema_metadata({_KEY: b"%s%0*d%s" % (_MARK, _DIGITS, len(content), content)})


def read_summaries(files: Sequence[Listed]) -> list[tuple[Listed, Summary]]:
    """The files that still exist, with their summaries. Raises RunError at a damaged shard, StorageError."""
    with ThreadPoolExecutor(
        _READERS
    ) as pool:  # a short read of this machine's disk takes less time than handing it over
        in_order = pool.map if files and is_remote(files[0].path) else map
        summaries = list(in_order(_from_end, files))
        others = [number for number, summary in enumerate(summaries) if summary is None]
        for number, summary in zip(others, pool.map(_from_columns, [files[number] for number in others]), strict=True):
            summaries[number] = summary
    return [(file, summary) for file, summary in zip(files, summaries, strict=True) if summary is not None]


def _from_end(file: Listed) -> Summary | None:
    """The summary in the footer; None without one, or where the file is gone."""
    end = read_end(file, _END)
    if end is not None and end[-4:] == _MAGIC and len(end) >= 8:
        footer = int.from_bytes(end[-8:-4], "little") + 8
        if len(end) < footer <= min(file.size, _MOST):
            end = read_end(file, footer)
    return None if end is None else _marked(end)


def _marked(end: bytes) -> Summary | None:
    """The summary after the last mark; None without one, as in shards of older versions."""
    at = end.rfind(_MARK)
    start = at + len(_MARK) + _DIGITS
    length = end[at + len(_MARK) : start]
    if at < 0 or end[-4:] != _MAGIC or not length.isdigit():
        return None
    try:
        return decode(base64.b64decode(end[start : start + int(length)], validate=True), Summary)
    except (binascii.Error, msgspec.DecodeError):
        return None


def _from_columns(file: Listed) -> Summary | None:
    """The summary of a shard that has none, from its columns; None where it is gone: writers set damaged shards aside."""
    try:
        with read_part(file) as content:
            if content is None:
                return None
            shard = pq.ParquetFile(content)
            names = set(shard.schema_arrow.names)
            chosen = [name for name in ("problem_id", "status", "n_tokens") if name in names]
            return _summary(shard.read(columns=chosen, use_threads=False))
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RunError(
            f"{file.path} is damaged ({reason}). Run the same evaluate or sample again: it redraws what was lost."
        ) from error


def _summary(table: pa.Table) -> Summary:
    counted = table["problem_id"]
    if "status" in table.column_names:
        counted = counted.filter(pc.equal(table["status"].cast(pa.string()), "correct"))
    pairs = pc.value_counts(counted.cast(pa.string())).to_pylist()
    lengths = table["n_tokens"] if "n_tokens" in table.column_names else None
    tokens = None if lengths is None or lengths.null_count else int(pc.sum(lengths).as_py() or 0)
    return Summary(
        rows=table.num_rows, tokens=tokens, counts={pair["values"]: pair["counts"] for pair in pairs if pair["values"]}
    )
