"""Finds what is unusual in how a run is drawn and changes what its numbers mean: logged and stored with the session."""

from __future__ import annotations

import logging

from rlvr_bench.errors import ModelError
from rlvr_bench.pipeline import models
from rlvr_bench.pipeline.gpus import unused_gpus
from rlvr_bench.pipeline.options import SampleOptions
from rlvr_bench.records import EngineInfo, SamplingParameters
from rlvr_bench.samplers.generation_config import recommended_sampling
from rlvr_bench.samplers.protocol import CachedSampler, Sampler
from rlvr_bench.store import RunWriter
from rlvr_bench.store.manifest import Manifest
from rlvr_bench.task import Task

__all__ = ["cautions", "report_cache", "report_cautions", "report_recommended", "report_unused"]

logger = logging.getLogger(__name__)


def cautions(
    task: Task, options: SampleOptions, sampling: SamplingParameters, info: EngineInfo, gpus: int | None = None
) -> tuple[str, ...]:
    """Warnings, one line for each. ``gpus``: how many this process may use; counted if None."""
    texts = list(info.cautions)
    recommended = (task.sampling or SamplingParameters()).max_tokens
    if options.max_tokens is None and sampling.max_tokens < recommended:
        texts.append(
            f"max_tokens is {sampling.max_tokens:,}, not the task's {recommended:,}: the model's context has no more room"
        )
    unused = unused_gpus(info.engine, options, gpus) if info.device.startswith("cuda") else None
    return (*texts, unused) if unused is not None else tuple(texts)


def report_recommended(sampling: SamplingParameters, options: SampleOptions, info: EngineInfo) -> None:
    """Log a line where the model recommends other sampling parameters than those used; nothing where it names none."""
    if info.engine not in ("transformers", "vllm"):
        return
    try:
        own = recommended_sampling(info.model, options.engine_args.get("revision"))
    except ModelError as error:
        logger.info("the model's recommended sampling parameters are not known: %s", error)
        return
    differing = {name: value for name, value in own.items() if getattr(sampling, name) != value}
    if differing:
        advised, used = (
            ", ".join(f"{name.replace('_', '-')} {value:g}" for name, value in values.items())
            for values in (differing, {name: getattr(sampling, name) for name in differing})
        )
        logger.info("the model recommends %s; used: %s (--sampling generation-config takes its own)", advised, used)


def report_cautions(manifest: Manifest, reported: str | None = None) -> None:
    """Log the warnings of the session that begins, without the one ``reported`` before loading."""
    for text in manifest.sessions[-1].warnings:
        if text != reported:
            logger.warning("%s", text)


def report_unused(model: str, options: SampleOptions, *, known: bool = False) -> str | None:
    """The line on GPUs that will not be used. It is logged before loading, which takes minutes; not again if ``known``."""
    text = unused_gpus(models.choose_engine(model, options), options)
    if text is not None and not known:
        logger.warning("%s", text)
    return text


def report_cache(writer: RunWriter, sampler: Sampler) -> None:
    """Log and record how this session used the engine's KV cache, where the engine knows."""
    use = sampler.take_cache_use() if isinstance(sampler, CachedSampler) else None
    if use is None:
        return
    writer.note_cache(use)
    lost = f"{use.preempted:,} times a response had to leave it ({use.again:,} tokens computed again)"
    logger.info("KV cache: at most %.0f %% in use, %s", 100 * use.peak, lost if use.preempted else "no preemptions")
