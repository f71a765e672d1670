"""Decides whether the model that a run's manifest names may be opened: anybody may have written a run folder.

No server is contacted, nothing is downloaded, and only folders with plain safetensors are accepted: a pickle or code in
a checkpoint could do anything. A model that the user names is not checked here.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import NamedTuple

from rlvr_bench.errors import ModelError
from rlvr_bench.pipeline.models import is_endpoint, resolve_model
from rlvr_bench.samplers.adapters import read_adapter
from rlvr_bench.samplers.model_files import cached_folder
from rlvr_bench.store.run import Run

__all__ = ["NamedCheckpoint", "named_checkpoint", "named_model"]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NOT_MODELS = frozenset(("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt"))
_CODE = re.compile(r'"auto_map"|attn_implementation\w*": "[^"]*/')

logger = logging.getLogger(__name__)


class NamedCheckpoint(NamedTuple):
    """A model as it is opened, a folder or a name, and the folder or hub id of its adapter if it has one."""

    model: str
    adapter: str | None


def named_checkpoint(run: Run, *, cached: bool = False) -> NamedCheckpoint:
    """The checkpoint that a run's manifest names, as folders. Raises the errors of ``named_model``, for the adapter too."""
    return NamedCheckpoint(
        named_model(run, cached=cached), None if run.manifest.base_model is None else _named_adapter(run)
    )


def _named_adapter(run: Run) -> str:
    """The folder of the adapter that the manifest names. Its configuration is checked whenever an adapter is read."""
    name = run.manifest.model
    if not Path(name).is_dir():
        raise ModelError(
            f"{run.path}: its manifest names the adapter {name[:200]!r}, which is no folder on this machine"
        )
    adapter = read_adapter(name)
    if adapter.modules is None:
        raise ModelError(f"{run.path}: its manifest names the adapter {name[:200]!r}, which is no safetensors")
    return str(adapter.folder)


def named_model(run: Run, *, cached: bool = False) -> str:
    """The folder of the model that a run's manifest names; with ``cached``, also a hub id's in the local cache.

    For a run of an adapter it is the base model. Raises ModelError where the name is a server's address, the checkpoint is
    not on this machine or is not plain safetensors, and the errors of ``resolve_model``.
    """
    name = run.manifest.base_model or run.manifest.model
    refused = f"{run.path}: its manifest names the model {name[:200]!r}, which is not opened: "
    if is_endpoint(name):
        raise ModelError(f"{refused}a run folder does not say which server is asked")
    path = resolve_model(name)
    folder = Path(path) if Path(path).is_dir() else cached_folder(path) if cached else None
    if folder is None:
        raise ModelError(f"{refused}it is no folder on this machine, and nothing is downloaded for a run folder")
    if why := _unsafe(folder):
        raise ModelError(f"{refused}{why}")
    logger.info("model: %s, as the manifest of %s has it", folder, run.path)
    return str(folder)


def _unsafe(folder: Path) -> str | None:
    """The reason why an untrusted checkpoint must not be loaded; None if it may be."""
    files = [file.name for file in folder.iterdir()]
    pickles = sorted(name for name in files if name.endswith(_PICKLES) and name not in _NOT_MODELS)
    if pickles:
        return f"it holds {pickles[0]}, and a pickle can run code"
    if not any(name.endswith(".safetensors") for name in files):
        return "it holds no safetensors"
    if "adapter_config.json" in files:
        return "adapter_config.json names another model"
    with_code = sorted(name for name in files if name.endswith("config.json") and _names_code(folder / name))
    return f"{with_code[0]} asks for code of its own" if with_code else None


def _names_code(file: Path) -> bool:
    """Whether a configuration names code in the checkpoint or a repository of kernels; True if it cannot be read."""
    try:
        return _CODE.search(json.dumps(json.loads(file.read_bytes()))) is not None
    except (OSError, ValueError, RecursionError):
        return True
