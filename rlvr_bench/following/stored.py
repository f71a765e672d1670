"""Checkpoints on object storage: a whole one is copied to this machine once, evaluated, and removed here.

A checkpoint is pinned to the entity tags of its objects. Its results are noted with these tags, so that a follower that was
started again, or another one, need not copy it again.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from rlvr_bench.comparison.folders import read_cards
from rlvr_bench.comparison.steps import step_of
from rlvr_bench.errors import ModelError, RlvrBenchError, StorageError
from rlvr_bench.following.checkpoints import Checkpoint, Signature, Watch, fault_of
from rlvr_bench.pipeline.batch import Result
from rlvr_bench.pipeline.layouts import checkpoint_folder
from rlvr_bench.received import decode
from rlvr_bench.samplers.weight_files import loaded_files
from rlvr_bench.storage import Storage, as_path
from rlvr_bench.store.paths import make_folder, read_if_there, write_atomically

__all__ = ["Pins", "StoredWatch"]

_SMALL_BYTES = 4 << 20  # a file up to this size is read to find out whether the checkpoint is whole
# Weights that the engine does not load, and the state of an optimizer.
_LARGE = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".distcp")
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "ino")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")


class StoredWatch(Watch):
    """A `Watch` of an address such as ``s3://bucket/run/global_step_*``; copies are made in the folder ``copies``.

    Raises StorageError where the storage cannot be reached or needs a package that is not installed.
    """

    def __init__(self, pattern: str, copies: Path, every: int = 1, settle_s: float = 10.0) -> None:
        super().__init__(pattern, every, settle_s)
        self._scheme = pattern.partition("://")[0]
        where: Any = as_path(pattern)
        self._fs: Storage = where.fs
        self._glob, self._copies = str(where.path), copies
        self._known: dict[str, Path] = {}
        self._looked_at: dict[Path, tuple[Signature, str | None]] = {}

    @contextmanager
    def here(self, point: Checkpoint) -> Iterator[Path]:
        """A copy of the checkpoint, while the context lasts.

        Raises StorageError where it changes meanwhile, cannot be copied, or has a file that is cut.
        """
        path = PurePosixPath(self._path(point.folder))
        copy = self._copies.joinpath(self._scheme, *(part for part in path.parts if part != "/"))
        try:
            with TemporaryDirectory() as sketch:
                wanted = _wanted(self._sketch(point.folder, Path(sketch)), Path(sketch))
            self._copy(point.folder, wanted, copy)
            if self.signature(point.folder) != point.signature:
                raise StorageError(f"{point.folder}: changed while it was copied")
            fault = fault_of(checkpoint_folder(copy))
            if fault is not None:
                raise StorageError(fault.replace(str(copy), str(point.folder)))
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def changed(self, point: Checkpoint) -> bool:
        """False: what was evaluated is the copy, and its tags were the same before and after copying."""
        return False

    def signature(self, folder: Path) -> Signature:
        """All objects below the address. Raises StorageError."""
        return tuple(
            (name, int(facts.get("size") or 0), int(_changed_s(facts) * 1e9), _tag(facts))
            for name, facts in sorted(self._objects(folder).items())
        )

    def _folders(self) -> Iterator[tuple[Path, int]]:
        try:
            paths = [path for path in self._fs.glob(self._glob) if self._fs.isdir(path)]
        except StorageError as error:
            self.incomplete[Path(self._pattern)] = str(error)
            return
        for path in sorted(paths):
            named = step_of(path)
            if named is not None and named.step % self._every == 0:
                if path not in self._known:
                    self._known[path] = as_path(self._fs.unstrip_protocol(path))
                yield self._known[path], named.step

    def _fault(self, folder: Path, signature: Signature) -> str | None:
        """What is missing by the names of the objects and the small files, such as the index; asked once for each state."""
        known = self._looked_at.get(folder)
        if known is None or known[0] != signature:
            with TemporaryDirectory() as sketch:
                known = self._looked_at[folder] = signature, self._missing(folder, Path(sketch))
        return known[1]

    def _missing(self, folder: Path, sketch: Path) -> str | None:
        try:
            self._sketch(folder, sketch)
            return None if loaded_files(checkpoint_folder(sketch)) else f"{folder}: no weights in it yet"
        except ModelError as error:
            return str(error).replace(str(sketch), str(folder))

    def _sketch(self, folder: Path, sketch: Path) -> Path:
        """The checkpoint with its small files, and with empty files in the place of large ones."""
        for name, facts in self._objects(folder).items():
            file = sketch / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            if file.suffix == ".json" and int(facts.get("size") or 0) <= _SMALL_BYTES:
                self._fs.get_file(f"{self._path(folder)}/{name}", str(file))
        return sketch

    def _copy(self, folder: Path, names: Sequence[str], copy: Path) -> None:
        shutil.rmtree(copy, ignore_errors=True)
        for name in names:
            make_folder((copy / name).parent)
            self._fs.get_file(f"{self._path(folder)}/{name}", str(copy / name))

    def _objects(self, folder: Path) -> dict[str, Mapping[str, Any]]:
        """What the storage says of each object below a checkpoint, by its name from there."""
        root = self._path(folder)
        listed: Mapping[str, Mapping[str, Any]] = self._fs.find(root, detail=True)
        names = {path.removeprefix(root).lstrip("/"): facts for path, facts in listed.items()}
        return {name: facts for name, facts in names.items() if name and ".." not in PurePosixPath(name).parts}

    @staticmethod
    def _path(folder: Path) -> str:
        where: Any = folder
        return str(where.path).rstrip("/")


class _Pin(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a checkpoint, the settings it was evaluated with, and the run of each task."""

    signature: Signature
    settings: str
    runs: dict[str, str]


