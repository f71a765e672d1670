"""Parquet shards whose names carry their own checksum: ``000007-3f9a0c12d4e5b6a7.parquet``.

A shard is written once, whole, under a temporary name, and renamed; nothing is ever changed in it. A shard whose content
does not match its name (a torn write, a bad disk) is set aside, never read and never deleted.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlvr_bench.errors import RunError, StorageError
from rlvr_bench.store.manifest import write_atomically

__all__ = ["ShardFolder"]

logger = logging.getLogger(__name__)

_DIGEST = 16  # hex digits of SHA-256 in a shard's name


class ShardFolder:
    """An append-only sequence of parquet shards in one folder."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema

    def files(self) -> list[Path]:
        """Shards in the order they were written."""
        return sorted(file for file in self.path.glob("*.parquet") if not file.name.startswith("."))

    def append(self, table: pa.Table) -> Path:
        """Write one shard. Raises StorageError where the disk refuses; shards written before stay whole."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot create {self.path}: {error.strerror or error}") from error
        sink = pa.BufferOutputStream()
        pq.write_table(table.cast(self.schema), sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        files = self.files()
        number = int(files[-1].name.split("-")[0]) + 1 if files else 0
        file = self.path / f"{number:06d}-{_digest(content)}.parquet"
        write_atomically(file, content)
        return file

    def set_aside_damaged(self) -> list[Path]:
        """Move shards that do not match their checksum into ``set-aside/``; returns where they now lie."""
        moved = []
        for file in self.files():
            if _is_whole(file):
                continue
            target = self.path / "set-aside" / file.name
            target.parent.mkdir(exist_ok=True)
            file.replace(target)
            logger.warning("%s does not match its checksum: set aside, its rows will be made again", file)
            moved.append(target)
        return moved

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Tables of the shards, one at a time. Raises RunError at a damaged one (a writer sets it aside and redraws)."""
        for file in self.files():
            content = _whole_content(file)
            yield pq.read_table(pa.BufferReader(content), columns=None if columns is None else list(columns))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGEST]


def _named_digest(file: Path) -> str:
    return file.stem.rpartition("-")[2]


def _is_whole(file: Path) -> bool:
    try:
        return _digest(file.read_bytes()) == _named_digest(file)
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror or error}") from error


def _whole_content(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror or error}") from error
    if _digest(content) != _named_digest(file):
        raise RunError(
            f"{file} is damaged (checksum). Run the same evaluate or sample again: it redraws what was lost."
        )
    return content
