"""Opens a file for reading: plain, or packed with gzip or zstd, which its first bytes show. Nothing is written to disk."""

from __future__ import annotations

import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from rlvr_bench.errors import DataError, in_one_line

__all__ = ["MAX_RATIO", "is_packed", "open_parquet", "open_stream", "plain_name", "refuse_archive", "refuse_binary"]

MAX_RATIO = 500  # unpacked size by packed size; rollouts reach about 100 where a model repeats itself
_FREE_BYTES = 2**30  # what any packed file may unpack to
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ\x00": "packed with xz",
}
_BINARY = (b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"\x80\x04", b"\x80\x05")  # pictures, documents, Python's pickle
_TAR_MARK, _TAR_AT = b"ustar", 257
_CHUNK = 2**20


def is_packed(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is packed with gzip or zstd."""
    return head.startswith((_GZIP, _ZSTD))


def plain_name(file: Path) -> str:
    """The name of the file without ``.gz`` or ``.zst``."""
    return file.stem if file.suffix in (".gz", ".zst") else file.name


def refuse_archive(file: Path, head: bytes) -> None:
    """Raises DataError where a file that begins with ``head`` is an archive of files, or packed in a way not read here."""
    kind = next((kind for mark, kind in _ARCHIVES.items() if head.startswith(mark)), None)
    if head[_TAR_AT : _TAR_AT + len(_TAR_MARK)] == _TAR_MARK:
        kind = "a tar archive"
    if kind is not None:
        raise DataError(
            f"{file}: {kind}. Unpack it, and name the files in it (.gz and .zst files are read as they are)"
        )


def refuse_binary(file: Path, head: bytes) -> None:
    """Raises DataError where a file that begins with ``head`` is neither text nor of a kind that is recognised before."""
    if b"\0" in head or head.startswith(_BINARY):
        raise DataError(f"{file}: not a table in UTF-8 text, JSON or parquet")


@contextmanager
def open_stream(file: Path) -> Iterator[BinaryIO]:
    """The unpacked bytes of a file.

    Raises DataError where the file cannot be read, where it is damaged, and where it unpacks to more than 1 GB and more
    than 500 times its size. The errors of reading are raised inside the ``with`` block.
    """
    try:
        with file.open("rb") as packed:
            head = packed.read(len(_ZSTD))
            packed.seek(0)
            yield _unpacked(file, packed, head)
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException) as error:
        raise DataError(f"{file}: damaged: it cannot be unpacked to its end ({in_one_line(str(error))})") from error
    except OSError as error:
        damaged = "damaged: " if error.errno is None else ""
        raise DataError(f"{file}: {damaged}{error.strerror or in_one_line(str(error))}") from error


@contextmanager
def open_parquet(file: Path) -> Iterator[pq.ParquetFile]:
    """A parquet file for reading a batch of rows at a time; a packed one is unpacked to an unnamed file. Raises DataError.

    Buffered without look-ahead, and without threads in ``iter_batches``: else a whole row group is held in memory.
    """
    try:
        with file.open("rb") as stream:
            packed = is_packed(stream.read(len(_ZSTD)))
        if not packed:
            yield pq.ParquetFile(file, buffer_size=_CHUNK, pre_buffer=False)
            return
        with tempfile.TemporaryFile() as whole:
            with open_stream(file) as content:
                while chunk := content.read(_CHUNK):
                    whole.write(chunk)
            yield pq.ParquetFile(whole, buffer_size=_CHUNK, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a whole parquet file ({in_one_line(str(error))})") from error


def _unpacked(file: Path, packed: BinaryIO, head: bytes) -> BinaryIO:
    size = file.stat().st_size
    if head.startswith(_GZIP):
        return _bounded(file, cast(IO[bytes], gzip.GzipFile(fileobj=packed)), size)
    if head.startswith(_ZSTD):
        return _bounded(file, pa.CompressedInputStream(pa.PythonFile(packed), "zstd"), size)
    return packed


def _bounded(file: Path, stream: IO[bytes] | pa.CompressedInputStream, packed_bytes: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Bounded(file, stream, packed_bytes), _CHUNK))


class _Bounded(io.RawIOBase):
    """An unpacked stream that ends with DataError where it is out of all proportion to the packed file."""

    def __init__(self, file: Path, stream: IO[bytes] | pa.CompressedInputStream, packed_bytes: int) -> None:
        self._file, self._stream = file, stream
        self._left = max(_FREE_BYTES, MAX_RATIO * packed_bytes)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        content = self._stream.read(min(len(buffer), _CHUNK))
        buffer[: len(content)] = content
        self._left -= len(content)
        if self._left < 0:
            raise DataError(f"{self._file}: unpacks to more than {MAX_RATIO} times its size: these are no rollouts")
        return len(content)
