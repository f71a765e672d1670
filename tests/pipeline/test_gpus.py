"""A machine with eight GPUs, made up: what is counted, what is said about unused ones, and what does not fit."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlvr_bench import pipeline
from rlvr_bench.errors import BadArgument, EngineError, ModelError, RlvrBenchError
from rlvr_bench.pipeline import SampleOptions, batch, gpus, models
from rlvr_bench.pipeline.engines import Job
from rlvr_bench.pipeline.gpus import check_gpus, engine_gpus, machine_gpus, unused_gpus, with_replicas
from rlvr_bench.pipeline.options import GradeOptions, Silent
from rlvr_bench.samplers.weight_files import Shape, loaded_bytes, loaded_files
from rlvr_bench.store import open_run
from tests.conftest import ROOT, require

GB = 10**9
HEADS = {"num_attention_heads": 40, "num_key_value_heads": 8, "dtype": "bfloat16"}  # as Qwen2.5-32B
TASK = "double_countdown"

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this a machine with so many GPUs of so many gigabytes."""

    def make(count: int, memory: float | None = 48) -> None:
        memories = (None if memory is None else int(memory * GB),) * count
        monkeypatch.setattr(gpus, "machine_gpus", lambda: memories)

    return make


@pytest.fixture
def box(machine: Machine) -> None:
    machine(8)


def asked(**fields: Any) -> SampleOptions:
    """Options whose unknown names are engine arguments."""
    known = {name: fields.pop(name) for name in ("replicas", "ray", "engine") if name in fields}
    return SampleOptions(engine_args=fields, **known)


