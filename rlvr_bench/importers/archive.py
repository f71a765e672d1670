"""Members of a zip archive, read into memory one at a time and never written to disk."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from rlvr_bench.errors import DataError

__all__ = ["MAX_MEMBER_BYTES", "Archive"]

MAX_MEMBER_BYTES = 256 * 2**20
_CHUNK = 2**20
_ZSTD = 93  # the zip specification's number; Python's zipfile supports it from 3.14 on
_LOCAL_HEADER = 30


class Archive:
    """A zip archive for reading, zstd members included. Raises DataError for a file that is no archive or is damaged."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._zip = zipfile.ZipFile(file)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise DataError(f"{file}: not a whole archive ({error})") from error

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self) -> Iterator[str]:
        """Names of the members, as the archive gives them. They are labels: never use them as paths."""
        return iter(self._zip.namelist())

    def read(self, name: str) -> bytes:
        """A member's content; at most 256 MB of it are unpacked, whatever its header says. Raises DataError."""
        where = f"{self.file}, member {name!r}"
        info = self._zip.getinfo(name)
        try:
            if info.flag_bits & 1:
                raise DataError(f"{where}: encrypted")
            with self._zstd(info) if info.compress_type == _ZSTD else self._zip.open(info) as stream:
                content = _limited(where, stream)
        except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, pa.ArrowException) as error:
            raise DataError(f"{where}: damaged ({error})") from error
        if zlib.crc32(content) != info.CRC:
            raise DataError(f"{where}: damaged (checksum)")
        return content

    def _zstd(self, info: zipfile.ZipInfo) -> pa.CompressedInputStream:
        with self.file.open("rb") as stream:
            stream.seek(info.header_offset)
            header = stream.read(_LOCAL_HEADER)
            name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
            stream.seek(name + extra, 1)
            packed = stream.read(min(info.compress_size, MAX_MEMBER_BYTES))
        return pa.CompressedInputStream(pa.BufferReader(packed), "zstd")


def _limited(where: str, stream: IO[bytes] | pa.CompressedInputStream) -> bytes:
    content = bytearray()
    while chunk := stream.read(_CHUNK):
        content += chunk
        if len(content) > MAX_MEMBER_BYTES:
            raise DataError(f"{where}: more than {MAX_MEMBER_BYTES // 2**20} MB when unpacked")
    return bytes(content)
