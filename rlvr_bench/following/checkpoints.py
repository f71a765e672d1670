"""The checkpoints that a training program writes: which are there, which are whole, and which have changed."""

from __future__ import annotations

import glob
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rlvr_bench.comparison.steps import step_of
from rlvr_bench.errors import BadArgument, ModelError, RlvrBenchError, StorageError
from rlvr_bench.pipeline.layouts import checkpoint_folder
from rlvr_bench.samplers.weight_files import loaded_files

__all__ = ["Checkpoint", "Signature", "Watch", "check_pattern", "fault_of"]

Signature = tuple[tuple[str, int, int, int | str], ...]
logger = logging.getLogger(__name__)
_LENGTH_BYTES = 8  # of the header, at the beginning of a safetensors file
_LARGEST_HEADER = 100_000_000


class Checkpoint(NamedTuple):
    """A checkpoint's folder and step, and its files: name, size, time of change in ns, and inode or entity tag of each."""

    folder: Path
    step: int
    signature: Signature


class Watch:
    """Looks for whole checkpoints of a glob. Those that do not change for ``settle_s`` seconds are whole.

    ``every``: only steps that are multiples of it.
    """

    def __init__(self, pattern: str, every: int = 1, settle_s: float = 10.0) -> None:
        self._pattern, self._every, self._settle_s = pattern, every, settle_s
        self._since: dict[Path, tuple[Signature, float]] = {}
        self.incomplete: dict[Path, str] = {}
        """Folders that were not whole at the last look, and why."""

    def look(self) -> list[Checkpoint]:
        """The whole checkpoints that are there now, in the order of their steps; of two with one step the first by name."""
        whole: dict[int, Checkpoint] = {}
        self.incomplete = {}
        for folder, step in self._folders():
            signature: Signature = ()
            try:
                signature = self.signature(folder)
                fault = self._unsettled(folder, signature) or self._fault(folder, signature)
            except (ModelError, StorageError) as error:
                fault = str(error)
            except OSError as error:
                fault = f"{folder} cannot be read: {error.strerror or error}"
            if fault is None and step in whole:
                fault = f"{folder}: {whole[step].folder} has this step too, and is the one that is followed"
            if fault is not None:
                self.incomplete[folder] = fault
            else:
                whole[step] = Checkpoint(folder, step, signature)
        return [whole[step] for step in sorted(whole)]

    @contextmanager
    def here(self, point: Checkpoint) -> Iterator[Path]:
        """The checkpoint's folder on this machine, while the context lasts."""
        yield point.folder

    def changed(self, point: Checkpoint) -> bool:
        """Whether the files are others than before. A checkpoint that is gone was loaded before it went."""
        try:
            return self.signature(point.folder) != point.signature
        except (RlvrBenchError, OSError):
            logger.warning("%s: deleted while it was evaluated; its results are of the weights it had", point.folder)
            return False

    def signature(self, folder: Path) -> Signature:
        """The files in the folder that an engine loads, without the folders in it. Raises ModelError, OSError."""
        files = []
        for entry in sorted(os.scandir(checkpoint_folder(folder)), key=lambda entry: entry.name):
            if entry.is_file():
                facts = entry.stat()
                files.append((entry.name, facts.st_size, facts.st_mtime_ns, facts.st_ino))
        return tuple(files)

    def _fault(self, folder: Path, signature: Signature) -> str | None:
        return fault_of(checkpoint_folder(folder))

    def _folders(self) -> Iterator[tuple[Path, int]]:
        for name in sorted(glob.glob(self._pattern)):
            named = step_of(name)
            if named is not None and named.step % self._every == 0 and Path(name).is_dir():
                yield Path(name), named.step

    def _unsettled(self, folder: Path, signature: Signature) -> str | None:
        """Why the files may still be written: they changed since the last look, or not long ago."""
        now = time.monotonic()
        seen, since = self._since.get(folder, (None, now))
        if seen != signature:
            self._since[folder] = (signature, now)
            since = now
        oldest_s = time.time() - max(changed for _, _, changed, _ in signature) / 1e9
        if max(now - since, oldest_s) >= self._settle_s:
            return None
        return f"{folder}: its files changed less than {self._settle_s:g} s ago"


def check_pattern(pattern: str) -> None:
    """Raises BadArgument for a pattern whose matches have no step in their names."""
    example = pattern.replace("*", "0")
    names = ([] if "://" in pattern else glob.glob(pattern)) or [example]
    if all(step_of(name) is None for name in names):
        raise BadArgument("CHECKPOINTS", pattern, "needs steps in the names, such as 'ckpts/global_step_*'")


def fault_of(folder: Path) -> str | None:
    """What a loadable folder lacks: weights, or the end of one of their files."""
    weights = loaded_files(folder)
    if not weights:
        return f"{folder}: no weights in it yet"
    cut = next((file for file in weights if file.suffix == ".safetensors" and _is_cut(file)), None)
    return None if cut is None else f"{cut}: shorter than its header says, so not written to its end"


def _is_cut(file: Path) -> bool:
    """Whether a safetensors file ends before the last of its tensors."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if not 0 < length <= _LARGEST_HEADER:
            return True
        try:
            header = json.loads(stream.read(length))
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            end = max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            return True
    return file.stat().st_size < _LENGTH_BYTES + length + end
