"""LoRA adapters: written by hand, which needs no library, and saved by peft together with the merged weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlvr_bench.samplers.weight_files import loaded_files, tensor_shapes

Tensors = Mapping[str, Any]


def make_adapter(
    folder: Path,
    base: Path,
    *,
    rank: int = 4,
    seed: int = 0,
    only: str = "",
    tensors: Tensors | None = None,
    **config: Any,
) -> Path:
    """An adapter with random numbers for the modules of a base with ``only`` in their names; ``config`` is added."""
    folder.mkdir(parents=True, exist_ok=True)
    stated = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": str(base)}
    stated |= {"target_modules": ["any"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(stated))
    write_tensors(
        folder / "adapter_model.safetensors", lora_tensors(base, rank, seed, only) if tensors is None else tensors
    )
    return folder


def lora_tensors(base: Path, rank: int = 4, seed: int = 0, only: str = "") -> dict[str, Any]:
    random = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for file in loaded_files(base):
        for name, shape in (tensor_shapes(file) or {}).items():
            if "layers" in name and len(shape) == 2 and only in name:
                module = f"base_model.model.{name.removesuffix('.weight')}"
                tensors[f"{module}.lora_A.weight"] = random.normal(0, 0.1, (rank, shape[1])).astype(np.float32)
                tensors[f"{module}.lora_B.weight"] = random.normal(0, 0.1, (shape[0], rank)).astype(np.float32)
    assert tensors
    return tensors


def write_tensors(file: Path, tensors: Tensors) -> None:
    """A file of safetensors, by the description of the format."""
    header, content = {}, b""
    for name, tensor in tensors.items():
        end = len(content) + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(content), end]}
        content += tensor.tobytes()
    encoded = json.dumps(header).encode()
    file.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content)


def save_with_peft(folder: Path, base: Path, *, seed: int = 0, merged: Path, **config: Any) -> Path:
    """An adapter with random numbers, as peft saves it; ``merged``: where the weights go that peft merged."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(seed)
    chosen = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **config}
    adapted = get_peft_model(model, LoraConfig(**chosen))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.05)
    adapted.save_pretrained(folder)
    adapted.merge_and_unload().save_pretrained(merged)
    for file in base.glob("*token*"):
        shutil.copy(file, merged)
    return folder
