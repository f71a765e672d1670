"""Checks of what is asked against a checkpoint's tokenizer and chat template, as early as these are known."""

from __future__ import annotations

from pathlib import Path

from rlvr_bench.errors import ModelError
from rlvr_bench.pipeline import models
from rlvr_bench.pipeline.adapters import check_fit
from rlvr_bench.pipeline.gpus import check_gpus
from rlvr_bench.pipeline.options import SampleOptions, check
from rlvr_bench.pipeline.resolve import planned_sampling
from rlvr_bench.prompts import PromptTemplate
from rlvr_bench.samplers import open_tokenizer
from rlvr_bench.samplers.chat_templates import check_template_arguments
from rlvr_bench.samplers.model_files import template_digest
from rlvr_bench.samplers.stop_strings import check_stop_strings
from rlvr_bench.samplers.tokenizer import Tokenizer
from rlvr_bench.task import LoadedTask

__all__ = ["check_before_loading", "check_template_use"]

_LOADED = ("transformers", "vllm")  # engines that load a tokenizer from files
_COLDEST = 0.01


def check_before_loading(model: str, loaded: LoadedTask, options: SampleOptions, template: PromptTemplate) -> None:
    """Check what can be known from the options, the task and the model's tokenizer; no weights are loaded.

    Raises BadArgument for sampling parameters that tools or the engine do not allow, for a stop string that the model
    cannot write, and as ``check_template_use``; UnknownName for a chat-template argument that the template does not use;
    the errors of ``check_gpus``; ModelError for an adapter that the engine or the model does not take.
    """
    engine = models.choose_engine(model, options)
    path = models.resolve_model(model) if engine in _LOADED else model
    if options.adapter is not None:
        check_fit(options.adapter, engine, path, dict(options.engine_args))
    sampling = planned_sampling(loaded.task, options, template, path)
    check_gpus(path, engine, options)
    if engine == "vllm":
        # vLLM draws them as 0.01, with a warning in its log.
        allowed = f"vLLM draws no temperature between 0 and {_COLDEST}: take {_COLDEST}, or 0 with -n 1"
        check(not 0 < sampling.temperature < _COLDEST, "--temperature", sampling.temperature, allowed)
    if engine not in _LOADED:
        return
    if not sampling.stop and not options.chat_template_args:
        if options.chat_template == "none" or _has_no_template(Path(path)):
            check_template_use(template, options, None)
        return
    tokenizer = _tokenizer(path, options)
    if tokenizer is None:
        return
    check_template_use(template, options, template_digest(tokenizer, options.chat_template))
    check_template_arguments(tokenizer, options.chat_template_args)
    check_stop_strings(tokenizer, sampling.stop)


def check_template_use(template: PromptTemplate, options: SampleOptions, chat_template: str | None) -> None:
    """Check that everything in the prompt reaches a model with this chat template (None: it gets raw text).

    Raises BadArgument.
    """
    if chat_template is not None and template.user:
        return
    why = "the prompt has no messages" if not template.user else "prompts are sent as raw text, without a chat template"
    check(not options.system, "--system", options.system, f"would not reach the model: {why}")
    arguments = dict(options.chat_template_args)
    check(not arguments, "--chat-template-arg", arguments, f"would not reach the model: {why}")
    allowed = f'{why}, and this one has only messages: add text = "...{{question}}..." to it'
    check(bool(template.text), "--prompt", template.name, allowed)


def _has_no_template(folder: Path) -> bool:
    """Whether a local checkpoint's files show that it has no chat template."""
    try:
        config = (folder / "tokenizer_config.json").read_text()
    except (OSError, UnicodeDecodeError):
        return False
    return not any(folder.glob("*chat_template*")) and '"chat_template"' not in config


def _tokenizer(path: str, options: SampleOptions) -> Tokenizer | None:
    """The model's tokenizer; None where only the engine can load it, as with code of its own."""
    if any(name in options.engine_args for name in ("tokenizer", "tokenizer_mode", "revision", "tokenizer_revision")):
        return None
    try:
        return open_tokenizer(path)
    except ModelError:
        return None