class Pins:
    """Results of checkpoints on object storage, one file each in ``folder``; ``settings``: what their runs depend on."""

    def __init__(self, folder: Path, settings: object) -> None:
        self._folder, self._settings = folder, hashlib.sha256(repr(settings).encode()).hexdigest()

    def read(self, name: str, point: Checkpoint, tasks: Sequence[str]) -> list[Result] | None:
        """The results of this very state of a checkpoint, or None where it has to be evaluated."""
        try:
            pin = decode(read_if_there(self._folder / f"{name}.json") or b"", _Pin)
            if (pin.signature, pin.settings) != (point.signature, self._settings):
                return None
            cards = {task: read_cards([pin.runs[task]])[0][1] for task in tasks}
        except (RlvrBenchError, msgspec.DecodeError, LookupError):
            return None
        return [
            Result(model=str(point.folder), task=task, run=Path(pin.runs[task]), scorecard=card)
            for task, card in cards.items()
        ]

    def write(self, name: str, point: Checkpoint, results: Sequence[Result]) -> None:
        """Note the results, if none is an error."""
        runs = {result.task: str(result.run) for result in results if result.error is None}
        if len(runs) == len(results):
            make_folder(self._folder)
            pin = _Pin(signature=point.signature, settings=self._settings, runs=runs)
            write_atomically(self._folder / f"{name}.json", msgspec.json.encode(pin))


def _wanted(sketch: Path, root: Path) -> list[str]:
    """The files that an engine loads, by their names from the checkpoint's folder."""
    inside = checkpoint_folder(sketch)
    weights = set(loaded_files(inside))
    files = [path for path in inside.iterdir() if path.is_file() and (path in weights or path.suffix not in _LARGE)]
    return sorted(str(path.relative_to(root)) for path in files)


def _tag(facts: Mapping[str, Any]) -> str:
    return str(next((facts[name] for name in _TAGS if facts.get(name)), ""))


def _changed_s(facts: Mapping[str, Any]) -> float:
    """When an object was written, in seconds since 1970; now where the storage does not say."""
    for value in (facts.get(name) for name in _TIMES):
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value).timestamp()
            except ValueError:
                continue
    return time.time()
