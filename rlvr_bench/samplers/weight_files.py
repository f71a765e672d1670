"""What a checkpoint's files say before they are loaded: the memory that the weights take, and how they can be split."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rlvr_bench.samplers.model_files import cached_folder

__all__ = ["Shape", "loaded_bytes", "loaded_files", "missing_files", "model_shapes", "read_shape", "tensor_shapes"]

_FLOATS = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
}  # bytes of a number; engines convert these to the dtype of the model
_DTYPES = {"float64": 8, "double": 8, "float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
_LARGEST_HEADER = 100_000_000  # bytes: the limit of the format


class Shape(NamedTuple):
    """The numbers of attention heads and of heads of keys and values; None where they are not known."""

    heads: int | None
    key_heads: int | None

    def allows(self, size: int) -> bool:
        """Whether vLLM can split the heads over so many GPUs. Powers of two are allowed where nothing is known."""
        if self.heads is None:
            return size & (size - 1) == 0
        keys = self.key_heads or self.heads
        return self.heads % size == 0 and (keys % size == 0 or size % keys == 0)


def read_shape(model: str, revision: str | None) -> Shape:
    """The heads by the configuration of a folder, or of a hub model in the local cache."""
    config = _configuration(_folder(model, revision))
    heads, keys = (_count(config.get(name)) for name in ("num_attention_heads", "num_key_value_heads"))
    return Shape(heads, keys)


def loaded_bytes(model: str, engine: str, dtype: object = None, revision: str | None = None) -> int:
    """The bytes that the weights take once they are loaded, without buffers; 0 where the files are not here.

    ``dtype``: the engine argument. vLLM loads float32 weights as 16 bits if no type is named, transformers
    as the configuration says. Files other than safetensors count with their size.
    """
    folder = _folder(model, revision)
    config = _configuration(folder)
    asked = str(dtype or "auto").removeprefix("torch.")
    if asked == "auto":
        asked = "bfloat16" if engine == "vllm" else str(config.get("dtype") or config.get("torch_dtype") or "")
    size = None if "quantization_config" in config else _DTYPES.get(asked.removeprefix("torch."))
    return sum(_bytes_of(path, size) for path in loaded_files(folder)) if folder else 0


def loaded_files(folder: Path) -> list[Path]:
    """The weight files that an engine reads: safetensors where there are any, those of the index where there is one."""
    for suffix in ("safetensors", "bin"):
        listed = _indexed(next(iter(sorted(folder.glob(f"*.{suffix}.index.json"))), None))
        files = sorted(path for path in folder.glob(f"*.{suffix}") if path.is_file())
        whole = [path for path in files if path.name in listed] or [
            path for path in files if not path.name.startswith(("consolidated", "adapter_"))
        ]
        models = [path for path in whole if suffix != "bin" or path.name.startswith(("pytorch_model", "model"))]
        if models or (files and suffix == "safetensors"):
            return models or files
    named = [*folder.glob("*.gguf"), *folder.glob("consolidated*.pth")]
    return sorted(named)


def missing_files(folder: Path) -> list[str]:
    """The weight files that the folder's index names and that are not there."""
    for suffix in ("safetensors", "bin"):
        if any(folder.glob(f"*.{suffix}")):
            listed = _indexed(next(iter(sorted(folder.glob(f"*.{suffix}.index.json"))), None))
            return sorted(name for name in listed if not (folder / name).is_file())
    return []


def _indexed(index: Path | None) -> set[str]:
    """The names of the files in an index of weights; empty where it cannot be read."""
    try:
        content = json.loads(index.read_bytes()) if index is not None else {}
        return {str(name) for name in content["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()


def _bytes_of(path: Path, size: int | None) -> int:
    """The bytes of a file's weights with floats of ``size`` bytes; the file's size where its header cannot be read."""
    whole = path.stat().st_size
    header = _header(path) if size is not None and path.suffix == ".safetensors" else None
    if header is None or size is None:
        return whole
    try:
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        return sum(
            math.prod(tensor["shape"]) * size if tensor["dtype"] in _FLOATS else _stored(tensor) for tensor in tensors
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return whole


def model_shapes(model: str, revision: str | None = None) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's tensors by name; empty where its files are not here, are no safetensors, or are quantised."""
    folder = _folder(model, revision)
    if folder is None or "quantization_config" in _configuration(folder):
        return {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in loaded_files(folder):
        stored = tensor_shapes(path) if path.suffix == ".safetensors" else None
        if stored is None:
            return {}
        shapes |= stored
    return shapes


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]] | None:
    """The shapes of a safetensors file's tensors by name; None where its header cannot be read."""
    try:
        tensors = {name: tensor["shape"] for name, tensor in (_header(path) or {}).items() if name != "__metadata__"}
    except (KeyError, TypeError):
        return None
    are_shapes = all(isinstance(shape, list) and all(map(_is_size, shape)) for shape in tensors.values())
    return {name: tuple(shape) for name, shape in tensors.items()} if tensors and are_shapes else None


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _stored(tensor: Mapping[str, Any]) -> int:
    begin, end = tensor["data_offsets"]
    return int(end) - int(begin)


def _header(path: Path) -> dict[str, Any] | None:
    """The header of a safetensors file; None where there is none."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            content = json.loads(stream.read(length)) if 0 < length <= _LARGEST_HEADER else None
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _folder(model: str, revision: str | None) -> Path | None:
    return Path(model) if Path(model).is_dir() else cached_folder(model, revision)


def _configuration(folder: Path | None) -> dict[str, Any]:
    """The configuration of the model's text part; empty where it cannot be read."""
    try:
        config = json.loads((folder / "config.json").read_bytes()) if folder is not None else {}
        return {**config, **(config.get("text_config") or {})}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
