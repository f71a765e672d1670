"""Checks of what is asked against a checkpoint's tokenizer, before its weights are loaded."""

from __future__ import annotations

from rlvr_bench.errors import ModelError
from rlvr_bench.pipeline import models
from rlvr_bench.pipeline.options import SampleOptions
from rlvr_bench.pipeline.resolve import planned_sampling
from rlvr_bench.samplers import open_tokenizer
from rlvr_bench.samplers.stop_strings import check_stop_strings
from rlvr_bench.samplers.tokenizer import Tokenizer
from rlvr_bench.task import LoadedTask

__all__ = ["check_before_loading"]

_LOADED = ("transformers", "vllm")  # engines that load a tokenizer from files


def check_before_loading(model: str, loaded: LoadedTask, options: SampleOptions) -> None:
    """Check what can be known from the options, the task and the model's tokenizer.

    Raises BadArgument for sampling parameters that tools do not allow, and for a stop string that the model cannot write.
    """
    sampling = planned_sampling(loaded.task, options)
    if not sampling.stop or models.choose_engine(model, options) not in _LOADED:
        return
    tokenizer = _tokenizer(model, options)
    if tokenizer is not None:
        check_stop_strings(tokenizer, sampling.stop)


def _tokenizer(model: str, options: SampleOptions) -> Tokenizer | None:
    """The model's tokenizer; None where only the engine can load it, as with code of its own."""
    if any(name in options.engine_args for name in ("tokenizer", "tokenizer_mode", "revision", "tokenizer_revision")):
        return None
    try:
        return open_tokenizer(models.resolve_model(model))
    except ModelError:
        return None
