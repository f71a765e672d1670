"""What ``--adapter`` names: a folder, or an adapter on the hub, and the digest of a checkpoint that has one."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlvr_bench.errors import ModelError
from rlvr_bench.samplers.adapter_fit import check_adapter
from rlvr_bench.samplers.adapters import adapted, adapter_folder, read_adapter
from rlvr_bench.samplers.load_faults import loading_fault
from rlvr_bench.samplers.lora_transformers import check_peft
from rlvr_bench.samplers.model_files import weights_digest

__all__ = ["check_fit", "checkpoint_digest", "largest_rank", "resolve_adapter"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_FILES = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"]


def resolve_adapter(name: str) -> str:
    """The folder of an adapter; one on the hub (owner/name, owner/name@revision) is downloaded.

    A folder may be one that verl writes around an adapter. Raises ModelError where there is no such folder or adapter.
    """
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return str(adapter_folder(path))
    except (OSError, RuntimeError, ValueError):  # a name too long for a path, or no home directory
        pass
    if name.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(name):
        raise ModelError(f"{name[:200]}: no such folder. --adapter takes a folder or a hub id (owner/name@revision)")
    return _downloaded(name)


@functools.cache
def _downloaded(name: str) -> str:
    """The folder in the local cache; it does not change while this process runs, as the weights of a loaded model."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelError(
            f"{name}: no such folder; an adapter on the hub needs: pip install 'rlvr-bench[hub]'"
        ) from error
    repository, _, revision = name.partition("@")
    try:
        return str(snapshot_download(repository, revision=revision or None, allow_patterns=_FILES))
    except (OSError, ValueError) as error:
        why = loading_fault(repository, error)
        raise ModelError(f"{name}: no folder here, and the hub gives no such adapter: {why}") from error


def checkpoint_digest(model: str, adapter: str | None, revision: str | None = None) -> str:
    """What identifies the weights of a model (a folder or hub id), with its adapter (as the user named it) if it has one.

    Raises ModelError.
    """
    digest = weights_digest(model, revision)
    return digest if adapter is None else adapted(digest, read_adapter(resolve_adapter(adapter)))


def check_fit(adapter: str, engine: str, model: str, arguments: dict[str, Any]) -> None:
    """Check an adapter against the engine and the base model, before weights are loaded.

    Raises ModelError; EngineError where the engine lacks what it loads adapters with.
    """
    if engine == "transformers":
        check_peft()
    check_adapter(read_adapter(resolve_adapter(adapter)), engine, model, arguments.get("revision"))


def largest_rank(adapters: Sequence[str]) -> int:
    """The largest rank of the adapters; those that cannot be read do not count: each raises its error when it is used."""
    ranks = [0]
    for name in adapters:
        try:
            ranks.append(read_adapter(resolve_adapter(name)).rank)
        except ModelError:
            continue
    return max(ranks)
