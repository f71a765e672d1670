"""The GPUs of this machine: how many there are, how many the engines take, and whether the weights fit into them.

Loads no library, so that it costs nothing before a model is loaded.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlvr_bench.errors import BadArgument, ModelError
from rlvr_bench.pipeline import models
from rlvr_bench.pipeline.options import SampleOptions
from rlvr_bench.samplers.weight_files import Shape, loaded_bytes, read_shape

__all__ = [
    "check_gpus",
    "engine_gpus",
    "machine_gpus",
    "unused_gpus",
    "visible_gpus",
    "with_replicas",
]

_ON_GPUS = ("transformers", "vllm")
_VLLM_SHARE = 0.92  # of a GPU's memory, by default
_FOR_WEIGHTS = 0.9  # of that share in a size that is proposed: keys and values need the rest
# With these, the size of the files says little about the memory that the weights take.
_RESIZING = ("quantization", "load_format", "cpu_offload_gb", "hf_overrides", "device_map")
_QUERY = ("nvidia-smi", "--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits")

Gpu = tuple[str, int | None]  # its UUID, "" where it is not known, and its memory in bytes


def machine_gpus() -> tuple[int | None, ...]:
    """The memory in bytes of each NVIDIA GPU that this process may use; None where it is not known.

    ``CUDA_VISIBLE_DEVICES`` is obeyed. CUDA is not initialised. Tests replace this function to have other GPUs.
    """
    return tuple(memory for _, memory in _visible(_listed(), os.environ))


def visible_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """The number of NVIDIA GPUs among the device files that the environment leaves visible."""
    return len(_visible(_device_files(devices), environment))


def engine_gpus(arguments: Mapping[str, object]) -> int:
    """The number of GPUs of one engine. Raises BadArgument for a size that is no positive whole number."""
    return _size(arguments, "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


def with_replicas(options: SampleOptions, names: Sequence[str]) -> SampleOptions:
    """The options with a number instead of ``replicas="auto"``: as many engines as the GPUs hold, 1 without a GPU.

    On a cluster the number is None: all that fit. ``names``: the models; one that needs no GPU here gets 1.
    """
    if options.replicas != "auto":
        return options
    if options.ray is not None:
        return dataclasses.replace(options, replicas=None)
    elsewhere = any(models.is_endpoint(name) or models.is_fake(name, options) for name in names)
    room = 1 if elsewhere or _is_pinned(options) else len(machine_gpus())
    return dataclasses.replace(options, replicas=max(1, room // engine_gpus(options.engine_args)))


def unused_gpus(engine: str, options: SampleOptions, there: int | None = None) -> str | None:
    """A line that names the unused GPUs of this machine and the option that uses them; None where there are none.

    ``there``: the number of GPUs; counted if None. A cluster decides itself.
    """
    if not _is_here(engine, options):
        return None
    there = len(machine_gpus()) if there is None else there
    size = engine_gpus(options.engine_args)
    used = size * _number(options)
    if used >= there:
        return None
    return f"{used} of {there} GPUs used; {_using_more(options, size, there)}"


def check_gpus(model: str, engine: str, options: SampleOptions) -> None:
    """Check before loading that this machine has the GPUs of an engine, and that they hold the weights.

    ``model``: the folder, or a hub id, whose files are known only once they are in the local cache. Raises BadArgument
    where there are too few GPUs; ModelError, with a tensor-parallel size, where the weights do not fit.
    """
    if not _is_here(engine, options):
        return
    memories, size = machine_gpus(), engine_gpus(options.engine_args)
    if not memories:
        return
    if size > len(memories) and "distributed_executor_backend" not in options.engine_args:
        raise BadArgument("GPUs of one engine", size, f"this machine has {len(memories)}: use a smaller parallel size")
    if None not in memories and not any(name in options.engine_args for name in _RESIZING):
        _check_memory(model, engine, options.engine_args, [memory for memory in memories if memory])


def _check_memory(model: str, engine: str, arguments: Mapping[str, object], memories: list[int]) -> None:
    named = arguments.get("revision")
    revision = named if isinstance(named, str) else None
    weights = loaded_bytes(model, engine, arguments.get("dtype"), revision)
    stages = _size(arguments, "pipeline_parallel_size")
    split = stages * _size(arguments, "tensor_parallel_size")
    memory = min(memories)
    room = memory * _share(engine, arguments)
    if weights <= split * room:
        return
    size = _fitting_size(read_shape(model, revision), weights / (stages * room), len(memories) // stages)
    have = "a GPU has" if split == 1 else f"{split} GPUs have"
    tight = " and must hold the keys and values too" if weights <= split * memory else ""
    switch = "" if engine == "vllm" else "--engine vllm "
    remedy = f"{switch}--engine-arg tensor_parallel_size={size}"
    if size is None:
        remedy = f"the {len(memories)} GPUs here do not hold them: use larger ones, or quantised weights"
    raise ModelError(
        f"{model}: the weights take {_gigabytes(weights)}, {have} {_gigabytes(split * memory)}{tight}: {remedy}"
    )


def _share(engine: str, arguments: Mapping[str, object]) -> float:
    """The share of a GPU's memory that an engine may take."""
    share = arguments.get("gpu_memory_utilization", _VLLM_SHARE) if engine == "vllm" else 1.0
    return float(share) if isinstance(share, int | float) else _VLLM_SHARE


