"""JSON lines of other programs, read one at a time. An error names the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.importers.streams import open_stream

__all__ = ["MAX_LINE_BYTES", "decode", "json_lines", "raw_lines"]

T = TypeVar("T")

MAX_LINE_BYTES = 64 * 2**20
_BOM = b"\xef\xbb\xbf"


def raw_lines(file: Path) -> Iterator[tuple[str, bytes]]:
    """The lines that are not blank, each with its address, of a file that may be packed.

    Raises DataError for a line longer than 64 MB, and where the file cannot be read.
    """
    with open_stream(file) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            where = f"{file}, line {number}"
            if len(line) > MAX_LINE_BYTES:
                raise DataError(f"{where}: longer than {MAX_LINE_BYTES // 2**20} MB")
            if number == 1:
                line = line.removeprefix(_BOM)
            if not line.isspace():
                yield where, line


def json_lines(file: Path, kind: type[T]) -> Iterator[tuple[str, T]]:
    """Each line, with its address, as a ``kind``; fields that ``kind`` does not name are ignored. Raises DataError."""
    decoder = msgspec.json.Decoder(kind)
    for where, line in raw_lines(file):
        yield where, decode(where, line, decoder)


def decode(where: str, content: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """One JSON value. Raises DataError where it is broken, or its fields have other types.

    Python writes NaN and lone surrogates, which JSON does not allow: NaN becomes null, a lone surrogate a question mark.
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            return decoder.decode(_repaired(content))
        except UnicodeDecodeError as bad:
            raise DataError(f"{where}: not UTF-8 text (byte {bad.start})") from bad
        except RecursionError:
            raise DataError(f"{where}: nested too deeply") from None
        except msgspec.ValidationError as bad:
            raise DataError(f"{where}: {bad}") from bad
        except ValueError:
            raise DataError(f"{where}: broken JSON ({error})") from error


def _repaired(content: bytes) -> bytes:
    loose = json.loads(content.decode("utf-8"), parse_constant=lambda _: None)
    return json.dumps(loose, ensure_ascii=False).encode("utf-8", "replace")
