"""Checkpoints and adapters that load with wrong numbers, or make a reader fail in its own way: one line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlvr_bench import SampleOptions, pipeline
from rlvr_bench.errors import EngineError, ModelError
from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.generation_config import recommended_sampling
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.vllm_packing import columns_of
from tests.samplers.tiny_llama import make_tiny_llama

torch = pytest.importorskip("torch", reason="needs the torch extra")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_llama(tmp_path / "model")


def sampler(model: Path) -> Any:
    from rlvr_bench.samplers.transformers import TransformersSampler

    return TransformersSampler(SamplerOptions(model=str(model)))


def change(model: Path, name: str, tensor: Any = None) -> None:
    """Replace a tensor of the checkpoint, or take it out."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


REQUEST = DrawRequest(prompt=Prompt(problem_id="p", text="1 + 1 ="), start=0, n=2, seed=1)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_a_law_of_nan_draws_nothing(model: Path, temperature: float) -> None:
    change(model, "model.norm.weight", torch.full((make_width(model),), torch.nan))
    asked = REQUEST if temperature else DrawRequest(prompt=REQUEST.prompt, start=0, n=1, seed=1)
    sampling = SamplingParameters(temperature=temperature, top_p=1.0, max_tokens=4)
    with pytest.raises(EngineError, match="not finite"):
        list(sampler(model).draw([asked], sampling))


def make_width(model: Path) -> int:
    width: int = json.loads((model / "config.json").read_bytes())["hidden_size"]
    return width


def test_a_temperature_near_0_draws_the_likeliest_token(model: Path) -> None:
    opened = sampler(model)
    cold, greedy = (
        next(iter(opened.draw([DrawRequest(prompt=REQUEST.prompt, start=0, n=1, seed=1)], sampling))).rollouts[0].text
        for sampling in (
            SamplingParameters(temperature=1e-300, top_p=1.0, max_tokens=8),
            SamplingParameters(temperature=0.0, top_p=1.0, max_tokens=8),
        )
    )
    assert cold == greedy
    extreme = SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=8, repetition_penalty=1e-300)
    with pytest.raises(EngineError, match="penalty is too extreme"):
        list(opened.draw([REQUEST], extreme))


def test_weights_that_are_missing_are_refused_and_too_many_are_a_caution(model: Path) -> None:
    change(model, "lm_head.extra.weight", torch.zeros(2))
    assert any("does not use: lm_head.extra.weight" in text for text in sampler(model).info.cautions)
    change(model, "model.norm.weight")
    with pytest.raises(ModelError, match=r"no weights for model\.norm\.weight"):
        sampler(model)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"\x10\0\0\0\0\0\0\0{}"),
        ("config.json", b"[" * 100_000),
        ("config.json", b'{"model_type": "llama", "max_position_embeddings": "128"}'),
        ("tokenizer.json", b"{}"),
    ],
)
def test_damaged_files_are_an_error_of_the_model(model: Path, tmp_path: Path, file: str, content: bytes) -> None:
    (model / file).write_bytes(content)
    with pytest.raises(ModelError, match="model"):
        sampler(model)
    options = SampleOptions(n=2, limit=2, out=tmp_path / "runs", engine="transformers")
    with pytest.raises(ModelError, match="model"):
        pipeline.sample(str(model), "double_countdown", options)


@pytest.mark.parametrize("value", ["1e999", "1" + "0" * 400, "-Infinity", "NaN"])
@pytest.mark.parametrize("name", ["top_k", "temperature"])
def test_numbers_that_no_engine_takes_are_an_error_of_the_generation_config(model: Path, name: str, value: str) -> None:
    (model / "generation_config.json").write_text(f'{{"{name}": {value}}}')
    with pytest.raises(ModelError, match="generation_config"):
        recommended_sampling(str(model))


def test_statistics_that_are_not_finite_are_named_as_such() -> None:
    tokens = [7, 8]
    ids = np.array([[7, 6, 5], [8, 7, 6]])
    with pytest.raises(EngineError, match="not finite"):
        columns_of(ids, np.array([[-1.0, 0.5, 2.0], [np.nan, np.nan, 2.0]]), tokens)


def test_responses_are_not_scored_under_a_model_of_nan(model: Path) -> None:
    from rlvr_bench.samplers.logprobs import Passage
    from rlvr_bench.samplers.logprobs_transformers import TransformersScorer

    change(model, "model.norm.weight", torch.full((make_width(model),), torch.nan))
    scorer = TransformersScorer(SamplerOptions(model=str(model)))
    with pytest.raises(EngineError, match="not finite"):
        list(scorer.score([Passage(prompt=(3, 4), response=np.array([5, 6], np.int32))]))