def _fitting_size(shape: Shape, gpus: float, most: int) -> int | None:
    """The smallest tensor-parallel size up to ``most`` whose GPUs hold weights of ``gpus`` GPUs; None without one."""
    sizes = [size for size in range(1, most + 1) if shape.allows(size)]
    roomy = [size for size in sizes if gpus <= size * _FOR_WEIGHTS]
    return next(iter(roomy or [size for size in sizes if gpus < size]), None)


def _using_more(options: SampleOptions, size: int, there: int) -> str:
    """The option with which more of the GPUs are used."""
    fit = there // size
    if fit <= _number(options):
        return f"a further engine of {size} does not fit: --engine-arg tensor_parallel_size={there} uses all"
    without = " without --engine-arg device" if _is_pinned(options) else ""
    missing = "" if importlib.util.find_spec("ray") else " (needs Ray: pip install 'rlvr-bench[ray]')"
    return f"--replicas {fit}{without} uses {'all' if fit * size == there else fit * size}{missing}"


def _is_here(engine: str, options: SampleOptions) -> bool:
    """Whether the engines draw on GPUs of this machine, where it has any."""
    on_gpu = str(options.engine_args.get("device", "cuda")).startswith("cuda")
    return engine in _ON_GPUS and options.ray is None and on_gpu


def _is_pinned(options: SampleOptions) -> bool:
    """Whether an engine argument names one device."""
    return str(options.engine_args.get("device", "cuda")) != "cuda"


def _number(options: SampleOptions) -> int:
    return options.replicas if isinstance(options.replicas, int) else 1


def _size(arguments: Mapping[str, object], *names: str) -> int:
    product = 1
    for name in names:
        size = arguments.get(name, 1)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise BadArgument("--engine-arg", f"{name}={size}", "must be a whole number of at least 1")
        product *= size
    return product


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.0f} GB" if size >= 9.95e9 else f"{size / 1e9:.1f} GB"


# --------------------------------------------------------------------------------------------------- which GPUs there are
@functools.cache
def _listed() -> tuple[Gpu, ...]:
    """The GPUs by the driver's program; by their device files where there is no such program."""
    try:
        shown = subprocess.run(_QUERY, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return _device_files(Path("/dev"))
    return tuple(_read(line) for line in shown.splitlines() if line.startswith("GPU-"))


def _read(line: str) -> Gpu:
    uuid, _, memory = line.partition(",")
    return uuid.strip(), int(memory) * 2**20 if memory.strip().isdecimal() else None  # "[N/A]" where it is shared


def _device_files(devices: Path) -> tuple[Gpu, ...]:
    names = [path.name for path in devices.glob("nvidia*")]
    return tuple(("", None) for name in names if name.removeprefix("nvidia").isdecimal())


def _visible(gpus: tuple[Gpu, ...], environment: Mapping[str, str]) -> list[Gpu]:
    """The GPUs that CUDA sees. It ignores what follows a name that it does not know, as -1 or an empty one."""
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return list(gpus)
    seen: list[Gpu] = []
    for name in (part.strip() for part in chosen.split(",")):
        match = _named(gpus, name, len(seen))
        if match is None:
            break
        seen.append(match)
    return seen


def _named(gpus: tuple[Gpu, ...], name: str, number: int) -> Gpu | None:
    """The GPU with this index, UUID or beginning of a UUID. ``number``: how many were named before it."""
    if name.isdecimal():
        return gpus[int(name)] if int(name) < len(gpus) else None
    if gpus and name.startswith("MIG-"):  # a part of a GPU
        return name, None
    if not name.startswith("GPU-"):
        return None
    if all(not uuid for uuid, _ in gpus):
        return gpus[number] if number < len(gpus) else None
    return next((gpu for gpu in gpus if gpu[0].startswith(name)), None)