def checkpoint(folder: Path, size: float, **config: object) -> str:
    """A checkpoint with weights of ``size`` gigabytes, which take no room on the disk."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**HEADS, **config}))
    with (folder / "model.safetensors").open("wb") as stream:
        stream.truncate(int(size * GB))
    return str(folder)


def typed(folder: Path, dtype: str, numbers: int, **config: Any) -> str:
    """A checkpoint with so many numbers of a type, by the header of its file."""
    size = numbers * {"F32": 4, "BF16": 2, "U8": 1}[dtype]
    header = json.dumps({"w": {"dtype": dtype, "shape": [numbers], "data_offsets": [0, size]}}).encode()
    checkpoint(folder, 0, **config)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + size)
    return str(folder)


# --------------------------------------------------------------------------------------------------------------- counting
@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A driver's program that lists eight GPUs, one of which shares its memory."""
    memories = ["46068"] * 7 + ["[N/A]"]
    lines = "\n".join(f"echo 'GPU-{number}a{number}, {memory}'" for number, memory in enumerate(memories))
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus._listed.cache_clear()
    yield
    gpus._listed.cache_clear()


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        *((None, 8), ("", 0), ("0", 1), ("3,5", 2), ("1,-1,2", 1), ("9", 0), ("0,9,1", 1), (" 0 , 1 ", 2)),
        *(("GPU-4a", 1), ("GPU-4a,GPU-5a", 2), ("GPU-9", 0), ("MIG-1,MIG-2,MIG-3", 3), ("none", 0)),
    ],
)
def test_the_visible_gpus_are_counted(chosen: str | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert len(machine_gpus()) == count


@pytest.mark.usefixtures("driver")
def test_their_memory_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,0")
    assert machine_gpus() == (None, 46068 * 2**20)


def test_without_the_driver_s_program_the_device_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    gpus._listed.cache_clear()
    try:
        assert len(gpus._listed()) == gpus.visible_gpus({})
    finally:
        gpus._listed.cache_clear()


# ----------------------------------------------------------------------------------------------------------------- unused
@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("engine", "options", "line"),
    [
        ("vllm", {}, "1 of 8 GPUs used; --replicas 8 uses all"),
        ("transformers", {}, "1 of 8 GPUs used; --replicas 8 uses all"),
        ("transformers", {"device": "cuda:3"}, "1 of 8 GPUs used; --replicas 8 without --engine-arg device uses all"),
        ("vllm", {"tensor_parallel_size": 2}, "2 of 8 GPUs used; --replicas 4 uses all"),
        ("vllm", {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, "4 of 8 GPUs used; --replicas 2 uses all"),
        ("vllm", {"tensor_parallel_size": 2, "replicas": 3}, "6 of 8 GPUs used; --replicas 4 uses all"),
        ("vllm", {"tensor_parallel_size": 3}, "3 of 8 GPUs used; --replicas 2 uses 6"),
        (
            "vllm",
            {"tensor_parallel_size": 5},
            "5 of 8 GPUs used; a further engine of 5 does not fit: --engine-arg tensor_parallel_size=8 uses all",
        ),
        ("vllm", {"tensor_parallel_size": 8}, None),
        ("vllm", {"replicas": 8}, None),
        ("vllm", {"ray": "auto"}, None),
        ("transformers", {"device": "cpu"}, None),
        ("endpoint", {}, None),
        ("fake", {}, None),
    ],
)
def test_unused_gpus_are_named_with_the_option_that_uses_them(engine: str, options: Any, line: str | None) -> None:
    assert unused_gpus(engine, asked(**options)) == line


def test_a_machine_with_one_gpu_or_none_has_no_unused_ones(machine: Machine) -> None:
    for count in (0, 1):
        machine(count)
        assert unused_gpus("vllm", asked()) is None


@pytest.mark.usefixtures("box")
def test_the_line_says_where_ray_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert str(unused_gpus("vllm", asked())).endswith("uses all (needs Ray: pip install 'rlvr-bench[ray]')")


@pytest.mark.usefixtures("box")
def test_it_is_logged_before_the_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    require("torch", "torch")

    def load(model: str, *_: object) -> Any:
        logging.getLogger("rlvr_bench").warning("loading")
        raise ModelError("no weights are loaded in this test")

    monkeypatch.setattr(models, "open_model", load)
    with pytest.raises(ModelError, match="in this test"):
        pipeline.sample("zoo:base", TASK, SampleOptions(out=tmp_path, engine="transformers", n=2, limit=1))
    said = [record.getMessage() for record in caplog.records]
    assert said == ["1 of 8 GPUs used; --replicas 8 uses all", "loading"]


class OnGpu:
    """A fake sampler that says that it is a vLLM engine on a GPU."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.info = msgspec.structs.replace(inner.info, engine="vllm", device="cuda", version="1")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.usefixtures("box")
def test_it_is_logged_once_for_all_tasks_of_a_checkpoint_and_stored_with_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(models, "open_model", lambda model, loaded, options: OnGpu(models.open_fake(model, loaded)))
    monkeypatch.setattr(models, "choose_engine", lambda *_: "vllm")
    monkeypatch.setattr("rlvr_bench.pipeline.check_before_loading", lambda *_: None)
    monkeypatch.setattr("rlvr_bench.pipeline.is_finished", lambda *_: False)
    line, options = "1 of 8 GPUs used; --replicas 8 uses all", SampleOptions(n=2, limit=2)
    with Job(options) as job, job.checkpoint(Silent()) as engines:
        runs = [
            pipeline.sample("fake:0.5", TASK, dataclasses.replace(options, out=tmp_path / name), engines=engines)
            for name in ("first", "second")
        ]
    assert [record.getMessage() for record in caplog.records].count(line) == 1
    for run in runs:
        assert list(open_run(run).manifest.sessions[-1].warnings) == [line]


# --------------------------------------------------------------------------------------------------------- replicas: auto
@pytest.mark.parametrize(
    ("count", "options", "models", "replicas"),
    [
        (8, {}, ["ckpt"], 8),
        (8, {"tensor_parallel_size": 4}, ["ckpt", "zoo:base"], 2),
        (8, {"tensor_parallel_size": 3}, ["ckpt"], 2),
        (8, {"tensor_parallel_size": 2, "pipeline_parallel_size": 4}, ["ckpt"], 1),
        (8, {"tensor_parallel_size": 16}, ["ckpt"], 1),
        (8, {"device": "cpu"}, ["ckpt"], 1),
        (8, {"device": "cuda:2"}, ["ckpt"], 1),
        (8, {"device": "cuda"}, ["ckpt"], 8),
        (8, {}, ["fake:0.3"], 1),
        (8, {"engine": "fake"}, ["ckpt"], 1),
        (8, {}, ["ckpt", "http://host:8000/v1"], 1),
        (8, {"ray": "auto"}, ["ckpt"], None),
        (1, {}, ["ckpt"], 1),
        (0, {}, ["ckpt"], 1),
        (0, {"tensor_parallel_size": 2}, ["ckpt"], 1),
    ],
)
def test_auto_is_what_the_gpus_hold(
    machine: Machine, count: int, options: Any, models: Sequence[str], replicas: int | None
) -> None:
    machine(count, None)
    assert with_replicas(asked(replicas="auto", **options), models).replicas == replicas


@pytest.mark.usefixtures("box")
def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rlvr_bench.scaling.cluster", None)
    with pytest.raises(EngineError, match=r"^--replicas and --ray need Ray: pip install 'rlvr-bench\[ray\]'$"):
        pipeline.sample("ckpt", TASK, SampleOptions(out=tmp_path, replicas="auto"))


def test_the_install_line_of_the_readme_brings_ray() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.search(r"a GPU:\n+```sh\npip install 'rlvr-bench\[([a-z,]+)\]'", (ROOT / "README.md").read_text())
    assert named is not None
    assert any(package.startswith("ray") for extra in named[1].split(",") for package in extras[extra])


@pytest.mark.usefixtures("box")
def test_a_number_stays() -> None:
    options = asked(replicas=3)
    assert with_replicas(options, ["ckpt"]) is options


@pytest.mark.parametrize("value", ["all", 0, -1, 2.5])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(BadArgument, match=r"--replicas is .*: must be at least 1, or auto"):
        SampleOptions(replicas=value)


@pytest.mark.parametrize("value", [0, -2, "two", 1.5, True])
@pytest.mark.usefixtures("box")
def test_a_size_is_a_positive_whole_number(value: object) -> None:
    for check in (lambda: engine_gpus({"tensor_parallel_size": value}), lambda: asked_auto(value)):
        with pytest.raises(BadArgument, match="tensor_parallel_size=.*must be a whole number of at least 1"):
            check()


def evaluate_all(model: str, task: str, options: SampleOptions) -> Any:
    return batch.evaluate_all([model], [task], options, GradeOptions(), Silent(), print)


def asked_auto(size: object) -> SampleOptions:
    return with_replicas(asked(replicas="auto", tensor_parallel_size=size), ["ckpt"])


@pytest.mark.parametrize("verb", [pipeline.sample, evaluate_all])
@pytest.mark.usefixtures("box")
def test_the_verbs_ask_for_as_many(verb: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def open_cluster(address: str | None, replicas: int | None, size: int) -> Any:
        raise EngineError(f"{address} {replicas} {size}")

    monkeypatch.setattr("rlvr_bench.pipeline.engines.open_cluster", open_cluster)
    options = SampleOptions(out=tmp_path, replicas="auto", engine_args={"tensor_parallel_size": 2})
    with pytest.raises(EngineError, match="^None 4 2$"):
        verb("ckpt", TASK, options)


# ------------------------------------------------------------------------------------------------- weights that do not fit
@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("size", "engine", "arguments", "message"),
    [
        (65, "vllm", {}, "the weights take 65 GB, a GPU has 48 GB: --engine-arg tensor_parallel_size=2"),
        (65, "transformers", {}, "a GPU has 48 GB: --engine vllm --engine-arg tensor_parallel_size=2"),
        (46, "vllm", {}, "a GPU has 48 GB and must hold the keys and values too: --engine-arg tensor_parallel_size=2"),
        (85, "vllm", {}, "--engine-arg tensor_parallel_size=4"),  # 42.5 GB of 44 would leave too little
        (200, "vllm", {"tensor_parallel_size": 2}, "take 200 GB, 2 GPUs have 96 GB: .*tensor_parallel_size=8"),
        (200, "vllm", {"pipeline_parallel_size": 2}, "take 200 GB, 2 GPUs have 96 GB: .*tensor_parallel_size=4"),
        (40, "vllm", {"gpu_memory_utilization": 0.5}, "--engine-arg tensor_parallel_size=2"),
        (900, "vllm", {}, "a GPU has 48 GB: the 8 GPUs here do not hold them: use larger ones, or quantised weights"),
    ],
)
def test_a_size_is_proposed_where_weights_do_not_fit(
    tmp_path: Path, size: float, engine: str, arguments: Any, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        check_gpus(checkpoint(tmp_path, size), engine, asked(**arguments))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("size", "engine", "arguments"),
    [
        (44, "vllm", {}),
        (47, "transformers", {}),
        (65, "vllm", {"tensor_parallel_size": 2}),
        (65, "vllm", {"quantization": "fp8"}),
        (65, "vllm", {"cpu_offload_gb": 40}),
        (65, "transformers", {"device": "cpu"}),
        (65, "vllm", {"ray": "auto"}),
        (65, "endpoint", {}),
    ],
)
def test_what_fits_or_cannot_be_known_is_left_to_the_engine(
    tmp_path: Path, size: float, engine: str, arguments: Any
) -> None:
    check_gpus(checkpoint(tmp_path, size), engine, asked(**arguments))


def test_nothing_is_checked_without_gpus_or_their_memory(tmp_path: Path, machine: Machine) -> None:
    for count, memory in ((0, 48), (8, None)):
        machine(count, memory)
        check_gpus(checkpoint(tmp_path, 900), "vllm", asked())
        check_gpus("someone/not-in-the-cache", "vllm", asked())


@pytest.mark.usefixtures("box")
def test_an_engine_larger_than_the_machine(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="GPUs of one engine is 16: this machine has 8"):
        check_gpus(checkpoint(tmp_path, 1), "vllm", asked(tensor_parallel_size=16))


@pytest.mark.usefixtures("box")
def test_it_is_said_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "choose_engine", lambda model, options: "vllm")
    monkeypatch.setattr(models, "open_model", lambda *_: pytest.fail("it was loaded"))
    folder = checkpoint(tmp_path / "large", 65)
    with pytest.raises(RlvrBenchError, match="--engine-arg tensor_parallel_size=2"):
        pipeline.sample(folder, TASK, SampleOptions(out=tmp_path / "runs", n=2, limit=1))


def test_the_heads_decide_which_sizes_there_are() -> None:
    assert [size for size in range(1, 17) if Shape(40, 8).allows(size)] == [1, 2, 4, 8]
    assert [size for size in range(1, 17) if Shape(14, 2).allows(size)] == [1, 2, 14]
    assert [size for size in range(1, 17) if Shape(None, None).allows(size)] == [1, 2, 4, 8, 16]


# ------------------------------------------------------------------------------------------------------- sizes of weights
def test_the_numbers_count_with_the_type_that_they_are_loaded_in(tmp_path: Path) -> None:
    single = typed(tmp_path / "single", "F32", 1000)
    assert loaded_bytes(single, "vllm") == 2000
    assert loaded_bytes(single, "vllm", "float32") == 4000
    assert loaded_bytes(single, "transformers") == 2000
    assert loaded_bytes(typed(tmp_path / "half", "BF16", 1000), "vllm", "float32") == 4000
    assert loaded_bytes(typed(tmp_path / "bytes", "U8", 1000), "vllm") == 1000
    packed = typed(tmp_path / "packed", "F32", 1000, quantization_config={"quant_method": "awq"})
    assert loaded_bytes(packed, "vllm") >= 4000


def test_weights_that_are_stored_twice_count_once(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors", "consolidated.safetensors", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"0" * 100)
    assert [path.name for path in loaded_files(tmp_path)] == ["model-1.safetensors", "model-2.safetensors"]
    index = {"weight_map": {"a": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [path.name for path in loaded_files(tmp_path)] == ["model-2.safetensors"]
    (tmp_path / "model.safetensors.index.json").write_text("[1")
    assert len(loaded_files(tmp_path)) == 2


def test_files_that_are_no_weights_do_not_count(tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.bin", "adapter_model.bin"):
        (tmp_path / name).write_bytes(b"0" * 100)
    assert loaded_bytes(str(tmp_path), "vllm") == 100
