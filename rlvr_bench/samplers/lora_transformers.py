"""A LoRA adapter in a loaded transformers model, by peft. Nothing that peft reads comes from the adapter's configuration."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlvr_bench.errors import EngineError, ModelError
from rlvr_bench.samplers.adapters import Adapter, Module, read_modules

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["check_peft", "remove_adapter", "swap_adapter"]

_NAME = "rlvr_bench"


def check_peft() -> None:
    """Raises EngineError where peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise EngineError("--adapter with the transformers engine needs peft: pip install 'rlvr-bench[torch]'")


def swap_adapter(model: PreTrainedModel, adapter: Adapter, tensors: Mapping[str, Tensor]) -> None:
    """Put an adapter into the model, in place of the one that it has. The base weights do not change.

    Raises ModelError where the model does not have exactly the adapter's modules.
    """
    modules = read_modules(adapter, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    remove_adapter(model)
    try:
        _put(model, adapter, modules, tensors)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{adapter.folder}: the adapter does not fit the model: {reason}") from error


def remove_adapter(model: PreTrainedModel) -> None:
    """Make the model the base model again; does nothing where it is."""
    if _NAME in getattr(model, "peft_config", {}):
        from peft.functional import delete_adapter

        delete_adapter(model, _NAME, prefix="lora_")
        del model.peft_config  # else peft warns of a second adapter


def _put(
    model: PreTrainedModel, adapter: Adapter, modules: Mapping[str, Module], tensors: Mapping[str, Tensor]
) -> None:
    import peft

    # A module that had an adapter before is still wrapped.
    inner = {name: getattr(module, "base_layer", module) for name, module in model.named_modules()}
    missing = next((name for name in modules if name not in inner), None)
    if missing is not None:
        raise ValueError(f"no module {missing}")
    config = peft.LoraConfig(
        r=adapter.config.r,
        lora_alpha=adapter.config.lora_alpha,
        target_modules=list(modules),
        rank_pattern={f"^{re.escape(name)}$": module.rank for name, module in modules.items()},
        alpha_pattern={f"^{re.escape(name)}$": module.alpha for name, module in modules.items()},
        use_rslora=adapter.config.use_rslora,
        use_dora=adapter.config.use_dora,
        fan_in_fan_out=any(type(inner[name]).__name__ == "Conv1D" for name in modules),
        inference_mode=True,
    )
    peft.inject_adapter_in_model(config, model, _NAME)
    state = {name.removeprefix("base_model.model."): tensor for name, tensor in tensors.items()}
    loaded: Any = peft.set_peft_model_state_dict(model, state, _NAME)
    left = [name for name in loaded.missing_keys if f".{_NAME}" in name] + list(loaded.unexpected_keys)
    if left:
        raise ValueError(f"no use for {left[0]}")
    model.requires_grad_(False)
