"""Finds what is unusual in how a run is drawn and changes what its numbers mean: logged and stored with the session."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from rlvr_bench.errors import ModelError
from rlvr_bench.pipeline.options import SampleOptions
from rlvr_bench.records import EngineInfo, SamplingParameters
from rlvr_bench.samplers.generation_config import recommended_sampling
from rlvr_bench.store.manifest import Manifest
from rlvr_bench.task import Task

__all__ = ["cautions", "report_cautions", "report_recommended", "visible_gpus"]

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
    there = visible_gpus(os.environ) if gpus is None else gpus
    used = _gpus_used(options, info)
    if used and used < there:
        more = f": --replicas {there // _size(options)} would use all" if info.engine == "vllm" else ""
        texts.append(f"{used} of {there} GPUs {'is' if used == 1 else 'are'} used{more}")
    return tuple(texts)


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


def report_cautions(manifest: Manifest) -> None:
    """Log the warnings of the session that begins."""
    for text in manifest.sessions[-1].warnings:
        logger.warning("%s", text)


def visible_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """The number of NVIDIA GPUs of this machine that the environment leaves visible; loads no library."""
    count = sum(path.name.removeprefix("nvidia").isdecimal() for path in devices.glob("nvidia*"))
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return count
    named = [name for name in chosen.split(",") if name.strip()]
    return min(count, len(named)) if "-1" not in named else 0


def _size(options: SampleOptions) -> int:
    """The number of GPUs of one engine."""
    size = 1
    for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
        value = options.engine_args.get(name, 1)
        size *= value if isinstance(value, int) and value > 0 else 1
    return size


def _gpus_used(options: SampleOptions, info: EngineInfo) -> int:
    """The number of GPUs in use; 0 where the engine uses none of this machine's, or a cluster decides."""
    if not info.device.startswith("cuda") or options.ray is not None:
        return 0
    return _size(options) * (options.replicas or 1)
