"""How training programs leave checkpoints: which folder holds one that engines can load, and what makes one of the rest."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from rlvr_bench.errors import ModelError
from rlvr_bench.samplers.adapters import adapter_folder, base_of
from rlvr_bench.samplers.weight_files import loaded_files, missing_files

__all__ = ["checkpoint_folder"]

# Where verl stores a checkpoint that can be loaded, seen from global_step_N and from global_step_N/actor.
_INNER = ("actor/huggingface", "huggingface")
_COPIED = ", and copy config.json and the tokenizer of the base model beside the result"
_VERL = "merge them with `python -m verl.model_merger merge --backend"
_STEP = re.compile(r"(global_step|checkpoint|step|iter)[-_]?\d+")


def checkpoint_folder(folder: Path) -> Path:
    """The folder with the configuration and weights of the checkpoint that ``folder`` names.

    That is the folder itself, or the one that verl writes inside ``global_step_N`` and ``global_step_N/actor``. Raises
    ModelError, with the command that merges it, for a checkpoint that only its training program can read, and for a
    folder without one.
    """
    try:
        return _loadable(folder)
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror or error}") from error


def _loadable(folder: Path) -> Path:
    for inside in (folder, *(folder / name for name in _INNER)):
        if (inside / "config.json").is_file() and _has_weights(inside):
            _check_complete(inside)
            return inside
    adapter = adapter_folder(folder)
    if (adapter / "adapter_config.json").is_file():
        base, named = base_of(adapter), shlex.quote(str(folder))
        raise ModelError(
            f"{folder}: a LoRA adapter without its base model: --model {base} --adapter {named} evaluates it"
        )
    for raw in (folder, folder / "actor", folder.parent):
        remedy = _merging(raw)
        if remedy is not None and (raw != folder.parent or _is_part_of_raw(folder)):
            raise ModelError(f"{folder}: {remedy}")
    if (folder / "config.json").is_file():
        return folder  # the engine decides: it may need no weights
    steps = sorted(path.name for path in folder.iterdir() if path.is_dir() and _STEP.fullmatch(path.name))
    if steps:
        example = shlex.quote(str(folder / f"{steps[0].rstrip('0123456789')}*"))
        raise ModelError(f"{folder}: not a checkpoint but a folder of them: name one, or all with --model {example}")
    raise ModelError(f"{folder}: no config.json in it, so not a Hugging Face checkpoint")


def _has_weights(folder: Path) -> bool:
    """Whether there are weights of a model, and not only those of an adapter."""
    return any(not path.name.startswith("adapter_") for path in loaded_files(folder))


def _is_part_of_raw(folder: Path) -> bool:
    """Whether the folder above describes this one: verl's without weights, or DeepSpeed's with the states."""
    return folder.name == "huggingface" or any(folder.glob("*_states.pt"))


def _check_complete(folder: Path) -> None:
    missing = missing_files(folder)
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} of the weight files in its index are missing, such as {missing[0]}: copy the whole "
            "checkpoint"
        )


def _merging(folder: Path) -> str | None:
    """What turns the raw checkpoint in a folder into one that can be loaded; None where there is no raw one."""
    here = shlex.quote(str(folder))
    target = shlex.quote(str(folder / "huggingface"))
    verl = f"--local_dir {here} --target_dir {target}`"
    if any(folder.glob("model_world_size_*_rank_*.pt")):
        return f"FSDP shards of verl, which no engine loads: {_VERL} fsdp {verl}"
    if (folder / "dist_ckpt").is_dir():
        return f"Megatron shards of verl, which no engine loads: {_VERL} megatron {verl}"
    if (folder / "zero_to_fp32.py").is_file():
        script = shlex.quote(str(folder / "zero_to_fp32.py"))
        return f"a DeepSpeed checkpoint, which no engine loads: merge it with `python {script} {here} {here}`{_COPIED}"
    if _is_megatron(folder):
        return (
            "a Megatron checkpoint, which no engine loads: export it with Megatron-Bridge's `python examples/conversion/"
            f"convert_checkpoints.py export --hf-model BASE_MODEL --megatron-path {here} --hf-path {target}`"
        )
    sharded = next((path for path in (folder, *sorted(folder.glob("pytorch_model_fsdp*"))) if _has_shards(path)), None)
    if sharded is None:
        return None
    return (
        "FSDP shards of PyTorch, which no engine loads: merge them with "
        f"`accelerate merge-weights {shlex.quote(str(sharded))} {here}`{_COPIED}"
    )


def _is_megatron(folder: Path) -> bool:
    """Whether Megatron-LM wrote this: a folder for every rank, or shards with a common part."""
    parts = (folder, *(path for path in folder.glob("iter_*") if path.is_dir()))
    return any(
        any(part.glob("mp_rank_*/*.pt")) or ((part / "common.pt").is_file() and any(part.glob("*.distcp")))
        for part in parts
    )


def _has_shards(folder: Path) -> bool:
    return (folder / ".metadata").is_file() and any(folder.glob("*.distcp"))
