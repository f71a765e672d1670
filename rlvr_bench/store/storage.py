"""A storage that fsspec speaks to, made to fail loudly."""

from __future__ import annotations

import fnmatch
import functools
import io
from collections.abc import Callable
from typing import IO, Any, cast

from rlvr_bench.errors import StorageError

__all__ = ["Storage", "reason"]

_ANSWERS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)  # not failures


class Storage:
    """A file system of fsspec that fails with StorageError.

    fsspec takes a folder that it cannot list for an empty one, and a file that it cannot reach for one that is not
    there: a run would be drawn a second time beside itself.
    """

    def __init__(self, fs: Any, *, has_folders: bool) -> None:
        self.fs = fs
        self._has_folders = has_folders

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.fs, name)
        return functools.partial(self._call, found) if callable(found) else found

    def exists(self, path: str) -> bool:
        return self._kind(path) is not None

    def isfile(self, path: str) -> bool:
        return self._kind(path) == "file"

    def isdir(self, path: str) -> bool:
        return self._kind(path) == "directory"

    def open(self, path: str, mode: str = "rb", **how: Any) -> IO[Any]:
        """Read whole: what fails then fails here."""
        if "r" not in mode:
            return cast("IO[Any]", self._call(self.fs.open, path, mode, **how))
        content = io.BytesIO(self._call(self.fs.cat_file, path))
        return content if "b" in mode else io.TextIOWrapper(content, **how)

    def mkdir(self, path: str, **how: Any) -> None:
        if self._has_folders:
            self._call(self.fs.mkdir, path, **how)

    def glob(self, pattern: str) -> list[str]:
        """Paths that match; one without ``**`` a folder at a time."""
        if "**" in pattern:
            return list(self._call(self.fs.glob, pattern))
        first, *segments = pattern.split("/")
        found = [first]
        for segment in segments:
            if any(sign in segment for sign in "*?["):
                found = [path for folder in found for path in self._children(folder, segment)]
            else:
                found = [f"{folder}/{segment}" for folder in found]
        return [path for path in found if self.exists(path)]

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

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except _ANSWERS:
            raise
        except Exception as error:  # every storage has exceptions of its own
            what = self.fs.unstrip_protocol(arguments[0]) if arguments else self.fs
            raise StorageError(f"cannot reach {what}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """An exception of a disk or a storage as one line."""
    lines = [line.strip() for line in str(getattr(error, "strerror", None) or error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
