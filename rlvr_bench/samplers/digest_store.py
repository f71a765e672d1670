"""Digests of weights in the user's cache: the engines of a node read the files of a checkpoint once between them.

A digest is stored under everything that identifies the files at that moment: path, device, inode, size, and the times of
the last changes of content and of status, which no program can set. Where a file changed in the last seconds, nothing
is stored: on a file system with coarse times, another change could leave the same times.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path

from rlvr_bench.storage import user_cache

__all__ = ["Identity", "identity", "is_settled", "shared_digest"]

_SETTLED_S = 10.0  # times of a file system are exact to 2 s at worst; the rest is for clocks that differ
_PATIENCE_S, _RETRY_S = 600.0, 0.05  # the process with the lock may be suspended
_DIGEST = re.compile(b"sha256:[0-9a-f]{64}")

Identity = tuple[str, int, int, int, int, int]


def identity(path: Path) -> Identity:
    """What changes whenever the file changes: resolved path, device, inode, size, and two times in ns.

    The file is opened: a network file system then asks its server for the times.
    """
    with path.open("rb") as stream:
        status = os.fstat(stream.fileno())
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return str(path.resolve()), status.st_dev, status.st_ino, status.st_size, *times


def is_settled(file: Identity) -> bool:
    """Whether the last change was so long ago that any further change will have other times."""
    return max(file[-2:]) / 1e9 < time.time() - _SETTLED_S


def shared_digest(files: Sequence[Path], compute: Callable[[], str]) -> str:
    """``compute()`` (``sha256:`` and 64 hex digits), or what it was for the same files in another process of this node.

    Processes that ask at the same time wait for the first one. Where the cache cannot be used, all of them compute.
    """
    before = [identity(path) for path in files]
    with _entry([path.name for path in files], before) as entry:
        stored = entry.read(100) if entry is not None else b""
        if _DIGEST.fullmatch(stored):
            return stored.decode()
        digest = compute()
        if entry is not None and all(map(is_settled, before)) and [identity(path) for path in files] == before:
            with contextlib.suppress(OSError):
                entry.truncate(0)
                entry.write(digest.encode())
        return digest


@contextlib.contextmanager
def _entry(names: Sequence[str], files: Sequence[Identity]) -> Iterator[FileIO | None]:
    """The locked file for a digest; None where there can be none. Nodes may share the folder, but not the files."""
    key = hashlib.sha256(repr((socket.gethostname(), names, files)).encode("utf-8", "surrogatepass")).hexdigest()
    try:
        folder = user_cache() / "digests"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / key).open("a+b", buffering=0)
    except (OSError, RuntimeError):  # a home that cannot be written, or none
        yield None
        return
    with contextlib.closing(file):
        with contextlib.suppress(OSError):
            _lock(file)
        file.seek(0)
        yield file


def _lock(file: FileIO) -> None:
    """Wait for the lock, which ends with its process. Gives up after ``_PATIENCE_S`` seconds."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_RETRY_S)
        else:
            return
