"""Rows of any table: JSON lines, one JSON array or object, CSV (commas, tabs, semicolons) and parquet; packed ones too.

Rows are read one at a time, so a large file needs little memory. The kind of a file is recognised by its content.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa

from rlvr_bench.errors import DataError, in_one_line, visible
from rlvr_bench.importers.json_scanner import JsonScanner
from rlvr_bench.importers.lines import MAX_LINE_BYTES, decode, json_lines, raw_lines
from rlvr_bench.importers.streams import open_parquet, open_stream, plain_name, refuse_archive, refuse_binary

__all__ = ["Row", "delimiter", "read_rows"]

_ANYTHING: msgspec.json.Decoder[object] = msgspec.json.Decoder()
_UNREAD: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)
_BATCH_ROWS = 16
_HEAD_BYTES = 4096
_DELIMITERS = (",", "\t", ";", "|")
_LINES = (".jsonl", ".ndjson", ".jsonlines")
_DEEPEST = 3  # objects in objects around the rows


@dataclass(frozen=True, slots=True)
class Row:
    """``value`` is an object as a rule; ``where`` its address, ``number`` counts from 0, ``key`` is its name in an object."""

    where: str
    number: int
    key: str
    value: object


def read_rows(file: Path, fields: frozenset[str], *, only: bool = False, whole: bool = False) -> Iterator[Row]:
    """The rows of a file. With ``only``, a parquet file is read in the columns ``fields`` alone.

    One JSON object is one row where it has all the ``fields``, or a list or object that is one of them; or with ``whole``.
    Otherwise its rows are the elements of the only list in it, or its members. Raises DataError, with file and line.
    """
    with open_stream(file) as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return _parquet_rows(file, fields if only else None)
    refuse_archive(file, head)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start in (b"{", b"[") and _has_a_value_a_line(file, start):
        return _line_rows(file)
    if start in (b"{", b"["):
        return _json_rows(file, fields, whole)
    refuse_binary(file, head)
    return _csv_rows(file)


def _has_a_value_a_line(file: Path, start: bytes) -> bool:
    """Whether these are JSON lines: by name, or because the first line is a whole value and another line follows.

    Lists need both: an array of several lines may have such a name.
    """
    if plain_name(file).endswith(_LINES) != (start == b"["):
        return start == b"{"
    try:
        lines = raw_lines(file)
        where, first = next(lines)
        decode(where, first, _UNREAD)
        return next(lines, None) is not None
    except DataError:
        return False


def _line_rows(file: Path) -> Iterator[Row]:
    for number, (where, value) in enumerate(json_lines(file, object)):
        yield Row(where, number, "", value)


def _json_rows(file: Path, fields: frozenset[str], whole: bool) -> Iterator[Row]:
    with open_stream(file) as stream:
        scanner = _begun(file, stream)
        layout = _Layout([_ELEMENTS])
        if scanner.peek() == b"{":
            layout = _layout(scanner, frozenset() if whole else fields, 0)
            layout = _Layout([_WHOLE]) if whole or scanner.peek() else layout
    with open_stream(file) as stream:
        scanner = _begun(file, stream)
        for number, (where, key, content) in enumerate(_all(scanner, layout.steps)):
            value = decode(where, content, _ANYTHING)
            yield Row(where, number, key, value if layout.columns is None else _named(where, layout.columns, value))


def _begun(file: Path, stream: BinaryIO) -> JsonScanner:
    scanner = JsonScanner(file, stream)
    scanner.skip_mark()
    return scanner


_WHOLE, _MEMBERS, _ELEMENTS = "whole", "members", "elements"


@dataclass(frozen=True)
class _Layout:
    """Where the rows of a JSON value are: ``steps`` are keys to descend by, then what is there.

    ``columns``: names of the elements of a row, where the rows are lists (pandas' "split", the tables of wandb).
    """

    steps: list[str]
    columns: list[str] | None = None


def _layout(scanner: JsonScanner, fields: frozenset[str], depth: int) -> _Layout:
    """Where the rows of the object that begins here are. Reads to its end."""
    kinds: dict[str, bytes] = {}
    inner, columns = _Layout([]), None
    for where, key in scanner.members():
        kinds[key] = scanner.peek()
        if kinds[key] == b"{" and depth < _DEEPEST and list(kinds.values()).count(b"{") == 1:
            inner = _layout(scanner, fields, depth + 1)
        elif key == "columns" and kinds[key] == b"[":
            columns = _names(decode(where, scanner.value(), _ANYTHING))
        else:
            scanner.skip()
    lists = [key for key, kind in kinds.items() if kind == b"["]
    objects = [key for key, kind in kinds.items() if kind == b"{"]
    if fields and (fields <= kinds.keys() or fields & {*lists, *objects}):
        return _Layout([_WHOLE])
    if columns and "data" in lists:
        return _Layout(["data", _ELEMENTS], columns)
    if len(lists) == 1:
        return _Layout([lists[0], _ELEMENTS])
    if len(lists) + len(objects) == len(kinds) and len(kinds) != 1:
        return _Layout([_MEMBERS])
    if len(objects) == 1 and not lists and inner.steps:
        return _Layout([objects[0], *inner.steps], inner.columns)
    return _Layout([_WHOLE])


def _named(where: str, columns: list[str], value: object) -> object:
    if not isinstance(value, list) or len(value) != len(columns):
        raise DataError(f"{where}: not a list of {len(columns)} values, one for each of the columns")
    return dict(zip(columns, value, strict=True))


def _names(value: object) -> list[str] | None:
    return [str(name) for name in value] if isinstance(value, list) else None


def _all(scanner: JsonScanner, steps: list[str]) -> Iterator[tuple[str, str, bytes]]:
    """The rows of the file: address, key, content. Whole values may follow one another, each a row."""
    if steps == [_WHOLE]:
        while scanner.peek():
            yield scanner.where, "", scanner.value()
        return
    yield from _inside(scanner, steps)
    scanner.end()


def _inside(scanner: JsonScanner, steps: list[str], name: str = "") -> Iterator[tuple[str, str, bytes]]:
    """The rows of the value that begins here; ``name`` is its key."""
    if steps == [_ELEMENTS]:
        for where, value in scanner.elements():
            yield where, "", value
    elif steps == [_WHOLE]:
        scanner.peek()
        yield scanner.where, name, scanner.value()
    else:
        for where, key in scanner.members():
            if steps == [_MEMBERS]:
                yield f"{where}, entry {visible(key)[:60]!r}", key, scanner.value()
            elif key == steps[0]:
                yield from _inside(scanner, steps[1:], key)
            else:
                scanner.skip()


def delimiter(header: str) -> str:
    """The character that separates the cells of this line: the one that makes the most of them."""
    return max(_DELIMITERS, key=lambda character: _cells(header, character))


def _cells(header: str, character: str) -> int:
    try:
        return len(next(csv.reader([header], delimiter=character), []))
    except csv.Error:  # no line of a CSV file
        return 0


def _csv_rows(file: Path) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    line = 0
    try:
        with open_stream(file) as stream:
            lines = _text_lines(file, stream)
            header = next(lines, "")
            reader = csv.reader(_chained(header, lines), delimiter=delimiter(header), strict=True)
            names = [name.strip() for name in next(reader, [])]
            line = reader.line_num
            number = 0
            for cells in reader:
                where, line = f"{file}, line {line + 1}", reader.line_num
                if not cells:
                    continue
                if len(cells) > len(names):
                    raise DataError(f"{where}: {len(cells)} cells, but the first line names {len(names)}")
                cells += [""] * (len(names) - len(cells))
                yield Row(where, number, "", dict(zip(names, cells, strict=True)))
                number += 1
    except csv.Error as error:
        raise DataError(f"{file}, line {line + 1}: not a CSV file ({error})") from error


def _chained(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _text_lines(file: Path, stream: BinaryIO) -> Iterator[str]:
    """The lines as text. Raises DataError for one of more than 64 MB, and for one that is not UTF-8."""
    number = 0
    while content := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(content) > MAX_LINE_BYTES:
            raise DataError(f"{file}, line {number}: longer than {MAX_LINE_BYTES // 2**20} MB")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{file}, line {number}: not UTF-8 text (byte {error.start})") from error
        yield text.removeprefix("\ufeff") if number == 1 else text


def _parquet_rows(file: Path, fields: frozenset[str] | None) -> Iterator[Row]:
    number = 0
    try:
        with open_parquet(file) as source:
            columns = None if fields is None else [name for name in source.schema_arrow.names if name in fields]
            for batch in source.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False):
                for value in batch.to_pylist():
                    yield Row(f"{file}, row {number + 1}", number, "", value)
                    number += 1
    except (pa.ArrowException, UnicodeDecodeError, OverflowError, ValueError) as error:
        raise DataError(f"{file}, after row {number}: {in_one_line(str(error))}") from error
