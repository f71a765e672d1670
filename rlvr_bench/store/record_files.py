"""Reads and writes records as JSON files, and makes the error for one that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from rlvr_bench.errors import RunError
from rlvr_bench.json_format import format_json
from rlvr_bench.received import decode
from rlvr_bench.store.paths import read_if_there, read_whole, write_atomically

__all__ = ["damaged", "read_record", "record_if_there", "write_record"]

T = TypeVar("T")


def write_record(file: Path, record: object, *, indent: int = 2) -> None:
    """Write a record completely or not at all. Raises StorageError."""
    write_atomically(file, format_json(record, indent=indent))


def read_record(file: Path, kind: type[T], remedy: str) -> T:
    """The record in a file. Raises StorageError; RunError, which ends with the ``remedy``, where it is damaged."""
    return _decoded(file, read_whole(file), kind, remedy)


def record_if_there(file: Path, kind: type[T], remedy: str) -> T | None:
    """As ``read_record``; None where there is no such file."""
    content = read_if_there(file)
    return None if content is None else _decoded(file, content, kind, remedy)


def _decoded(file: Path, content: bytes, kind: type[T], remedy: str) -> T:
    try:
        return decode(content, kind)
    except msgspec.DecodeError as error:  # includes ValidationError
        raise damaged(file, error, remedy) from error


def damaged(file: Path, error: Exception, remedy: str = "") -> RunError:
    """The error for a file with wrong content: which file, why, and what to do."""
    return RunError(f"{file}: damaged ({error}). {remedy}" if remedy else f"{file}: damaged ({error})")
