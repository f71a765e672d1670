"""Adapters as checkpoints: one engine for a series, a run of its own for each, resumed and never continued by another."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs rlvr-bench[torch]")
pytest.importorskip("peft", reason="needs rlvr-bench[torch]")

from rlvr_bench import pipeline
from rlvr_bench.analysis.training_series import series
from rlvr_bench.errors import BadArgument, ModelError, RunMismatch
from rlvr_bench.leaderboards import leaderboard
from rlvr_bench.options import InterveneOptions, RescoreOptions
from rlvr_bench.pipeline import engines, models
from rlvr_bench.pipeline.batch import Result, evaluate_all
from rlvr_bench.pipeline.intervening import intervene
from rlvr_bench.pipeline.options import GradeOptions, SampleOptions, Silent
from rlvr_bench.pipeline.rescoring import rescore
from rlvr_bench.samplers import loaded_transformers
from rlvr_bench.store import open_run
from rlvr_bench.task import load_task
from tests.conftest import run_verb
from tests.samplers.made_adapters import lora_tensors, make_adapter

TASK = "double_countdown"
BASE = Path(models.resolve_model("zoo:base"))
GRADING = GradeOptions(workers=1)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded."""
    loaded: list[str] = []
    real = loaded_transformers.LoadedTransformers.__init__

    def noted(self: Any, options: Any) -> None:
        loaded.append(options.model)
        real(self, options)

    monkeypatch.setattr(loaded_transformers.LoadedTransformers, "__init__", noted)
    return loaded


def options(out: Path, **changed: Any) -> SampleOptions:
    given: dict[str, Any] = {"n": 4, "limit": 3, "max_tokens": 40, "engine": "transformers", "out": out, **changed}
    return SampleOptions(**given)


def evaluated(out: Path, *adapters: object, **changed: Any) -> list[Result]:
    asked = options(out, **changed)
    return evaluate_all(["zoo:base"], [TASK], asked, GRADING, Silent(), lambda _: None, list(map(str, adapters)))


