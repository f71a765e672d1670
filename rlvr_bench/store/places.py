"""Where runs lie: on this machine, on a file system that machines share, or on object storage through fsspec.

An address such as ``s3://bucket/runs`` becomes a path like any other (universal_pathlib), so that everything above reads
and writes through ``Path``. What object storage does differently (no rename, no lock, no folders) is done here and in
``locks``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rlvr_bench.errors import StorageError

__all__ = ["is_remote", "make_folder", "place", "read_if_there", "read_whole", "reason", "staged", "write_atomically"]


def is_remote(path: str | Path) -> bool:
    """Whether a path leads to a storage that fsspec speaks to."""
    return hasattr(path, "fs")


def place(name: str | Path) -> Path:
    """A path from a path's text, or from an address (``s3://``, ``gs://``, any other of fsspec).

    Raises StorageError where the storage cannot be reached, has no such bucket, or needs a package that is not installed.
    """
    scheme, separator, rest = str(name).partition("://")
    if is_remote(name) or not separator:
        return Path(name) if isinstance(name, str) else name
    if scheme == "file":
        return Path(rest)
    try:
        from upath import UPath

        path: Any = UPath(name, use_listings_cache=False)  # others write there too
        bucket = path.path.partition("/")[0]
        with suppress(PermissionError):  # one may be allowed to read and write below it all the same
            if bucket:
                path.fs.info(bucket)
    except ImportError as error:
        raise StorageError(f"{name}: {error}. pip install 'rlvr-bench[s3]' or 'rlvr-bench[gcs]'") from error
    except FileNotFoundError as error:
        raise StorageError(f"{name}: there is no bucket {bucket!r}") from error
    except Exception as error:  # every storage has exceptions of its own
        raise StorageError(f"cannot reach {name}: {reason(error)}") from error
    opened: Path = path
    return opened


def read_whole(file: Path) -> bytes:
    """A file's content. Raises StorageError."""
    content = read_if_there(file)
    if content is None:
        raise StorageError(f"cannot read {file}: no such file")
    return content


def read_if_there(file: Path) -> bytes | None:
    """A file's content, None where there is no such file. Raises StorageError."""
    remote: Any = file
    try:
        return bytes(remote.fs.cat_file(remote.path)) if is_remote(file) else file.read_bytes()
    except FileNotFoundError:
        return None
    except Exception as error:  # every storage has exceptions of its own
        if not is_remote(file) and not isinstance(error, OSError):
            raise
        raise StorageError(f"cannot read {file}: {reason(error)}") from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises StorageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write to {path}: {reason(error)}") from error


def write_atomically(file: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a whole file, at once or piece by piece, or leave the old one.

    On this machine: temporary sibling, fsync, rename. On object storage one object, which is there whole or not at all.
    Raises StorageError, and whatever making the pieces raises.
    """
    pieces = [content] if isinstance(content, bytes) else content
    if is_remote(file):
        _write_remote(file, b"".join(pieces))
        return
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as out:
            out.writelines(pieces)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _unwritten(file, error) from error
    finally:
        with suppress(OSError):  # gone after the rename; a read-only file system says so first
            temporary.unlink()


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder that takes the place of ``target``, which is not there yet, at the end; gone if something fails before.

    Raises StorageError.
    """
    if is_remote(target):
        with tempfile.TemporaryDirectory(prefix="rlvr-bench-") as folder:
            yield Path(folder)
            for file in sorted(Path(folder).rglob("*"), key=lambda file: file.name == "manifest.json"):
                if file.is_file():  # the manifest, which makes a folder a run, comes last
                    copy = target / file.relative_to(folder).as_posix()
                    make_folder(copy.parent)
                    write_atomically(copy, file.read_bytes())
        return
    import shutil

    staging = target.with_name(f".{target.name}.import-{os.getpid()}")
    try:
        staging.mkdir(parents=True)
        yield staging
        staging.rename(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):
            target.parent.rmdir()  # goes only where nothing is in it


def reason(error: BaseException) -> str:
    """An exception of a disk or a storage as one line."""
    lines = [line.strip() for line in str(getattr(error, "strerror", None) or error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _write_remote(file: Path, content: bytes) -> None:
    remote: Any = file
    try:
        remote.fs.pipe_file(remote.path, content)
    except Exception as error:  # every storage has exceptions of its own
        raise _unwritten(file, error) from error


def _unwritten(file: Path, error: BaseException) -> StorageError:
    return StorageError(f"cannot write {file}: {reason(error)}. What was written before is kept.")
