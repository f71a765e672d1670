"""Checkpoints stored as the change that training made: 8 bits a weight, half the size of the weights.

A checkpoint trained from another one is *defined* as the start plus this difference: training ends by rounding to it, so
shipping it loses nothing. Each row of a matrix has its scale. The rounding error is at most 1/254 of the row's largest
change; it is below bfloat16's rounding error wherever training moved a weight by less than about its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rlvr_bench.errors import ModelError

__all__ = ["apply_delta", "pack", "unpack", "weights_bytes", "write_delta"]

_LEVELS = 127


def pack(state: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The difference ``state - start`` (same names and shapes): for each name int8 levels and a float32 row ``.scale``."""
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        change = value.float() - start[name].float()
        scale = change.abs().amax(-1, keepdim=True) / _LEVELS
        packed[name] = (change / scale.clamp(min=1e-30)).round().to(torch.int8)
        packed[f"{name}.scale"] = scale
    return packed


def apply_delta(start: Mapping[str, Tensor], packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint that ``packed`` defines over ``start``, in bfloat16. Raises ModelError where they do not fit."""
    try:
        return {
            name: (value.float() + packed[name].float() * packed[f"{name}.scale"]).bfloat16()
            for name, value in start.items()
        }
    except (KeyError, RuntimeError) as fault:
        raise ModelError(
            f"the packed checkpoint does not fit the one it starts from: {fault}. Install again."
        ) from fault


def unpack(file: Path, start: Path) -> bytes:
    """The weights file of a packed checkpoint, from the weights file it starts from. Raises ModelError."""
    return weights_bytes(apply_delta(_read(start), _read(file)))


def weights_bytes(state: Mapping[str, Tensor]) -> bytes:
    """A safetensors file of the weights in bfloat16, the same bytes for the same weights."""
    from safetensors.torch import save

    weights = {name: value.detach().bfloat16().contiguous() for name, value in sorted(state.items())}
    return bytes(save(weights, metadata={"format": "pt"}))


def write_delta(path: Path, packed: Mapping[str, Tensor]) -> None:
    """Write the tensors that ``pack`` returned as a safetensors file."""
    from safetensors.torch import save

    path.write_bytes(save(dict(packed)))


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as fault:
        raise ModelError(f"{path} cannot be read as weights: {fault}. Install rlvr-bench again.") from fault
    return weights
