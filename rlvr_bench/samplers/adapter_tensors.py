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

    A pickle is read as tensors only. Raises ModelError where the file is damaged, or a tensor is not one of finite
    floating-point numbers that are all in the file.
    """
    import torch
    from safetensors import SafetensorError

    damaged = (OSError, ValueError, RuntimeError, EOFError, KeyError, AttributeError, pickle.UnpicklingError)
    try:
        tensors = _loaded(adapter)
    except (*damaged, SafetensorError) as error:
        kind = "safetensors" if adapter.weights.suffix == ".safetensors" else "pickle of tensors alone"
        raise ModelError(f"{adapter.weights}: it cannot be read as a {kind}: save the adapter again") from error
    for name, tensor in tensors.items():
        if not _is_plain(tensor):
            kinds = "float16, bfloat16, float32 or float64, each with all its numbers in the file"
            raise ModelError(f"{adapter.weights}: the tensor {name[:80]} is not of {kinds}: save the adapter again")
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{adapter.weights}: the tensor {name[:80]} has numbers that are not finite")
    return tensors


def _is_plain(tensor: Tensor) -> bool:
    """Whether every number of a dense tensor is stored: a few bytes may claim to be an expanded one of terabytes."""
    import torch

    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    known = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return tensor.dtype in known and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _loaded(adapter: Adapter) -> dict[str, Tensor]:
    if adapter.weights.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(adapter.weights))
    import torch

    content = torch.load(adapter.weights, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise ValueError("not a dict of tensors")
    return {str(name): tensor for name, tensor in content.items()}
