"""The name of a row in tables for reading: its checkpoint, and its sampling where rows differ in nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rlvr_bench.leaderboards.columns import Row

__all__ = ["sampling_words"]

_CHECKPOINT = ("task", "setting", "model", "step", "tools")
_SAMPLING = {
    "temperature": "T={}",
    "top_p": "top-p {}",
    "max_tokens": "{} tokens",
    "other_parameters": "{}",
}


def sampling_words(rows: Sequence[Row]) -> list[str]:
    """For each row the sampling parameters by which it differs from rows of the same checkpoint; empty for others."""
    alike: defaultdict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        alike[_checkpoint(row)].append(row)
    differing = {
        key: [name for name in _SAMPLING if len({row[name] for row in same}) > 1] for key, same in alike.items()
    }
    return [", ".join(filter(None, (_words(row, name) for name in differing[_checkpoint(row)]))) for row in rows]


def _checkpoint(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in _CHECKPOINT)


def _words(row: Row, name: str) -> str:
    value = row[name]
    if value is None:
        return ""
    return _SAMPLING[name].format(f"{value:g}" if isinstance(value, float) else value)
