"""Reading files of a run folder that may come from anybody."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, TypeVar

import msgspec

__all__ = ["decode", "open_regular", "read_regular"]

T = TypeVar("T")


def decode(content: bytes, kind: type[T]) -> T:
    """Decode JSON as this type. Raises msgspec.DecodeError, also where it is nested too deep or is not UTF-8."""
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError as error:
        raise msgspec.DecodeError("JSON nested too deep") from error
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not UTF-8 text ({error})") from error


def read_regular(file: Path) -> bytes:
    """The content of a file on this machine. Raises OSError, also for a pipe or a device, which may have no end."""
    with open_regular(file) as content:
        return content.read()


def open_regular(file: Path) -> IO[bytes]:
    """A file on this machine, open for reading. Raises OSError, also for a pipe or a device."""
    content = os.fdopen(_without_waiting(str(file), os.O_RDONLY | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
        content.close()
        raise OSError("not a regular file")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
