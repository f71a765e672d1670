"""The parameters that a model recommends: read, taken where asked for, and said where others are used."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers", reason="needs the torch extra")

from rlvr_bench import pipeline
from rlvr_bench.errors import BadArgument, ModelError
from rlvr_bench.options import SampleOptions
from rlvr_bench.records import SamplingParameters
from rlvr_bench.samplers.generation_config import recommended_sampling
from rlvr_bench.store import open_run
from tests.samplers.tiny_llama import make_tiny_llama

TASK = "double_countdown"
QWEN = {
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
    "repetition_penalty": 1.05,
    "do_sample": True,
    "eos_token_id": [2],
}


def recommending(folder: Path, **values: Any) -> str:
    made = make_tiny_llama(folder)
    file = made / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return str(made)


def drawn(model: str, out: Path, **changed: Any) -> SamplingParameters:
    options = SampleOptions(n=2, limit=1, engine="transformers", out=out, **changed)
    sampling = open_run(pipeline.sample(model, TASK, options)).manifest.sampling
    assert sampling is not None
    return sampling


def test_the_recommended_parameters_are_taken_and_those_passed_go_first(tmp_path: Path) -> None:
    model = recommending(tmp_path / "m", **QWEN)
    taken = drawn(model, tmp_path / "a", sampling="generation-config", top_p=0.9)
    assert taken.in_words() == "T=0.7 top-p=0.9 top-k=20 repetition-penalty=1.05"
    assert taken.max_tokens == 32  # the task's
    again = drawn(
        model, tmp_path / "a", sampling="generation-config", top_p=0.9
    )  # the run on disk is the one asked for
    assert again == taken


def test_what_the_model_does_not_name_changes_nothing(tmp_path: Path) -> None:
    model = recommending(tmp_path / "m", temperature=0.6)
    assert drawn(model, tmp_path / "a", sampling="generation-config").in_words() == "T=0.6 top-p=1"


def test_a_line_says_where_others_are_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = recommending(tmp_path / "m", **QWEN)
    with caplog.at_level(logging.INFO, "rlvr_bench"):
        drawn(model, tmp_path / "a", temperature=0.7)
        assert (
            "the model recommends top-p 0.8, top-k 20, repetition-penalty 1.05; used: top-p 1, top-k 0, "
            "repetition-penalty 1" in caplog.text
        )
        caplog.clear()
        drawn(model, tmp_path / "b", sampling="generation-config")
    assert "recommends" not in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"temperature": "hot"}', "no generation config that can be read"),
        ('{"temperature": true}', "no generation config that can be read"),
        ('{"temperature": -1}', "--temperature is -1: must be 0 or more"),
        ('{"top_p": NaN}', r"--top-p is nan: must be in \(0, 1\]"),
        ("[]", "no generation config that can be read"),
        ("{", "no generation config that can be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(ModelError, match=message) as error:
        recommended_sampling(str(tmp_path))
    assert "\n" not in str(error.value)


def test_no_limit_may_be_written_as_minus_one(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"top_k": -1, "top_p": null}')
    assert recommended_sampling(str(tmp_path)) == {"top_k": 0}


@pytest.mark.parametrize("model", ["zoo:base", "fake:0.5"])
def test_a_model_without_recommendations_is_refused(tmp_path: Path, model: str) -> None:
    options = SampleOptions(n=2, limit=1, out=tmp_path / "runs", sampling="generation-config")
    with pytest.raises(BadArgument, match="--sampling is 'generation-config': .* has no generation_config.json with"):
        pipeline.sample(model, TASK, options)
    assert not list(tmp_path.iterdir())
