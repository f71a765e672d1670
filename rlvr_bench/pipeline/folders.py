"""Finds the folder of a model's run of a task: the existing one, else one that no other model uses."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from rlvr_bench.errors import ModelError, RlvrBenchError, RunError
from rlvr_bench.pipeline.adapters import checkpoint_digest
from rlvr_bench.pipeline.layouts import checkpoint_folder
from rlvr_bench.pipeline.models import is_endpoint, resolve_model
from rlvr_bench.samplers.adapters import adapter_folder
from rlvr_bench.storage import as_path
from rlvr_bench.store.manifest import Manifest, read_manifest
from rlvr_bench.store.names import hashed, model_name, old_model_name, old_task_name, task_name

__all__ = ["find_run", "path_digest"]

_LONGEST = 250  # bytes of a name that file systems accept


def find_run(out: str | Path, model: str, task: str, run_name: str | None = None, adapter: str | None = None) -> Path:
    """The folder of this model's run of this task; ``run_name``: its name where that is not the task's (tools).

    With an ``adapter``, the checkpoint is the model with it, and the folder has the adapter's name.

    Different paths to the same folder are the same checkpoint. A checkpoint that was moved is found by its weights.
    Raises StorageError.
    """
    base, run_name = as_path(out), run_name or task
    wanted = _Wanted(model, task, adapter)
    model, identity = wanted.model, wanted.identity
    tasks = _usable(task_name(run_name), old_task_name(run_name), hashed(task_name(run_name), task))
    for name in wanted.names():
        for model_folder in (name, hashed(name, identity)):
            for of_task in tasks:
                run = base / model_folder / of_task
                if wanted.is_in(_manifest(run)):
                    return run
    name = model_name(model)
    if not _is_free(base / name, wanted):
        name = hashed(name, identity)
    folder = base / name / task_name(run_name)
    taken = _manifest(folder)
    return folder if taken is None or taken.task == task else base / name / hashed(task_name(run_name), task)


def path_digest(model: str, adapter: str | None = None) -> str | None:
    """A hash (16 hex digits) of the path of a checkpoint folder; None for a model that is no folder.

    With an adapter, it is a hash of both paths, or of the names of what is no folder.
    """
    path = _resolved(model) if adapter is None else _pair(model, adapter)
    return None if path is None else hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _pair(model: str, adapter: str) -> str:
    """The paths of an adapter and of its model, or the names of what is no folder."""
    return f"{_resolved(adapter, adapter_folder) or adapter}\0{_resolved(model) or model}"


class _Wanted:
    """The model, its adapter if it has one, and the task that the user named. ``model`` and ``path`` are the adapter's."""

    def __init__(self, model: str, task: str, adapter: str | None) -> None:
        self.model, self.task = adapter or model, task
        self.path = _resolved(model) if adapter is None else _resolved(adapter, adapter_folder)
        self.identity = (self.path or model) if adapter is None else _pair(model, adapter)
        self._base, self._adapter = model, adapter
        self._digest = path_digest(model, adapter)
        self._weights: str | None = None

    def names(self) -> list[str]:
        """Possible folder names of the model; the first is the one for a new run."""
        names = [model_name(self.model), old_model_name(self.model)]
        if self.path is not None:
            names += [model_name(self.path), old_model_name(self.path), old_model_name(Path(self.path).name)]
        return _usable(*names)

    def is_in(self, manifest: Manifest | None) -> bool:
        """Whether the manifest is of a run of the model on the task."""
        return manifest is not None and manifest.task == self.task and self.drew(manifest)

    def drew(self, manifest: Manifest) -> bool:
        """Whether the manifest is of a run of the model."""
        if (manifest.base_model is None) != (self._adapter is None):
            return False
        if self._adapter is not None:
            return manifest.model_path == self._digest or self._has_weights(manifest)
        if self.path is None:
            return manifest.model == self.model and manifest.model_path is None
        if manifest.model_path is not None:
            return manifest.model_path == self._digest or self._has_weights(manifest)
        return manifest.model == self.model or _resolved(manifest.model) == self.path or self._has_weights(manifest)

    def _has_weights(self, manifest: Manifest) -> bool:
        if not manifest.weights.startswith("sha256:") and self._adapter is None:
            return False
        if self._weights is None:
            try:
                self._weights = checkpoint_digest(resolve_model(self._base), self._adapter)
            except (RlvrBenchError, OSError):
                self._weights = "none"
        return manifest.weights == self._weights


def _usable(*names: str) -> list[str]:
    """The names without duplicates, and without those too long for a file system."""
    return [name for name in dict.fromkeys(names) if len(name) <= _LONGEST]


def _resolved(model: str, inner: Callable[[Path], Path] = checkpoint_folder) -> str | None:
    """The absolute path of a checkpoint's folder, with links resolved; None where the name is no folder.

    ``inner``: what returns the folder that really holds it.
    """
    if is_endpoint(model):
        return None
    try:
        path = Path(model).expanduser()
        if not path.is_dir():
            return None
        with contextlib.suppress(ModelError):  # a folder without a checkpoint is itself
            path = inner(path)
        return str(path.resolve())
    except (OSError, RuntimeError, ValueError):  # a name too long for a path, or no home directory
        return None


def _is_free(folder: Path, wanted: _Wanted) -> bool:
    """Whether no other model has runs in this folder."""
    return all(wanted.drew(manifest) for manifest in _manifests(folder))


def _manifests(folder: Path) -> Iterator[Manifest]:
    if folder.is_dir():
        manifests = (_manifest(run) for run in folder.iterdir())
        yield from (manifest for manifest in manifests if manifest is not None)


def _manifest(folder: Path) -> Manifest | None:
    """The manifest; None where it is missing or cannot be read: an error is raised later, when the folder is opened."""
    try:
        return read_manifest(folder / "manifest.json")
    except RunError:
        return None
