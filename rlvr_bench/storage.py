"""Paths from text or from an address of object storage, and fsspec file systems that raise StorageError.

An address such as ``s3://bucket/runs`` becomes a path of universal_pathlib, so all other code uses ``Path``.
"""

from __future__ import annotations

import fnmatch
import functools
import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from rlvr_bench.errors import RlvrBenchError, StorageError

T = TypeVar("T")

__all__ = ["BUCKETS", "Storage", "as_path", "is_remote", "reason", "user_cache"]

# Object storages. They need no folders, and creating a folder could create a bucket.
BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")

_ANSWERS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)  # results, not failures


def user_cache() -> Path:
    """The folder of this program in the user's cache. Raises RuntimeError where the user has no home."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "rlvr-bench"


def as_path(name: str | Path) -> Path:
    """A path from its text, or from an address (``s3://``, ``gs://`` or another one of fsspec).

    Raises StorageError where the storage cannot be reached, has no such bucket, or needs a package that is not
    installed.
    """
    scheme, separator, rest = str(name).partition("://")
    if is_remote(name) or not separator:
        return Path(name) if isinstance(name, str) else name
    if scheme == "file":
        return Path(rest)
    try:
        from upath import UPath

        path: Any = UPath(name, use_listings_cache=False)  # other processes write to it
        path._fs_cached = Storage(path.fs, has_folders=scheme not in BUCKETS)  # paths derived from this one keep it
        bucket = path.path.partition("/")[0]
        if scheme in BUCKETS and not bucket:
            raise StorageError(f"{name}: names no bucket. Write {scheme}://BUCKET/FOLDER")
        with suppress(PermissionError):  # reading and writing in the bucket may still be allowed
            if bucket:
                path.fs.fs.info(bucket)
    except ImportError as error:
        raise StorageError(f"{name}: {error}. pip install 'rlvr-bench[s3]' or 'rlvr-bench[gcs]'") from error
    except FileNotFoundError as error:
        raise StorageError(f"{name}: there is no bucket {bucket!r}") from error
    except RlvrBenchError:
        raise
    except Exception as error:  # every storage raises different exceptions
        raise StorageError(f"cannot reach {name}: {reason(error)}") from error
    opened: Path = path
    return opened


def is_remote(path: str | Path) -> bool:
    """Whether a path is on a storage that fsspec accesses."""
    return hasattr(path, "fs")


class Storage:
    """A file system of fsspec that raises StorageError for every failure.

    Without this, fsspec treats a folder that it cannot list as empty, and a file that it cannot reach as missing. Then
    a run could be drawn a second time next to the first.
    """

    def __init__(self, fs: Any, *, has_folders: bool) -> None:
        self.fs = fs
        self._has_folders = has_folders

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.fs, name)
        return functools.partial(self._call, attribute) if callable(attribute) else attribute

    def exists(self, path: str) -> bool:
        return self._kind(path) is not None

    def isfile(self, path: str) -> bool:
        return self._kind(path) == "file"

    def isdir(self, path: str) -> bool:
        return self._kind(path) == "directory"

    def open(self, path: str, mode: str = "rb", **how: Any) -> IO[Any]:
        """Opening for reading reads the whole file, so that a failure is raised here."""
        if "r" not in mode:
            return cast("IO[Any]", self._call(self.fs.open, path, mode, **how))
        content = io.BytesIO(self._call(self.fs.cat_file, path))
        return content if "b" in mode else io.TextIOWrapper(content, **how)

    def mkdir(self, path: str, **how: object) -> None:
        if self._has_folders:
            self._call(self.fs.mkdir, path, **how)

    def glob(self, pattern: str) -> list[str]:
        """Paths that match. A pattern without ``**`` is matched one folder at a time."""
        if "**" in pattern:
            return list(self._call(self.fs.glob, pattern))
        first, *segments = pattern.split("/")
        paths = [first]
        for segment in segments:
            if any(sign in segment for sign in "*?["):
                paths = [path for folder in paths for path in self._children(folder, segment)]
            else:
                paths = [f"{folder}/{segment}" for folder in paths]
        return [path for path in paths if self.exists(path)]

    def _children(self, folder: str, pattern: str) -> list[str]:
        try:
            names = self._call(self.fs.ls, folder, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        children = (name.rstrip("/") for name in names)
        return sorted(name for name in children if fnmatch.fnmatchcase(name.rpartition("/")[2], pattern))

    def _kind(self, path: str) -> str | None:
        try:
            return str(self._call(self.fs.info, path)["type"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _call(self, function: Callable[..., T], *arguments: object, **options: object) -> T:
        try:
            return function(*arguments, **options)
        except _ANSWERS:
            raise
        except Exception as error:  # every storage raises different exceptions
            what = self.fs.unstrip_protocol(arguments[0]) if arguments else self.fs
            raise StorageError(f"cannot reach {what}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """An exception of a disk or a storage as one line of at most 300 characters."""
    lines = [line.strip() for line in str(getattr(error, "strerror", None) or error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
