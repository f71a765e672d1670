"""Warnings that change the meaning of a number: decided once, kept in the scorecard, shown wherever it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlvr_bench import pipeline
from rlvr_bench.comparison.cards import read_card
from rlvr_bench.pipeline import SampleOptions, models
from rlvr_bench.pipeline.cautions import cautions
from rlvr_bench.pipeline.gpus import visible_gpus
from rlvr_bench.records import Draw, EngineInfo, SamplingParameters
from rlvr_bench.reporting.content import page_task
from rlvr_bench.reporting.sources import read_sources
from rlvr_bench.samplers.model_files import template_cautions
from rlvr_bench.scorecard import ScoredRun, scorecard_from
from rlvr_bench.scorers.warnings import warnings_of
from rlvr_bench.task import load_task

TASK = "double_countdown"
INFO = EngineInfo(
    engine="vllm",
    version="1",
    model="m",
    weights="w",
    context_tokens=None,
    chat_template=None,
    token_stats="none",
    dtype="bfloat16",
    device="cuda",
)


def run_with(**fields: Any) -> ScoredRun:
    """A scorecard's run of which only these fields are known."""
    return scorecard_from({"schema": 1, "run": fields, "problems": [], "estimates": [], "quality": {}}).run


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        ({"truncation_rate": 0.05, "error_rate": 0.0099}, []),
        ({"truncation_rate": 0.051, "error_rate": 0.0}, ["5.1% of the responses were cut at max_tokens (512)"]),
        ({"truncation_rate": 0.0, "error_rate": 0.01}, ["1.0% of the rollouts have no verdict"]),
        ({"truncation_rate": 0.6, "error_rate": 1.0}, ["60.0% of the responses", "100.0% of the rollouts"]),
        ({"truncation_rate": None, "error_rate": None}, []),
        ({}, []),
    ],
)
def test_rates_from_which_on_a_number_means_something_else(quality: Any, words: list[str]) -> None:
    texts = warnings_of(run_with(sampling={"max_tokens": 512}), quality)
    assert len(texts) == len(words)
    assert all(text.startswith(start) for text, start in zip(texts, words, strict=True))


def test_old_and_imported_scorecards_have_warnings_too() -> None:
    assert warnings_of(run_with(sampling=None, sessions=[]), {"truncation_rate": 0.5})
    assert warnings_of(run_with(sessions=[{"n": 4}]), {}) == []
    sessions = [{"warnings": ["a"]}, {"warnings": ["a", "b"]}]
    assert warnings_of(run_with(sessions=sessions), {}) == ["a", "b"]


# ------------------------------------------------------------------------------------------------ how a run is drawn
def test_a_limit_that_was_cut_and_gpus_that_are_idle() -> None:
    task = load_task(TASK).task
    asked = (task.sampling or SamplingParameters()).max_tokens
    cut = SamplingParameters(max_tokens=asked - 1)
    assert cautions(task, SampleOptions(), cut, INFO, 1) == (
        f"max_tokens is {asked - 1:,}, not the task's {asked:,}: the model's context has no more room",
    )
    whole = SamplingParameters(max_tokens=asked)
    assert not cautions(task, SampleOptions(max_tokens=asked - 1), cut, INFO, 1)
    assert cautions(task, SampleOptions(), whole, INFO, 8) == ("1 of 8 GPUs used; --replicas 8 uses all",)
    four = SampleOptions(engine_args={"tensor_parallel_size": 2}, replicas=2)
    assert cautions(task, four, whole, INFO, 8) == ("4 of 8 GPUs used; --replicas 4 uses all",)
    for options in (
        SampleOptions(replicas=8),
        SampleOptions(ray="auto"),
        SampleOptions(engine_args={"tensor_parallel_size": 8}),
    ):
        assert not cautions(task, options, whole, INFO, 8)
    assert not cautions(task, SampleOptions(), whole, msgspec.structs.replace(INFO, device="cpu"), 8)


def test_gpus_are_counted_without_a_library(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia12", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert visible_gpus({}, tmp_path) == 3
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}, tmp_path) == 1
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2,"}, tmp_path) == 2
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == 0
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) == 0


def test_a_template_that_is_left_out() -> None:
    class Tokenizer:
        chat_template = "{{ messages }}"

    assert "not applied" in template_cautions(Tokenizer(), "none")[0]
    assert not template_cautions(Tokenizer(), "auto")
    assert not template_cautions(object(), "none")


# ------------------------------------------------------------------------------------------------ where they are shown
class Cut:
    """A fake sampler whose responses are all cut, on a machine of which it uses a part."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.info = msgspec.structs.replace(inner.info, cautions=("the engine is odd",))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def draw(self, requests: Any, sampling: Any) -> Any:
        for draw in self._inner.draw(requests, sampling):
            rollouts = [msgspec.structs.replace(rollout, finish_reason="length") for rollout in draw.rollouts]
            yield Draw(request=draw.request, rollouts=tuple(rollouts))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    honest = models.open_fake
    monkeypatch.setattr(models, "open_fake", lambda model, loaded: Cut(honest(model, loaded)))
    return pipeline.evaluate("fake:0.5", TASK, SampleOptions(n=4, limit=5, out=tmp_path))[0]


def test_they_are_in_the_log_the_scorecard_and_the_report(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    card = read_card(run / "scorecard.json")[1]
    odd, cut = card.run["warnings"]
    assert odd == "the engine is odd"
    assert cut.startswith("100.0% of the responses were cut")
    warned = [record.getMessage() for record in caplog.get_records("setup") if record.levelname == "WARNING"]
    assert warned.index(odd) < warned.index(cut)
    page = page_task(read_sources([run]), (), 4)
    assert page.warnings == [odd, cut]
    assert page_task(read_sources([run, run.parent / run.name]), (), 4).warnings == [odd, cut]


def test_score_prints_them(run: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "rlvr_bench", "score", str(run)], capture_output=True, text=True, check=True
    )
    for stream in (said.stdout, said.stderr):
        lines = [line for line in stream.splitlines() if line.startswith("warning: ")]
        assert [line[:30] for line in lines] == ["warning: the engine is odd", "warning: 100.0% of the respons"]


def test_a_scorecard_without_the_list_is_read(run: Path) -> None:
    file = run / "scorecard.json"
    content = json.loads(file.read_bytes())
    del content["run"]["warnings"]
    for session in content["run"]["sessions"]:
        del session["warnings"]
    file.write_text(json.dumps(content))
    assert [text[:6] for text in page_task(read_sources([run]), (), 4).warnings] == ["100.0%"]
