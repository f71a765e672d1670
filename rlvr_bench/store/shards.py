"""Parquet shards whose names contain their checksum: ``000007-3f9a0c12d4e5b6a7.parquet``.

A shard is written once and never changed. A shard whose content does not match its name (a torn write, a bad disk) is
moved into ``set-aside/``; it is not read and not deleted. Several processes may write to one folder: each numbers only
its shards, and the checksums make their names differ. The name may also contain that of its writer:
``000007-<writer>-3f9a0c12d4e5b6a7.parquet``.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlvr_bench.errors import RunError
from rlvr_bench.storage import is_remote
from rlvr_bench.store.paths import files_in, inside, make_folder, move, read_whole, write_atomically
from rlvr_bench.store.shard_checks import LARGEST_INDEX, check_metadata, check_table, completed, readable
from rlvr_bench.store.shard_summaries import with_summary

__all__ = ["SHARD_ROLLOUTS", "SHARD_SECONDS", "Schedule", "ShardFolder", "sparing_patience", "writer_of"]

logger = logging.getLogger(__name__)

_DIGEST = 16  # hex digits of SHA-256 in a shard's name
_DAMAGED = "does not match its checksum"
_AHEAD = 8  # shards fetched ahead from a storage

# A shard is written when this many rollouts wait, or the oldest has waited this long. kill -9 can lose that much.
SHARD_ROLLOUTS = 4096
SHARD_SECONDS = float(os.environ.get("RLVR_BENCH_SHARD_SECONDS", "5"))
# With many writers, or where each file is a request to a storage, the wait grows to 1 % of the session, at most 60 s:
# a hundred writers then write 150,000 files a day, not two million.
_SHARE, _MOST_SECONDS = 0.01, 60.0


class Schedule:
    """When the rollouts that wait in memory are due to be written."""

    def __init__(self, *, sparing: bool) -> None:
        """``sparing``: wait longer in a long session, to write fewer files."""
        self._sparing = sparing
        self._began = time.monotonic()
        self._waiting = 0
        self._oldest = 0.0

    def add(self, rollouts: int) -> None:
        """Count new rollouts that wait."""
        if not self._waiting:
            self._oldest = time.monotonic()
        self._waiting += rollouts

    def due_in(self, patience_s: float = math.inf) -> float | None:
        """Seconds until the rollouts are due, ``patience_s`` after the oldest was added or sooner; None without any."""
        if not self._waiting:
            return None
        if self.is_full:
            return 0.0
        now = time.monotonic()
        longest = sparing_patience(now - self._began) if self._sparing else SHARD_SECONDS
        return max(0.0, self._oldest + min(patience_s, longest) - now)

    @property
    def is_full(self) -> bool:
        """Whether as many rollouts wait as a shard has."""
        return self._waiting >= SHARD_ROLLOUTS

    def written(self) -> None:
        """Note that all rollouts were written."""
        self._waiting = 0


def sparing_patience(elapsed_s: float) -> float:
    """The longest wait of a rollout, in seconds, ``elapsed_s`` after the start of a session that writes few files."""
    return max(SHARD_SECONDS, min(_SHARE * elapsed_s, _MOST_SECONDS))


class ShardFolder:
    """An append-only collection of parquet shards in one folder."""

    def __init__(self, path: Path, schema: pa.Schema, largest: int = LARGEST_INDEX, writer: str = "") -> None:
        """``largest``: the largest allowed rollout index. ``writer``: a name that new shards have in theirs, without dashes."""
        self.path = path
        self.schema = schema
        self._largest = largest
        self._writer = f"{writer}-" if writer else ""
        self._next: int | None = None

    def files(self) -> list[Path]:
        """Shards sorted by name: those of one writer are in the order written. Raises StorageError."""
        return [file for file in files_in(self.path, ".parquet") if not file.name.startswith(".")]

    def append(self, table: pa.Table) -> Path:
        """Write one shard. Raises StorageError; shards written before are not affected."""
        file, content = self.prepared(table)
        write_atomically(file, content)
        return file

    def prepared(self, table: pa.Table) -> tuple[Path, bytes]:
        """The path and the content of the next shard, for a caller that writes it. Raises StorageError."""
        if self._next is None:
            make_folder(self.path)
            files = self.files()
            self._next = int(files[-1].name.split("-")[0]) + 1 if files else 0
        sink = pa.BufferOutputStream()
        pq.write_table(with_summary(table.cast(self.schema)), sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        file = self.path / f"{self._next:06d}-{self._writer}{_digest(content)}.parquet"
        self._next += 1
        return file, content

    def set_aside_damaged(self) -> list[Path]:
        """Move shards that do not match their checksum into ``set-aside/``; returns their new paths."""
        return [self.set_aside(file, _DAMAGED) for file, content in self._contents() if not _fits(file, content)]

    def sound(self, columns: Sequence[str], files: Sequence[Path] | None = None) -> Iterator[tuple[Path, pa.Table]]:
        """Files and tables of all shards, or of ``files``. Damaged ones are moved aside: the caller makes their rows again."""
        for file, content in self._contents(files):
            if _fits(file, content):
                yield file, self._checked(file, content, columns)
            else:
                self.set_aside(file, _DAMAGED)

    def set_aside(self, file: Path, why: str) -> Path:
        """Move a shard into ``set-aside/``; returns its new path."""
        target = inside(self.path, "set-aside") / file.name
        make_folder(target.parent)
        move(file, target)
        logger.warning("%s %s: set aside, its rows will be made again", file, why)
        return target

    def read(self, columns: Sequence[str] | None = None, files: Sequence[Path] | None = None) -> Iterator[pa.Table]:
        """Tables of all shards, or of ``files``, one at a time.

        Raises RunError at a damaged shard, StorageError.
        """
        return (table for _, table in self.read_named(columns, files))

    def read_named(
        self, columns: Sequence[str] | None = None, files: Sequence[Path] | None = None
    ) -> Iterator[tuple[Path, pa.Table]]:
        """``read``, each table with its file."""
        for file, content in self._contents(files):
            if not _fits(file, content):
                raise RunError(
                    f"{file} is damaged (checksum). Run the same evaluate or sample again: it redraws what was lost."
                )
            yield file, self._checked(file, content, columns)

    def _checked(self, file: Path, content: bytes, columns: Sequence[str] | None) -> pa.Table:
        """A shard's table. Raises RunError where its content is not valid."""
        try:
            metadata = pq.read_metadata(pa.BufferReader(content))
            check_metadata(file, metadata, self.schema)
            table = _table(content, None if columns is None else readable(metadata, columns))
            table = completed(table, self.schema, columns)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise RunError(f"{file}: cannot be read as parquet ({str(error).splitlines()[0][:200]})") from error
        check_table(file, table, self.schema, columns, self._largest)
        return table

    def _contents(self, files: Sequence[Path] | None = None) -> Iterator[tuple[Path, bytes]]:
        """Files with their contents, in order. From a storage, ``_AHEAD`` are fetched ahead."""
        files = self.files() if files is None else files
        if not is_remote(self.path):
            yield from ((file, read_whole(file)) for file in files)
            return
        with ThreadPoolExecutor(_AHEAD) as pool:
            coming: deque[tuple[Path, Future[bytes]]] = deque()
            for file in files:
                coming.append((file, pool.submit(read_whole, file)))
                if len(coming) > _AHEAD:
                    first, content = coming.popleft()
                    yield first, content.result()
            for file, content in coming:
                yield file, content.result()


def writer_of(file: Path) -> str:
    """The name of the writer in the name of a shard; empty without one."""
    return "-".join(file.stem.split("-")[1:-1])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGEST]


def _fits(file: Path, content: bytes) -> bool:
    return _digest(content) == file.stem.rpartition("-")[2]


def _table(content: bytes, columns: Sequence[str] | None) -> pa.Table:
    # Not read_table: it imports pandas, which takes longer than reading most shards.
    # Without threads: a process that ends while arrow is starting them is aborted (SIGABRT), whatever its status.
    chosen = None if columns is None else list(columns)
    return pq.ParquetFile(pa.BufferReader(content)).read(columns=chosen, use_threads=False)
