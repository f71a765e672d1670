"""The sources of problems: a hub data set, a local mirror of it, a user's file, or a seeded generator.

A hub revision can be moved or lost, and a mirror can be edited. So a source pins the content itself: the number of
problems, and a SHA-256 over ids, questions, answers and verifier data, both checked on every load.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rlvr_bench.errors import DataError
from rlvr_bench.records import Problem

__all__ = [
    "DATA_DIR_VARIABLE",
    "Generated",
    "HubDataset",
    "LocalFile",
    "Row",
    "Source",
    "check_problems",
    "content_digest",
    "has_local_data",
    "mirror_stem",
    "read_rows",
]

DATA_DIR_VARIABLE = "RLVR_BENCH_DATA_DIR"


@dataclass(frozen=True)
class Row:
    """One row of a data file; ``where`` names the file and line for error messages."""

    where: str
    number: int
    values: Mapping[str, Any]

    def get(self, *names: str) -> Any:
        """The first of these fields that has a value (hub and mirror may name a column differently). Raises DataError."""
        for name in names:
            value = self.values.get(name)
            if value is not None and value != "":
                return value
        have = ", ".join(map(str, self.values)) or "none"
        raise DataError(f"{self.where}: field {' or '.join(map(repr, names))} is missing or empty; fields here: {have}")

    def text(self, *names: str) -> str:
        """Like ``get``, but the value must be text or a number; 27.0 is returned as '27'. Raises DataError."""
        value = self.get(*names)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise DataError(f"{self.where}: field {names[0]!r} is {type(value).__name__}, expected text")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value).strip()


class Source(Protocol):
    """A source of problems. ``rows`` and ``sha256`` pin the content; None leaves it unpinned (user files)."""

    @property
    def rows(self) -> int | None: ...

    @property
    def sha256(self) -> str | None: ...

    def describe(self) -> str: ...

    def load(self, name: str, data_dir: Path | None) -> list[Problem]: ...


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """A data set of the Hugging Face hub, or its local mirror ``<task name>.jsonl`` in a data folder.

    ``to_problem`` turns a row into a problem, or returns None to leave the row out.
    """

    path: str
    split: str
    to_problem: Callable[[Row], Problem | None]
    rows: int | None
    sha256: str | None
    config: str | None = None
    revision: str | None = None

    def describe(self) -> str:
        config = f", {self.config}" if self.config else ""
        revision = f" at {self.revision}" if self.revision else ""
        return f"{self.path}{config}, {self.split}{revision}"

    def load(self, name: str, data_dir: Path | None) -> list[Problem]:
        mirror = _mirror(name, data_dir)
        rows = read_rows(mirror) if mirror else self._hub_rows(name)
        return [problem for row in rows if (problem := self.to_problem(row)) is not None]

    def _hub_rows(self, name: str) -> Iterator[Row]:
        remedy = f"Put a copy at DIR/{mirror_stem(name)}.jsonl and pass --data-dir DIR (or set {DATA_DIR_VARIABLE})."
        try:
            import datasets
        except ImportError as error:
            raise DataError(
                f"task {name!r} needs the package 'datasets' (pip install 'rlvr-bench[hub]'). Or: {remedy}"
            ) from error
        try:
            table = datasets.load_dataset(self.path, self.config, split=self.split, revision=self.revision)
        except Exception as error:
            raise DataError(f"cannot load {self.describe()} from the hub ({_first_line(error)}). {remedy}") from error
        for number, values in enumerate(table, 1):
            yield Row(f"{self.path} {self.split}, row {number}", number, values)


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """A user's jsonl, csv or parquet file. A relative path starts at the data folder, or else at the current folder."""

    file: Path
    to_problem: Callable[[Row], Problem | None]
    rows: int | None = None
    sha256: str | None = None

    def describe(self) -> str:
        return str(self.file)

    def load(self, name: str, data_dir: Path | None) -> list[Problem]:
        file = self.file if self.file.is_absolute() or data_dir is None else data_dir / self.file
        return [problem for row in read_rows(file) if (problem := self.to_problem(row)) is not None]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Problems made by a seeded, deterministic function."""

    generate: Callable[[], list[Problem]]
    rows: int | None
    sha256: str | None
    seed: int = 0

    def describe(self) -> str:
        return f"generated, seed {self.seed}"

    def load(self, name: str, data_dir: Path | None) -> list[Problem]:
        return self.generate()


def read_rows(file: Path) -> Iterator[Row]:
    """Rows of a .jsonl, .csv or .parquet file. Raises DataError, with file and line, where it is malformed or empty."""
    readers = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    if file.suffix not in readers:
        raise DataError(f"{file}: cannot read {file.suffix or 'a file without ending'}; use .jsonl, .csv or .parquet")
    empty = True
    try:
        for row in readers[file.suffix](file):
            empty = False
            yield row
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text (byte {error.start})") from error
    if empty:
        raise DataError(f"{file}: no rows in it")


def _jsonl_rows(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                values = json.loads(line)
            except ValueError as error:
                raise DataError(f"{where}: not JSON ({error})") from error
            if not isinstance(values, dict):
                raise DataError(f"{where}: expected a JSON object, got {type(values).__name__}")
            yield Row(where, number, values)


def _csv_rows(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        for values in reader:
            yield Row(f"{file}, line {reader.line_num}", reader.line_num, values)


def _parquet_rows(file: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: not a parquet file ({_first_line(error)})") from error
    for number, values in enumerate(table.to_pylist(), 1):
        yield Row(f"{file}, row {number}", number, values)


def content_digest(problems: Iterable[Problem]) -> str:
    """SHA-256 (hex) over ids, questions, answers and verifier data, in order."""
    digest = hashlib.sha256()
    for problem in problems:
        content = [problem.id, problem.question, problem.answer, problem.data]
        digest.update(json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


def check_problems(name: str, source: Source, problems: list[Problem]) -> str:
    """Check that the problems are those that the task pins; returns their content digest (SHA-256, hex).

    Raises DataError where there are no problems, an id is repeated, a question or gold answer is empty, or the number of
    problems or the digest differs from the pinned one.
    """
    if not problems:
        raise DataError(f"task {name!r}: no problems in {source.describe()}")
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise DataError(f"task {name!r}: duplicate problem id {problem.id!r} in {source.describe()}")
        seen.add(problem.id)
        for field in ("question", "answer"):
            if not getattr(problem, field).strip():
                raise DataError(f"task {name!r}: problem {problem.id!r} has no {field} in {source.describe()}")
    if source.rows is not None and len(problems) != source.rows:
        raise DataError(f"task {name!r}: {len(problems)} problems in {source.describe()}, expected {source.rows}")
    digest = content_digest(problems)
    if source.sha256 is not None and digest != source.sha256:
        raise DataError(
            f"task {name!r}: the content of {source.describe()} has changed (SHA-256 {digest[:12]}, "
            f"pinned {source.sha256[:12]}); scores would not compare. Restore the data, or copy the task and re-pin it."
        )
    return digest


def has_local_data(source: Source, name: str, data_dir: Path | None) -> bool:
    """Whether a source can be loaded without downloading from the hub."""
    if not isinstance(source, HubDataset):
        return True
    try:
        return _mirror(name, data_dir) is not None
    except DataError:
        return False


def _mirror(name: str, data_dir: Path | None) -> Path | None:
    folder = data_dir or (Path(os.environ[DATA_DIR_VARIABLE]) if os.environ.get(DATA_DIR_VARIABLE) else None)
    if folder is None:
        return None
    stem = mirror_stem(name)
    for ending in (".jsonl", ".parquet", ".csv"):
        if (folder / f"{stem}{ending}").is_file():
            return folder / f"{stem}{ending}"
    raise DataError(f"{folder}: no {stem}.jsonl, .parquet or .csv in this data folder")


def mirror_stem(name: str) -> str:
    """The name of a task's file in a data folder, without ending: ``matharena:aime_2025`` is in ``matharena_aime_2025``."""
    return name.replace(":", "_")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
