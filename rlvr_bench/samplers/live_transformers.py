"""A model that a training program holds in memory, as a checkpoint of the transformers engine."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from rlvr_bench.samplers.loaded_transformers import LoadedTransformers
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.tokenizer import Tokenizer
from rlvr_bench.samplers.transformers import TransformersSampler

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["live_sampler"]

_ROWS = 256


def live_sampler(model: PreTrainedModel, tokenizer: Tokenizer, name: str, rows: int = _ROWS) -> TransformersSampler:
    """A sampler that draws with ``model`` as it is now, at most ``rows`` rollouts together.

    ``name`` is that of the checkpoint. The sampler must not be used after the weights have changed. Closing it leaves the
    model alone; the caller puts the model into evaluation mode.
    """
    loaded = _Live(model, tokenizer, name, rows)
    return TransformersSampler(SamplerOptions(model=name), loaded)


class _Live(LoadedTransformers):
    """The weights of another program."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str, rows: int) -> None:
        self.device = model.device
        self.rows = rows
        self.tokenizer = tokenizer
        self._model = model
        self._threads = self._useful_threads(None)
        self.stop = self._stop_ids()
        self._base = self.info = self._describe(SamplerOptions(model=name), _digest(model))


def _digest(model: PreTrainedModel) -> str:
    """SHA-256 over the names and values of the weights that are trained, or of all if none is."""
    named = [*model.named_parameters()]
    trained = [(name, weights) for name, weights in named if weights.requires_grad]
    digest = hashlib.sha256()
    for name, weights in trained or named:
        digest.update(name.encode())
        digest.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return f"in memory: {digest.hexdigest()}"
