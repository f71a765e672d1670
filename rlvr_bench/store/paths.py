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

from rlvr_bench.errors import RlvrBenchError, RunError, StorageError
from rlvr_bench.received import read_regular
from rlvr_bench.store.storage import Storage, reason

__all__ = [
    "absolute",
    "create",
    "files_in",
    "inside",
    "is_remote",
    "make_folder",
    "move",
    "place",
    "read_if_there",
    "read_whole",
    "remove",
    "staged",
    "write_atomically",
]

# Storages of objects in buckets: what looks like a folder there need not be made, and making one could make a bucket.
_BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")


def is_remote(path: str | Path) -> bool:
    """Whether a path leads to a storage that fsspec speaks to."""
    return hasattr(path, "fs")


def absolute(path: Path) -> Path:
    """The path as a process elsewhere must name it."""
    return path if is_remote(path) else path.absolute()


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
        path._fs_cached = Storage(path.fs, has_folders=scheme not in _BUCKETS)  # paths made from this one keep it
        bucket = path.path.partition("/")[0]
        if scheme in _BUCKETS and not bucket:
            raise StorageError(f"{name}: names no bucket. An address is {scheme}://BUCKET/FOLDER")
        with suppress(PermissionError):  # one may be allowed to read and write below it all the same
            if bucket:
                path.fs.fs.info(bucket)
    except ImportError as error:
        raise StorageError(f"{name}: {error}. pip install 'rlvr-bench[s3]' or 'rlvr-bench[gcs]'") from error
    except FileNotFoundError as error:
        raise StorageError(f"{name}: there is no bucket {bucket!r}") from error
    except RlvrBenchError:
        raise
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
    with _failing("read", file):
        try:
            return bytes(_fs(file).cat_file(_key(file))) if is_remote(file) else read_regular(file)
        except (FileNotFoundError, NotADirectoryError):
            return None


def inside(folder: Path, *names: str) -> Path:
    """A folder below another, none of the names a link: what is written there stays there. Raises RunError."""
    for name in names:
        folder = folder / name
        if not is_remote(folder) and folder.is_symlink():
            raise RunError(f"{folder}: a link, which can lead out of the run. Put the folder itself there.")
    return folder


def create(file: Path, content: bytes) -> bool:
    """Write a file of a storage unless there is one; of two that try at once one succeeds. Raises StorageError."""
    with _failing("write", file):
        try:
            _fs(file).pipe_file(_key(file), content, mode="create")
        except FileExistsError:
            return False
    return True


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files of this suffix directly in a folder, by name; none where there is no such folder. Raises StorageError."""
    with _failing("read", folder):
        try:
            paths = _fs(folder).ls(_key(folder), detail=False) if is_remote(folder) else map(str, folder.iterdir())
            names = sorted(path.rpartition("/")[2] for path in paths if path.endswith(suffix))
        except FileNotFoundError:
            return []
    return [folder / name for name in names]


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where there are folders. Raises StorageError."""
    if getattr(path, "protocol", "") in _BUCKETS:
        return
    with _failing("write to", path):
        path.mkdir(parents=True, exist_ok=True)


def move(file: Path, target: Path) -> None:
    """Move a file into a folder that is there. Raises StorageError."""
    with _failing("move", file):
        if is_remote(file):
            _fs(file).mv(_key(file), _key(target))
        else:
            file.rename(target)


def remove(file: Path) -> None:
    """Delete a file. Raises StorageError."""
    with _failing("remove", file):
        if is_remote(file):
            _fs(file).rm_file(_key(file))
        else:
            file.unlink()


def _write_through(file: Path, pieces: Iterable[bytes]) -> None:
    """Write to a device or a pipe, which a rename would replace: ``--html /dev/stdout``, ``/dev/null``."""
    try:
        with file.open("wb") as out:
            out.writelines(pieces)
    except OSError as error:
        raise _unwritten(file, error) from error


def write_atomically(file: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a whole file, at once or piece by piece, or leave the old one.

    On this machine: temporary sibling, fsync, rename. On object storage one object, which is there whole or not at all.
    Raises StorageError, and whatever making the pieces raises.
    """
    pieces = [content] if isinstance(content, bytes) else content
    if is_remote(file):
        _write_remote(file, b"".join(pieces))
        return
    if file.exists() and not file.is_file():
        _write_through(file, pieces)
        return
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=_unlinked) as out:
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


def _unlinked(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder that takes the place of ``target``, which is not there yet, at the end; gone if something fails before.

    Raises StorageError.
    """
    if is_remote(target):
        with tempfile.TemporaryDirectory(prefix="rlvr-bench-") as folder:
            yield Path(folder)
            _upload(Path(folder), target)
        return
    import shutil

    staging = target.with_name(f".{target.name}.import-{os.getpid()}")
    made = [parent for parent in target.parents if not parent.exists()]  # the nearest first
    try:
        staging.mkdir(parents=True)
        yield staging
        staging.rename(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):
            for parent in made:
                parent.rmdir()  # only where nothing is in it


def _upload(folder: Path, target: Path) -> None:
    """Copy a folder's files; the manifest, which makes a folder a run, comes last."""
    written = []
    try:
        for file in sorted(folder.rglob("*"), key=lambda file: file.name == "manifest.json"):
            if file.is_file():
                copy = target / file.relative_to(folder).as_posix()
                make_folder(copy.parent)
                written.append(copy)
                write_atomically(copy, file.read_bytes())
    except BaseException:
        for copy in written:
            with suppress(StorageError):
                remove(copy)
        raise


def _write_remote(file: Path, content: bytes) -> None:
    try:
        _fs(file).pipe_file(_key(file), content)
    except Exception as error:  # every storage has exceptions of its own
        raise _unwritten(file, error) from error


def _unwritten(file: Path, error: BaseException) -> StorageError:
    return StorageError(f"cannot write {file}: {reason(error)}. What was written before is kept.")


@contextmanager
def _failing(what: str, file: Path) -> Iterator[None]:
    """Makes whatever a disk or a storage fails with a StorageError."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, OSError) or is_remote(file)):
            raise
        raise StorageError(f"cannot {what} {file}: {reason(error)}") from error


def _fs(path: Path) -> Any:
    """The file system of fsspec itself that a path lies on."""
    remote: Any = path
    return remote.fs.fs if isinstance(remote.fs, Storage) else remote.fs


def _key(path: Path) -> str:
    """What the storage calls it."""
    remote: Any = path
    return str(remote.path)
