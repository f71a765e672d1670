"""Opens what ``--model`` names: a checkpoint of the zoo, a folder, a hub id, a server, or the fake model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from rlvr_bench import countdown
from rlvr_bench.errors import ModelError, UnknownName
from rlvr_bench.pipeline.adapters import resolve_adapter
from rlvr_bench.pipeline.layouts import checkpoint_folder
from rlvr_bench.pipeline.options import SampleOptions, check
from rlvr_bench.samplers import SamplerOptions, open_sampler, resolve_engine
from rlvr_bench.samplers.engine_arguments import check_engine_arguments
from rlvr_bench.samplers.fake import FakeSampler, spread_rates
from rlvr_bench.samplers.guess import GuessSampler
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.task import LoadedTask, gold_response, golds_of
from rlvr_bench.zoo.checkpoints import checkpoint_path, list_checkpoints

__all__ = ["choose_engine", "is_endpoint", "is_fake", "open_engine", "open_model", "resolve_model"]

GUESS = "zoo:guess"
_LONGEST = 1000  # characters of a model's name or path

logger = logging.getLogger(__name__)


def resolve_model(model: str) -> str:
    """The folder of ``zoo:NAME`` or of a local checkpoint; a URL or a hub id is returned unchanged.

    A folder may be one that verl writes around a checkpoint. Raises UnknownName; ModelError where a folder is missing or
    has no checkpoint that can be loaded, with what to do; BadArgument for a name too long.
    """
    if is_endpoint(model):
        return model
    if model.startswith("zoo:"):
        return str(checkpoint_path(model.removeprefix("zoo:")))
    check(len(model) <= _LONGEST, "--model", f"{model[:40]}...", f"a name has at most {_LONGEST} characters")
    path = Path(model).expanduser()
    if path.is_dir():
        return str(checkpoint_folder(path))
    if path.is_file() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelError(f"{model}: no such folder. --model takes a folder, a hub id (owner/name) or zoo:NAME")
    return model


def is_endpoint(model: str) -> bool:
    """Whether a model is a server's address."""
    return model.startswith(("http://", "https://"))


def is_fake(model: str, options: SampleOptions) -> bool:
    """Whether a model needs no weights."""
    return options.engine == "fake" or model in ("fake", GUESS) or model.startswith("fake:")


def choose_engine(model: str, options: SampleOptions) -> str:
    """The name of the engine that will draw, never ``auto``. Loads no engine.

    Raises UnknownName; EngineError where it is not installed; BadArgument where it cannot take the model, an adapter or
    an argument.
    """
    if is_fake(model, options):
        check(options.adapter is None, "--adapter", options.adapter, f"{model} has no weights that it could change")
        allowed = model == GUESS or options.engine in ("auto", "fake")
        check(allowed, "--engine", options.engine, "a fake model needs the fake engine")
        return "fake"
    if is_endpoint(model):
        why = f"a server loads adapters itself, and serves each as a model of its own: --model {model.partition('#')[0]}#NAME"
        check(options.adapter is None, "--adapter", options.adapter, why)
        check(options.engine in ("auto", "endpoint"), "--engine", options.engine, "a URL needs the endpoint engine")
        check(not options.deterministic, "--deterministic", True, "a server decides itself how it computes")
        return resolve_engine("endpoint")
    check(options.engine != "endpoint", "--model", model, "the endpoint engine needs a URL (http://host:8000/v1)")
    engine = resolve_engine(options.engine)
    check_engine_arguments(engine, options.engine_args, options.token_stats)
    return engine


def open_model(model: str, loaded: LoadedTask, options: SampleOptions) -> Sampler:
    """Load a checkpoint into the engine of ``options``. Raises UnknownName, ModelError, EngineError, BadArgument."""
    if choose_engine(model, options) == "fake":
        return open_guess(loaded) if model == GUESS else open_fake(model, loaded)
    return open_engine(model, options)


def open_engine(model: str, options: SampleOptions) -> Sampler:
    """``open_model`` for models that are not fake: they need no task. Raises the same errors."""
    engine = choose_engine(model, options)
    path = resolve_model(model)
    if options.engine == "auto" and engine != "endpoint":
        logger.info("engine: %s", engine if engine == "vllm" else "transformers (vllm is not installed)")
    sampler_options = SamplerOptions(
        model=path,
        chat_template=options.chat_template,
        template_args=options.chat_template_args,
        token_stats=_engine_stats(engine, options),
        engine_args=options.engine_args,
        adapter=None if options.adapter is None else resolve_adapter(options.adapter),
        adapter_rank=options.adapter_rank,
        deterministic=options.deterministic,
    )
    try:
        return open_sampler(engine, sampler_options)
    except ModelError as error:
        if is_endpoint(path) or Path(path).is_dir():
            raise
        shipped = ", ".join(f"zoo:{name}" for name in list_checkpoints())
        raise ModelError(f"{error} (no folder {model!r} here either; shipped checkpoints: {shipped})") from error


def _engine_stats(engine: str, options: SampleOptions) -> Literal["off", "summary", "full"]:
    """The token statistics to ask the engine for; with tools, a summary over all turns needs those of each token."""
    together = options.tools is not None and options.token_stats == "summary" and engine != "endpoint"
    return "full" if together else options.token_stats


def open_guess(loaded: LoadedTask) -> Sampler:
    """The control ``zoo:guess``, which works for double_countdown only. Raises ModelError for another task."""
    puzzles = {item.id: item.puzzle for item in countdown.held_out()}
    if not puzzles.keys() >= {problem.id for problem in loaded.problems}:
        raise ModelError(f"{GUESS} guesses at double_countdown only, not at {loaded.task.name}")
    return GuessSampler(puzzles)


def open_fake(model: str, loaded: LoadedTask) -> Sampler:
    """``fake`` solves each problem at a rate hashed from its id; ``fake:0.25`` solves all at the rate 0.25.

    Raises UnknownName where the rate is no number, BadArgument where it is not in [0, 1].
    """
    right = {name: gold_response(loaded.task, problem) for name, problem in golds_of(loaded).items()}
    rate = model.removeprefix("fake").removeprefix(":")
    if not model.startswith("fake") or not rate:
        return FakeSampler(spread_rates(loaded.problems), right)
    try:
        value = float(rate)
    except ValueError:
        raise UnknownName("fake model", model, ["fake", "fake:0.25"]) from None
    check(0 <= value <= 1, "--model fake:RATE", rate, "the solve rate must be in [0, 1]")
    return FakeSampler(dict.fromkeys(right, value), right)
