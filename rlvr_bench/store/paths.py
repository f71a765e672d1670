"""Reading and writing files of runs on this machine, on a shared file system, or on object storage.

Object storage has no rename, no lock and no folders. This module and ``locks`` handle these differences.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from rlvr_bench.errors import RunError, StorageError
from rlvr_bench.received import open_regular, read_regular
from rlvr_bench.storage import BUCKETS, Storage, is_remote, reason

__all__ = [
    "Listed",
    "absolute",
    "create",
    "files_in",
    "inside",
    "listed_in",
    "make_folder",
    "move",
    "read_end",
    "read_if_there",
    "read_part",
    "read_whole",
    "remove",
    "staged",
    "write_atomically",
]


_TIMES = ("LastModified", "mtime", "updated", "last_modified", "created")  # of storages, in their listings


class Listed(NamedTuple):
    """A file: its size in bytes, and when it was written, in seconds since 1970 by the clock of its storage."""

    path: Path
    size: int
    written: float


def absolute(path: Path) -> Path:
    """The path, absolute where it is on a file system: the form that another process can use."""
    return path if is_remote(path) else path.absolute()


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
    """The folder below ``folder`` with these names. Raises RunError where one of them is a symbolic link."""
    for name in names:
        folder = folder / name
        if not is_remote(folder) and folder.is_symlink():
            raise RunError(f"{folder}: a link, which can lead out of the run. Replace it by the folder itself.")
    return folder


def create(file: Path, content: bytes) -> bool:
    """Write a file of a storage if it does not exist; returns whether it was written. Raises StorageError.

    Where two processes try at once, one succeeds.
    """
    with _failing("write", file):
        try:
            _fs(file).pipe_file(_key(file), content, mode="create")
        except FileExistsError:
            return False
    return True


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files with this suffix directly in a folder, sorted by name; empty without the folder.

    Raises StorageError.
    """
    with _failing("read", folder):
        try:
            paths = _fs(folder).ls(_key(folder), detail=False) if is_remote(folder) else map(str, folder.iterdir())
            names = sorted(path.rpartition("/")[2] for path in paths if path.endswith(suffix))
        except FileNotFoundError:
            return []
    return [folder / name for name in names]


def listed_in(folder: Path, suffix: str) -> list[Listed]:
    """As ``files_in``, with size and time. A file that vanishes meanwhile is left out. Raises StorageError."""
    with _failing("read", folder):
        try:
            entries = list(_remote_entries(folder) if is_remote(folder) else _local_entries(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
    return [
        Listed(folder / name, size, written)
        for name, size, written in sorted(entries)
        if name.endswith(suffix) and not name.startswith(".")
    ]


def _local_entries(folder: Path) -> Iterator[tuple[str, int, float]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                yield entry.name, status.st_size, status.st_mtime


def _remote_entries(folder: Path) -> Iterator[tuple[str, int, float]]:
    for entry in _fs(folder).ls(_key(folder), detail=True):
        if entry.get("type") == "file":
            written = next((entry[name] for name in _TIMES if entry.get(name) is not None), 0.0)
            yield entry["name"].rpartition("/")[2], int(entry.get("size") or 0), _seconds(written)


def _seconds(written: datetime | float | str) -> float:
    if isinstance(written, str):
        written = datetime.fromisoformat(written)
    if isinstance(written, datetime):
        return (written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp()
    return float(written)


def read_end(file: Listed, size: int) -> bytes | None:
    """The last ``size`` bytes of a file, or all of a shorter one; None where it is gone. Raises StorageError."""
    start = max(0, file.size - size)
    with _failing("read", file.path):
        try:
            if is_remote(file.path):
                return bytes(_fs(file.path).cat_file(_key(file.path), start=start))
            with open_regular(file.path) as content:
                content.seek(start)
                return content.read()
        except (FileNotFoundError, NotADirectoryError):
            return None


@contextmanager
def read_part(file: Listed) -> Iterator[IO[bytes] | None]:
    """A file to read parts of; from a storage, the whole file is fetched. None where it is gone. Raises StorageError."""
    if is_remote(file.path):
        content = read_if_there(file.path)
        yield None if content is None else io.BytesIO(content)
        return
    with _failing("read", file.path):
        try:
            opened = open_regular(file.path)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
    with opened:
        yield opened


def make_folder(path: Path) -> None:
    """Make a folder and its parents; does nothing on storages without folders. Raises StorageError."""
    if getattr(path, "protocol", "") in BUCKETS:
        return
    with _failing("write to", path):
        path.mkdir(parents=True, exist_ok=True)


def move(file: Path, target: Path) -> None:
    """Move a file into an existing folder. Raises StorageError."""
    with _failing("move", file):
        if is_remote(file):
            _fs(file).mv(_key(file), _key(target))
        else:
            file.rename(target)


def remove(file: Path, *, missing_ok: bool = False) -> None:
    """Delete a file; with ``missing_ok`` it may be gone already. Raises StorageError."""
    with _failing("remove", file), suppress(*([FileNotFoundError] if missing_ok else [])):
        if is_remote(file):
            _fs(file).rm_file(_key(file))
        else:
            file.unlink()


def _write_through(file: Path, pieces: Iterable[bytes]) -> None:
    """Write to a device or a pipe (``--html /dev/stdout``), which a rename would replace."""
    try:
        with file.open("wb") as out:
            out.writelines(pieces)
    except OSError as error:
        raise _unwritten(file, error) from error


def write_atomically(file: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file completely or not at all; on failure the old file stays.

    On a file system: a temporary file in the same folder, fsync, rename. On object storage: one object.
    Raises StorageError, and what iterating over the pieces raises.
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
        with suppress(OSError):  # the rename has removed it, or it was never made
            temporary.unlink()


def _unlinked(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target``, which does not exist yet, at the end; removed on failure.

    Raises StorageError.
    """
    if is_remote(target):
        with tempfile.TemporaryDirectory(prefix="rlvr-bench-") as folder:
            yield Path(folder)
            _upload(Path(folder), target)
        return
    import shutil

    staging = target.with_name(f".{target.name}.import-{os.getpid()}")
    made = [parent for parent in target.parents if not parent.exists()]  # the nearest parent first
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
                parent.rmdir()  # succeeds only if the folder is empty


def _upload(folder: Path, target: Path) -> None:
    """Copy a folder's files, the manifest last: a folder with a manifest is a run."""
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
    except Exception as error:  # every storage has different exceptions
        raise _unwritten(file, error) from error


def _unwritten(file: Path, error: BaseException) -> StorageError:
    return StorageError(f"cannot write {file}: {reason(error)}. What was written before is kept.")


@contextmanager
def _failing(what: str, file: Path) -> Iterator[None]:
    """Turns every error of a disk or a storage into a StorageError."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, OSError) or is_remote(file)):
            raise
        raise StorageError(f"cannot {what} {file}: {reason(error)}") from error


def _fs(path: Path) -> Any:
    """The fsspec file system of a path."""
    remote: Any = path
    return remote.fs.fs if isinstance(remote.fs, Storage) else remote.fs


def _key(path: Path) -> str:
    """The path's name within its storage."""
    remote: Any = path
    return str(remote.path)
