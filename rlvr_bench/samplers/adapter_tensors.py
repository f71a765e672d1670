"""The tensors of a LoRA adapter, read without running anything that is in the file."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from rlvr_bench.errors import ModelError
from rlvr_bench.samplers.adapters import Adapter

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_tensors"]


def read_tensors(adapter: Adapter) -> dict[str, Tensor]:
    """The tensors of an adapter, on the CPU, by their names in the file.

    A pickle is read as tensors only. Raises ModelError where the file is damaged or a number in it is not finite.
    """
    import torch
    from safetensors import SafetensorError

    damaged = (OSError, ValueError, RuntimeError, EOFError, KeyError, AttributeError, pickle.UnpicklingError)
    try:
        tensors = _loaded(adapter)
    except (*damaged, SafetensorError) as error:
        kind = "safetensors" if adapter.weights.suffix == ".safetensors" else "pickle of tensors alone"
        raise ModelError(f"{adapter.weights}: it cannot be read as a {kind}: save the adapter again") from error
    wrong = next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), None)
    if wrong is not None:
        raise ModelError(f"{adapter.weights}: the tensor {wrong[:80]} has numbers that are not finite")
    return tensors


def _loaded(adapter: Adapter) -> dict[str, Tensor]:
    if adapter.weights.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(adapter.weights))
    import torch

    content = torch.load(adapter.weights, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise ValueError("not a dict of tensors")
    return {str(name): tensor for name, tensor in content.items()}
