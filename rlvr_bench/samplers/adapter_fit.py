"""Whether an adapter can be loaded into a base model by an engine, decided by the files before weights are loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from rlvr_bench.errors import ModelError, in_one_line
from rlvr_bench.samplers.adapters import Adapter, Module, Shapes, read_modules
from rlvr_bench.samplers.model_files import stored_template
from rlvr_bench.samplers.weight_files import model_shapes

__all__ = ["adapter_cautions", "check_adapter", "vllm_rank"]

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_LAYER = re.compile(r"[^.]+\.\d+\..+")  # a module's name from its layer on: models of one kind differ in what is before
_TIED = {"lm_head": ("embed_tokens", "wte", "embed_in", "word_embeddings")}


def check_adapter(
    adapter: Adapter, engine: str, base: str, revision: str | None = None, tensors: Shapes | None = None
) -> None:
    """Check that the engine takes the adapter, and that its tensors fit those of the base model, where these are known.

    ``base``: the folder or hub id that is loaded. ``tensors``: the shapes of the adapter's tensors, where they were loaded.
    Raises ModelError.
    """
    modules = adapter.modules if tensors is None else read_modules(adapter, tensors)
    if engine == "vllm":
        _check_vllm(adapter, modules or {})
    if modules is not None:
        _check_modules(adapter, modules, model_shapes(base, revision))


def _check_vllm(adapter: Adapter, modules: Iterable[str]) -> None:
    remedy = "take --engine transformers, or merge the adapter"
    if adapter.config.use_dora:
        raise ModelError(f"{adapter.folder}: the adapter is DoRA, which vLLM does not compute: {remedy}")
    if head := next((name for name in modules if "lm_head" in name), None):
        raise ModelError(f"{adapter.folder}: the adapter changes {head}, which is not supported with vLLM: {remedy}")
    if adapter.rank > VLLM_RANKS[-1]:
        raise ModelError(
            f"{adapter.folder}: the adapter has rank {adapter.rank}, vLLM takes {VLLM_RANKS[-1]}: {remedy}"
        )


def vllm_rank(rank: int) -> int:
    """The smallest rank that vLLM can be set to and that holds this one; the largest where none does."""
    return next((size for size in VLLM_RANKS if size >= rank), VLLM_RANKS[-1])


def _check_modules(adapter: Adapter, modules: Mapping[str, Module], base: Shapes) -> None:
    """Raises ModelError where the base model, which has these tensors, lacks a module or has another size of it."""
    if not base:
        return
    sizes = _by_layer(base)
    for name, module in modules.items():
        there = next((sizes[key] for key in _keys(name) if key in sizes), None)
        if there is None:
            raise ModelError(
                f"{adapter.folder}: the adapter is of another base: --model has no {name}{_stated(adapter)}"
            )
        if not any(sorted(size) == sorted((module.inputs, module.outputs)) for size in there):
            raise ModelError(
                f"{adapter.folder}: the adapter is of another base: its {name} is {module.outputs} x {module.inputs}, "
                f"that of --model {' x '.join(map(str, there[0]))}{_stated(adapter)}"
            )


def _by_layer(base: Shapes) -> dict[str, list[tuple[int, ...]]]:
    """Sizes of the modules that have a weight. The parts of a model may have layers of the same names."""
    sizes: dict[str, list[tuple[int, ...]]] = {}
    for name, shape in base.items():
        if name.endswith(".weight"):
            sizes.setdefault(_key(name.removesuffix(".weight")), []).append(shape)
    return sizes


def _key(name: str) -> str:
    match = _LAYER.search(name)
    return match[0] if match else name.rpartition(".")[2]


def _keys(name: str) -> Iterable[str]:
    key = _key(name)
    return key, *_TIED.get(key, ())


def _stated(adapter: Adapter) -> str:
    return f" (the adapter states the base {in_one_line(adapter.base)[:200]})" if adapter.base else ""


def adapter_cautions(adapter: Adapter, base: str, chat_template: str | None) -> tuple[str, ...]:
    """Warnings where the adapter states another base model by name, or comes with another chat template than is used.

    ``chat_template``: the SHA-256 of the one that is applied, None where there is none.
    """
    texts = []
    if adapter.base and _plain(adapter.base) != _plain(base):
        texts.append(
            f"the adapter states another base model, by name: {in_one_line(adapter.base)[:200]}; its tensors fit this one"
        )
    beside = stored_template(str(adapter.folder))
    if beside is not None and beside != chat_template:
        texts.append(
            "the adapter's folder has a chat template that is not applied: prompts are those of the base model"
        )
    return tuple(texts)


def _plain(name: str) -> str:
    """The part of a model's name that is the same for its folder and its hub id."""
    return name.rstrip("/").rpartition("/")[2].lower()
