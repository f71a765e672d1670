"""Checkpoints that must not be loaded as they are: no code of theirs runs, nobody is asked, and the error is one line."""

from __future__ import annotations

import builtins
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from rlvr_bench.errors import BadArgument, EngineError, ModelError  # noqa: E402
from rlvr_bench.samplers import SamplerOptions, open_sampler, open_tokenizer  # noqa: E402
from rlvr_bench.samplers.engine_arguments import check_engine_arguments  # noqa: E402
from rlvr_bench.samplers.load_faults import known_fault, loading_fault  # noqa: E402
from tests.samplers.tiny_llama import make_tiny_llama  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_llama(tmp_path / "ckpt")


def load(folder: Path, **arguments: object) -> Any:
    return open_sampler("transformers", SamplerOptions(model=str(folder), token_stats="off", engine_args=arguments))


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["archive", "pickle"])
def test_a_pickle_of_more_than_tensors_is_refused_and_not_run(folder: Path, tmp_path: Path, kind: str) -> None:
    weights = folder / "pytorch_model.bin"
    (folder / "model.safetensors").unlink()
    if kind == "archive":
        torch.save({"w": Touch(tmp_path / "ran")}, weights)
    else:
        weights.write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(ModelError, match="could run code: save them as safetensors") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_of_tensors_is_loaded(folder: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    load(folder).close()


def with_code(folder: Path, part: str, ran: Path) -> None:
    """Let the configuration of the model or of the tokenizer name code in the folder."""
    (folder / "mine.py").write_text(f"import pathlib\n\npathlib.Path({str(ran)!r}).touch()\n")
    file = folder / ("config.json" if part == "model" else "tokenizer_config.json")
    config = json.loads(file.read_text())
    if part == "model":
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}}
    else:
        config |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.T", None]}}
    file.write_text(json.dumps(config))


@pytest.mark.parametrize("part", ["model", "tokenizer"])
def test_code_of_a_model_is_neither_run_nor_asked_about(
    folder: Path, tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_code(folder, part, tmp_path / "ran")
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("it asks"))
    openers: list[Callable[[Path], object]] = [load]
    if part == "tokenizer":
        openers.append(lambda path: open_tokenizer(str(path)))
    for opener in openers:
        with pytest.raises(ModelError, match=f"custom code: read it .{folder}.*trust_remote_code=true") as caught:
            opener(folder)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", ["model", "tokenizer"])
def test_it_is_run_where_it_is_allowed(
    folder: Path, tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with_code(folder, part, tmp_path / "ran")
    with pytest.raises(Exception):  # noqa: B017  the code has none of the classes
        load(folder, trust_remote_code=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
@pytest.mark.parametrize("value", ["False", "no", 1, 0, None])
def test_only_true_allows_it(engine: str, value: object) -> None:
    with pytest.raises(BadArgument, match="trust_remote_code is .*: must be true or false"):
        check_engine_arguments(engine, {"trust_remote_code": value}, "off")
    for allowed in (True, False):
        check_engine_arguments(engine, {"trust_remote_code": allowed}, "off")


class GatedRepoError(OSError):
    """By its name, the error of huggingface_hub."""


@pytest.mark.parametrize(
    "text", ["You are trying to access a gated repo.\nMake sure to have access to it.", "403 Client Error."]
)
def test_a_gated_model_says_what_to_do(text: str) -> None:
    try:
        try:
            raise GatedRepoError("403 Client Error.\n\nCannot access gated repo for url https://huggingface.co/...")
        except GatedRepoError as cause:
            raise OSError(text) from cause
    except OSError as error:
        fault = loading_fault("meta-llama/Llama-3.1-8B", error)
    assert fault == (
        "it is gated: accept its terms at https://huggingface.co/meta-llama/Llama-3.1-8B, then run `hf auth login` or set "
        "HF_TOKEN"
    )


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_the_same_through_vllm(kind: type[Exception], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM refuses while it reads the configuration, or fails to start."""
    from rlvr_bench.samplers import loaded_vllm

    def llm(**_: object) -> None:
        raise kind("Failed to load the model config.") from GatedRepoError("Cannot access gated repo.")

    monkeypatch.setattr(loaded_vllm, "_defaults", dict)
    monkeypatch.setattr(loaded_vllm, "refusals", lambda: (ValueError,))
    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(LLM=llm, __version__="0.32.0"))
    with pytest.raises(ModelError, match=f"vLLM cannot load .{folder}.: it is gated: accept its terms at"):
        loaded_vllm.LoadedVllm(SamplerOptions(model=str(folder), token_stats="off"))


def test_another_version_of_vllm_loads_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlvr_bench.samplers import loaded_vllm

    def llm(**_: object) -> None:
        pytest.fail("the model was loaded")

    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(LLM=llm, __version__="0.25.1"))
    with pytest.raises(EngineError, match=r"vLLM 0.25.1 is not supported: .*0.26 to 0.33"):
        loaded_vllm.LoadedVllm(SamplerOptions(model=str(folder), token_stats="off"))


def test_any_other_error_keeps_its_first_line() -> None:
    assert loading_fault("m", OSError("the file is damaged\nand more")) == "the file is damaged"
    assert loading_fault("m", KeyError()) == "KeyError"
    assert known_fault("m", ValueError("consider setting `trust_remote_code=True`")) is None