def test_a_series_of_adapters_takes_one_engine_and_a_run_for_each(tmp_path: Path, loads: list[str]) -> None:
    """Also two adapters of one name, one of a larger rank, and one that cannot be read."""
    steps = [make_adapter(tmp_path / f"exp/step-{step}", BASE, rank=step // 10, seed=step) for step in (20, 100)]
    again = make_adapter(tmp_path / "other/exp/step-20", BASE, seed=7)
    broken = make_adapter(tmp_path / "broken", BASE, peft_type="LOHA")
    out = tmp_path / "runs"
    results = evaluated(out, tmp_path / "exp/step-*", broken, again)
    assert loads == [str(BASE)]
    assert [result.model for result in results] == [str(path) for path in (*steps, broken, again)]
    assert [result.error is None for result in results] == [True, True, False, True]
    assert "an adapter of the type LOHA" in str(results[2].error)
    runs = [result.run for result in results if result.run is not None]
    assert [
        run.parent.name.rpartition("-")[0] if number == 2 else run.parent.name for number, run in enumerate(runs)
    ] == [
        "exp--step-20",
        "exp--step-100",
        "exp--step-20",
    ]
    manifests = [open_run(run).manifest for run in runs]
    assert {manifest.base_model for manifest in manifests} == {"zoo:base"}
    assert len({manifest.weights for manifest in manifests}) == 3
    assert len({manifest.drawn_by for manifest in manifests}) == 3
    training = series([str(run) for run in runs[:2]])
    assert [checkpoint.step for checkpoint in training.checkpoints] == [20, 100]

    assert all(result.error is None for result in evaluated(out, tmp_path / "exp/step-*", again))  # all are there
    assert len(loads) == 1
    rows = leaderboard(runs, ks=(1, 4)).rows
    assert {row["base_model"] for row in rows} == {"zoo:base"}
    assert {row["step"] for row in rows} == {20, 100}


def test_it_is_topped_up_with_the_same_draws_and_continued_by_no_other(tmp_path: Path, loads: list[str]) -> None:
    adapter = make_adapter(tmp_path / "lora", BASE)
    whole, parts = (options(tmp_path / name, adapter=str(adapter), n=8, draw_batch=4) for name in ("whole", "parts"))
    cards = [pipeline.evaluate("zoo:base", TASK, whole, GRADING)[1]]
    for n in (4, 8):
        run, card = pipeline.evaluate("zoo:base", TASK, dataclasses.replace(parts, n=n), GRADING)
    cards.append(card)
    assert len(loads) == 3
    assert [[(p.id, p.n, p.c) for p in card.problems] for card in cards] == [
        [(p.id, p.n, p.c) for p in cards[0].problems]
    ] * 2
    moved = shutil.move(adapter, tmp_path / "moved" / "elsewhere")
    by_weights = dataclasses.replace(parts, adapter=str(moved))
    shutil.move(run.parent, tmp_path / "parts" / "moved--elsewhere")
    assert pipeline.sample("zoo:base", TASK, by_weights).parent.name == "moved--elsewhere"
    assert len(loads) == 3
    shutil.move(str(moved), adapter)
    make_adapter(adapter, BASE, seed=5)
    with pytest.raises(RunMismatch, match="weights: run has"):
        pipeline.sample("zoo:base", TASK, whole)
    assert len(loads) == 3
    base = pipeline.sample("zoo:base", TASK, dataclasses.replace(whole, adapter=None))
    assert base.parent.name == "zoo-base"


def test_one_adapter_on_two_bases_is_two_runs(tmp_path: Path) -> None:
    """A copy of the base with other weights has the same shapes."""
    other = tmp_path / "base2"
    shutil.copytree(BASE, other)
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    asked = options(
        tmp_path / "runs", adapter=str(make_adapter(tmp_path / "lora", BASE)), n=1, limit=1, token_stats="off"
    )
    runs = [pipeline.sample(base, TASK, asked) for base in ("zoo:base", str(other))]
    assert len(set(runs)) == 2
    assert runs[0].parent.name == "lora" or runs[0].parent.name.endswith("--lora")
    assert runs[1].parent.name.startswith(f"{runs[0].parent.name}-")
    manifests = [open_run(run).manifest for run in runs]
    assert [manifest.base_model for manifest in manifests] == ["zoo:base", str(other)]
    assert [run == pipeline.sample(base, TASK, asked) for run, base in zip(runs, ("zoo:base", str(other)), strict=True)]
    states_another = "the adapter states another base model, by name"
    assert [any(states_another in text for text in manifest.sessions[0].warnings) for manifest in manifests] == [
        False,
        True,
    ]


def test_a_replica_gets_the_adapter_wherever_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What opens an engine in another process: it is sent there, and that process has another working directory."""
    adapter = make_adapter(tmp_path / "lora", BASE)
    monkeypatch.chdir(tmp_path)
    opener = engines._opener("zoo:base", load_task(TASK), options(tmp_path / "runs", adapter="lora"))
    monkeypatch.chdir("/")
    sampler = pickle.loads(pickle.dumps(opener))()
    assert sampler.info.adapter == str(adapter)
    assert "+lora:sha256:" in sampler.info.weights
    sampler.close()


def test_other_options_beside_an_adapter(tmp_path: Path) -> None:
    """The context and the recommended parameters are those of the base."""
    base = shutil.copytree(BASE, tmp_path / "base")
    recommended = json.loads((base / "generation_config.json").read_text()) | {"do_sample": True, "temperature": 0.65}
    (base / "generation_config.json").write_text(json.dumps(recommended))
    adapter = str(make_adapter(tmp_path / "lora", BASE))
    asked = options(tmp_path / "runs", adapter=adapter, max_tokens="auto", sampling="generation-config", limit=1, n=1)
    manifest = open_run(pipeline.sample(str(base), TASK, asked)).manifest
    assert manifest.sampling is not None
    assert manifest.sampling.temperature == 0.65
    assert manifest.sampling.max_tokens > 40


def test_a_run_is_rescored_under_its_adapter_and_an_adapters_run_under_the_base(tmp_path: Path) -> None:
    adapter = str(make_adapter(tmp_path / "lora", BASE))
    full = options(tmp_path / "runs", token_stats="full", n=2, adapter=adapter)
    run = pipeline.sample("zoo:base", TASK, full)
    same = rescore(run, "zoo:base", RescoreOptions(engine="transformers", adapter=adapter, exact_kl=True))
    assert same.other.model == adapter
    assert same.own.weights == same.other.weights
    kl = {estimate.name: estimate.value for estimate in same.estimates if estimate.group is None}
    assert kl["kl"] == pytest.approx(0, abs=1e-6)
    base = rescore(run, "zoo:base", RescoreOptions(engine="transformers", exact_kl=True))
    kl = {estimate.name: estimate.value for estimate in base.estimates if estimate.group is None}
    assert kl["kl"] is not None
    assert kl["kl"] > 0.01
    assert base.other.model == "zoo:base"
    assert len(list((run / "rescored").iterdir())) == 2


def test_tokens_of_an_adapters_run_are_swapped_under_the_adapter(tmp_path: Path) -> None:
    adapter = str(make_adapter(tmp_path / "lora", BASE))
    run = pipeline.sample("zoo:base", TASK, options(tmp_path / "runs", token_stats="full", n=2, adapter=adapter))
    asked = InterveneOptions(strata=("position",), sites=1, repeats=1)
    assert intervene(run, asked, GRADING).n_sites > 0
    with pytest.raises(ModelError, match="is not the model of this run"):
        intervene(
            run, InterveneOptions(strata=("position",), sites=1, repeats=1, name="base", model="zoo:base"), GRADING
        )
    file = Path(adapter) / "adapter_model.safetensors"
    file.rename(file.with_suffix(".bin"))  # the folder may come from anybody, and a pickle is not opened for it
    with pytest.raises(ModelError, match=r"is no safetensors\. Name the run's checkpoint with --model and --adapter"):
        intervene(run, InterveneOptions(strata=("position",), sites=2, repeats=1, name="pickle"), GRADING)


# --------------------------------------------------------------------------------------------------------- bad input
def test_an_adapter_of_another_base_is_refused_before_the_model_loads(tmp_path: Path, loads: list[str]) -> None:
    tensors = {name: tensor[:, :64] if ".lora_A" in name else tensor for name, tensor in lora_tensors(BASE).items()}
    narrow = make_adapter(tmp_path / "narrow", BASE, tensors={n: t.copy() for n, t in tensors.items()})
    (result,) = evaluated(tmp_path / "runs", narrow)
    assert "the adapter is of another base" in str(result.error)
    assert loads == []
    assert not (tmp_path / "runs").exists()


def test_without_peft_it_is_one_line_before_the_model_loads(
    tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else plain(name, *rest))
    (result,) = evaluated(tmp_path / "runs", make_adapter(tmp_path / "lora", BASE))
    assert result.error == "--adapter with the transformers engine needs peft: pip install 'rlvr-bench[torch]'"
    assert loads == []


def test_adapters_belong_to_one_model(tmp_path: Path) -> None:
    asked = options(tmp_path)
    with pytest.raises(BadArgument, match="name the one model that the adapters belong to"):
        evaluate_all(["zoo:base", "fake"], [TASK], options(tmp_path, adapter="a"), GRADING, Silent(), lambda _: None)
    with pytest.raises(BadArgument, match="name the one model that the adapters belong to"):
        evaluate_all(["zoo:base", "fake"], [TASK], asked, GRADING, Silent(), lambda _: None, ["a"])
    with pytest.raises(ModelError, match="no checkpoint folder matches"):
        evaluate_all(["zoo:base"], [TASK], asked, GRADING, Silent(), lambda _: None, [f"{tmp_path}/no*"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("sample", "--model", "fake", "--task", TASK), "fake has no weights that it could change"),
        (("sample", "--model", "http://localhost:1/v1", "--task", TASK), "a server loads adapters itself"),
        (("evaluate", "--model", "zoo:base", "--task", TASK, "--dry-run"), "no such folder. --adapter takes"),
        (("prompts", "show", "raw"), "--adapter is './nowhere': needs its base: --model"),
        (("prompts", "show", "raw", "--model", "zoo:base"), "no such folder. --adapter takes"),
        (("rescore", "RUN", "--model", "zoo:base"), "is not a run|no run|not a run"),
        (("intervene", "RUN"), "--adapter is './nowhere': needs its base: --model"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    arguments: tuple[str, ...],
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_verb(*arguments, "--adapter", "./nowhere") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert any(part in line for part in why.split("|")), line


def test_prompts_are_those_of_the_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = str(make_adapter(tmp_path / "lora", BASE))
    texts = []
    for extra in ((), ("--adapter", adapter)):
        assert run_verb("prompts", "show", "raw", "-t", TASK, "-m", "zoo:base", "--json", *extra) in (None, 0)
        texts.append(json.loads(capsys.readouterr().out))
    assert texts[0]["text"] == texts[1]["text"]
    assert texts[1]["model"] == adapter
