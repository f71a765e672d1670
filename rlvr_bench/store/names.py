"""Names of run folders: readable, with a short hash where the readable form leaves something out."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from rlvr_bench.storage import as_path

__all__ = ["hashed", "model_name", "old_model_name", "old_task_name", "run_folder", "task_name"]

_LONGEST = 100  # characters of a name without its hash; file systems allow 255 bytes
# Parts of a path that do not identify a training run, so the parts before them are needed too.
_COMMON = re.compile(
    r"(global[-_]?)?(step|checkpoint|ckpt|epoch|iter(ation)?)s?([-_]?[0-9]+)?|[0-9]+|actor|critic|policy|huggingface|hf(_model)?"
    r"|lora(_adapter)?|adapters?|models?|weights|merged|latest|last|final|best|outputs?"
)
_MODEL_SIGNS = "A-Za-z0-9._@/\\\\:#-"
_TASK_SIGNS = "A-Za-z0-9._@:,=-"


def run_folder(out: str | Path, model: str, task: str) -> Path:
    """``out/<model>/<task>``: the folder of a new run, unless another model has that name already."""
    return as_path(out) / model_name(model) / task_name(task)


def model_name(model: str) -> str:
    """One plain name: a hub id with its owner, the last two or more parts of a path, anything else unchanged.

    ``runs/expA/global_step_100/actor`` becomes ``expA--global_step_100--actor``.
    """
    parts = _parts(model)
    first = max(0, len(parts) - 2)
    while first and all(_COMMON.fullmatch(part.lower()) for part in parts[first:]):
        first -= 1
    return _whole(_slug("--".join(parts[first:])) or "model", model.strip(), _MODEL_SIGNS)


def task_name(task: str) -> str:
    """A task as one plain name: ``reasoning_gym:chain_sum,size=5`` becomes ``reasoning_gym-chain_sum-size-5``."""
    return _whole(_slug(task) or "task", task, _TASK_SIGNS)


def old_model_name(model: str) -> str:
    """The name that an older version gave the folder: the last two parts of a path."""
    return _slug("--".join(_parts(model)[-2:])) or "model"


def old_task_name(task: str) -> str:
    """The name that an older version gave the folder."""
    return _slug(task)


def hashed(name: str, identity: str) -> str:
    """The name with a hash of ``identity``, which distinguishes equal readable names."""
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[:_LONGEST].rstrip('-.')}-{digest}"


def _parts(model: str) -> list[str]:
    return [part for part in re.split(r"[/\\]+", model.rstrip("/")) if part not in ("", ".", "..")]


def _whole(name: str, meant: str, signs: str) -> str:
    is_lossy = re.search(f"[^{signs}]", meant) or len(name) > _LONGEST
    return hashed(name, meant) if is_lossy else name


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", name).strip("-.")
