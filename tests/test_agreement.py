"""Whether a run folder holds what is asked: found before an engine loads, with every field that decides what is drawn."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlvr_bench import pipeline
from rlvr_bench.errors import BadArgument, EngineError, RunMismatch
from rlvr_bench.pipeline import GradeOptions, SampleOptions, models
from rlvr_bench.pipeline.folders import path_digest
from rlvr_bench.pipeline.forecast import forecast
from rlvr_bench.samplers.engine_arguments import deciding, recorded
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.store import Manifest, open_run
from rlvr_bench.zoo.checkpoints import checkpoint_path
from tests.conftest import manifest_with, require, run_verb

TASK = "double_countdown"


# ------------------------------------------------------------------------------------------------ what is compared
@pytest.mark.parametrize(
    ("before", "now", "named"),
    [
        ({}, {"hf_overrides": {"rms_norm_eps": 0.5}}, "engine_args.hf_overrides"),
        ({"quantization": "fp8"}, {}, "engine_args.quantization"),
        ({"kv_cache_dtype": "auto"}, {"kv_cache_dtype": "fp8"}, "engine_args.kv_cache_dtype"),
        ({}, {"tokenizer": "other"}, "engine_args.tokenizer"),
        ({"load_format": "dummy"}, {"load_format": "auto"}, "engine_args.load_format"),
        ({}, {"an_argument_of_tomorrow": 1}, "engine_args.an_argument_of_tomorrow"),
        ({"trust_remote_code": True}, {}, "engine_args.trust_remote_code"),
    ],
)
def test_an_engine_argument_that_decides_is_named(before: Any, now: Any, named: str) -> None:
    assert list(manifest_with(engine_args=before).differing(manifest_with(engine_args=now))) == [named]


def test_where_and_how_fast_may_change_and_unknown_stays_unknown() -> None:
    mine = manifest_with(engine_args={"max_num_seqs": 8, "gpu_memory_utilization": 0.5})
    assert not mine.differing(manifest_with(engine_args={"tensor_parallel_size": 4, "enforce_eager": True}))
    assert not manifest_with(engine_args=None).differing(manifest_with(engine_args={"quantization": "fp8"}))
    assert not manifest_with(model_files=None).differing(manifest_with(model_files={"config.json": "a"}))
    differing = manifest_with(model_files={"config.json": "a"}).differing(
        manifest_with(model_files={"config.json": "b"})
    )
    assert list(differing) == ["model_files.config.json"]


def test_what_is_recorded_is_data_without_secrets() -> None:
    class Setting:
        """Stands for an object of an engine's own."""

    kept = recorded({"api_key": "k", "hf_token": "t", "path": Path("a"), "kind": Setting, "nested": {"x": (1, 2)}})
    assert kept.keys() == {"path", "kind", "nested"}
    assert kept["nested"] == {"x": [1, 2]}
    assert json.loads(json.dumps(kept)) == kept
    assert recorded({"kind": Setting}) == recorded({"kind": Setting})
    assert deciding({"dtype": "float32", "rows": 4, "revision": "main"}) == {"revision": "main"}


# ------------------------------------------------------------------------------------------------ seeds
def test_two_checkpoints_at_one_seed_share_no_stream() -> None:
    def streams(**changed: Any) -> set[int]:
        manifest: Manifest = manifest_with(seed_scheme=2, engine_args={}, **changed)
        return {draw_seed(0, "t", f"p{i}", start, manifest.drawn_by) for i in range(50) for start in (0, 16)}

    first_streams = streams(weights="sha256:a")
    assert len(first_streams) == 100
    others = (
        {"weights": "sha256:b"},
        {"weights": "sha256:a", "engine_args": {"hf_overrides": {"x": 1}}},
        {"weights": "endpoint:m", "model": "http://a/v1"},
        {"weights": "endpoint:m", "model": "http://b/v1"},
    )
    for changed in others:
        manifest = manifest_with(**{"seed_scheme": 2, "engine_args": {}, **changed})
        more = {draw_seed(0, "t", f"p{i}", start, manifest.drawn_by) for i in range(50) for start in (0, 16)}
        assert not first_streams & more
        first_streams |= more
    assert streams(weights="sha256:a", model="moved/elsewhere") <= first_streams
    assert streams(weights="sha256:a", n=99) <= first_streams


def test_seeds_of_the_first_scheme_are_what_they_were() -> None:
    assert manifest_with().drawn_by is None
    assert draw_seed(0, "t", "p", 16) == 2429009661284705260


def test_a_run_keeps_the_scheme_it_began_with(tmp_path: Path) -> None:
    options = {"limit": 3, "out": tmp_path / "old"}
    pipeline.sample("fake:0.5", TASK, SampleOptions(n=16, seed_scheme=1, **options))  # type: ignore[arg-type]
    run = pipeline.sample("fake:0.5", TASK, SampleOptions(n=32, **options))  # type: ignore[arg-type]
    assert open_run(run).manifest.seed_scheme == 1
    straight = pipeline.sample("fake:0.5", TASK, SampleOptions(n=32, limit=3, out=tmp_path / "1", seed_scheme=1))
    new = pipeline.sample("fake:0.5", TASK, SampleOptions(n=32, limit=3, out=tmp_path / "2"))
    assert open_run(new).manifest.seed_scheme == 2
    assert texts(run) == texts(straight) != texts(new)


def texts(run: Path) -> dict[tuple[str, int], str]:
    tables = open_run(run).rollouts.read(["problem_id", "index", "text"])
    return {(row["problem_id"], row["index"]): row["text"] for table in tables for row in table.to_pylist()}


# ------------------------------------------------------------------------------------------------ before an engine loads
@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run of a copy of a zoo checkpoint: its folder of runs, and the checkpoint."""
    require("torch", "torch")
    out = tmp_path_factory.mktemp("finished")
    model = out / "model"
    shutil.copytree(checkpoint_path("base"), model)
    pipeline.evaluate(str(model), TASK, SampleOptions(**options_of(out)), GradeOptions(workers=1))
    return out, model


def options_of(out: Path, **changed: Any) -> dict[str, Any]:
    return {"n": 4, "limit": 4, "engine": "transformers", "out": out / "runs", **changed}


@pytest.fixture
def copied(drawn: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same, to change; no engine may be loaded."""
    out = tmp_path / drawn[0].name
    shutil.copytree(drawn[0], out)
    (file,) = (out / "runs").glob(f"*/{TASK}/manifest.json")
    moved = {"model": str(out / "model"), "model_path": path_digest(str(out / "model"))}
    file.write_text(json.dumps(json.loads(file.read_text()) | moved))
    return out, out / "model"


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise EngineError("an engine is loaded")

    monkeypatch.setattr(models, "open_sampler", load)


def test_a_finished_command_again_loads_nothing_and_gives_the_same(drawn: tuple[Path, Path], no_engine: None) -> None:
    out, model = drawn
    run, card = pipeline.evaluate(str(model), TASK, SampleOptions(**options_of(out)), GradeOptions(workers=1))
    assert msgspec.json.encode(card) == msgspec.json.encode(pipeline.score(run))
    fewer = SampleOptions(**options_of(out, n=2, limit=2))
    assert pipeline.sample(str(model), TASK, fewer) == run
    with pytest.raises(EngineError, match="an engine is loaded"):
        pipeline.sample(str(model), TASK, SampleOptions(**options_of(out, n=8)))


def test_a_finished_command_again_is_light(drawn: tuple[Path, Path]) -> None:
    out, model = drawn
    asked = ["evaluate", "--model", str(model), "--task", TASK, "-n", "4", "--limit", "4", "--engine", "transformers"]
    code = (
        "import sys\nfrom rlvr_bench.cli import main\n"
        f"try: main({[*asked, '--out', str(out / 'runs')]!r})\n"
        "finally: print(sorted({'torch', 'transformers', 'vllm'} & sys.modules.keys()), file=sys.stderr)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stderr.endswith("[]\n")
    assert "pass@4" in shown.stdout


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, "seed: run has 0, asked 1"),
        ({"temperature": 0.9}, "sampling.temperature"),
        ({"max_tokens": 5}, "sampling.max_tokens"),
        ({"draw_batch": 2, "n": 8}, "draw_batch"),
        ({"token_stats": "full", "n": 8}, "token_stats"),
        ({"engine_args": {"trust_remote_code": True}, "n": 8}, "engine_args.trust_remote_code"),
        ({"stop_after": 1, "n": 16}, "stopping"),
        ({"seed_scheme": 1}, "seed_scheme: run has 2, asked 1"),
        ({"prompt": "qwen-boxed"}, "prompt"),
        ({"engine_args": {"dtype": "bfloat16"}}, "dtype: run has 'float32', asked 'bfloat16'"),
        ({"engine_args": {"dtype": "torch.half"}, "n": 8}, "dtype: run has 'float32', asked 'float16'"),
    ],
)
def test_a_mismatch_is_found_before_an_engine_loads_and_by_a_dry_run(
    drawn: tuple[Path, Path], no_engine: None, changed: dict[str, Any], named: str
) -> None:
    out, model = drawn
    options = SampleOptions(**options_of(out, **changed))
    for ask in (pipeline.sample, forecast):
        with pytest.raises(RunMismatch) as error:
            ask(str(model), TASK, options)
        assert named in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "torch.float32", "float"])
def test_the_dtype_that_the_run_has_needs_no_engine(drawn: tuple[Path, Path], no_engine: None, dtype: str) -> None:
    out, model = drawn
    pipeline.sample(str(model), TASK, SampleOptions(**options_of(out, engine_args={"dtype": dtype})))
    with pytest.raises(EngineError, match="an engine is loaded"):
        pipeline.sample(str(model), TASK, SampleOptions(**options_of(out, engine_args={"dtype": "auto"})))


def test_a_max_tokens_that_only_an_earlier_command_asked_for_is_not_taken_for_the_models_context(
    drawn: tuple[Path, Path], tmp_path: Path, no_engine: None
) -> None:
    out = tmp_path / "runs"
    shutil.copytree(drawn[0] / "runs", out)
    (file,) = out.glob(f"*/{TASK}/manifest.json")
    manifest = json.loads(file.read_text())
    manifest |= {"asked": {"max_tokens": 5}, "sampling": manifest["sampling"] | {"max_tokens": 5}}
    file.write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match="an engine is loaded"):
        pipeline.sample(str(drawn[1]), TASK, SampleOptions(**{**options_of(drawn[0]), "out": out}))


def test_a_finished_run_with_max_tokens_auto_needs_no_engine(
    drawn: tuple[Path, Path], tmp_path: Path, no_engine: None
) -> None:
    out = tmp_path / "runs"
    shutil.copytree(drawn[0] / "runs", out)
    (file,) = out.glob(f"*/{TASK}/manifest.json")
    manifest = json.loads(file.read_text())
    auto = SampleOptions(**{**options_of(drawn[0]), "out": out, "max_tokens": "auto"})
    with pytest.raises(EngineError, match="an engine is loaded"):  # the task's limit may not be what the context leaves
        pipeline.sample(str(drawn[1]), TASK, auto)
    manifest |= {"asked": {"max_tokens": "auto"}, "sampling": manifest["sampling"] | {"max_tokens": 90}}
    file.write_text(json.dumps(manifest))
    pipeline.sample(str(drawn[1]), TASK, auto)
    with pytest.raises(RunMismatch, match="max_tokens"):  # the task's is smaller
        pipeline.sample(str(drawn[1]), TASK, SampleOptions(**{**options_of(drawn[0]), "out": out}))


def swap_weights(model: Path) -> None:
    shutil.copyfile(checkpoint_path("grpo") / "model.safetensors", model / "model.safetensors")


def change_config(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))


def add_template(model: Path) -> None:
    (model / "chat_template.jinja").write_text("{{ messages }}")


@pytest.mark.parametrize(
    ("change", "named"),
    [(swap_weights, "weights"), (change_config, "model_files.config.json"), (add_template, "chat_template")],
)
def test_a_checkpoint_that_changed_in_its_folder_is_another_model(
    copied: tuple[Path, Path], no_engine: None, change: Callable[[Path], None], named: str
) -> None:
    out, model = copied
    change(model)
    with pytest.raises(RunMismatch, match=named):
        pipeline.sample(str(model), TASK, SampleOptions(**options_of(out)))


def test_what_a_library_writes_into_a_configuration_changes_nothing(copied: tuple[Path, Path], no_engine: None) -> None:
    out, model = copied
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "transformers_version": "99"}, indent=8))
    pipeline.sample(str(model), TASK, SampleOptions(**options_of(out)))


@pytest.mark.parametrize("changed", [{"engine_args": {"nonsense": 1}}, {"max_tokens": 10**6}, {"engine": "endpoint"}])
def test_a_bad_option_is_found_before_an_engine_loads(tmp_path: Path, no_engine: None, changed: dict[str, Any]) -> None:
    options = SampleOptions(**options_of(tmp_path, **changed))
    for ask in (pipeline.sample, forecast):
        with pytest.raises(BadArgument):
            ask("zoo:base", TASK, options)


def test_an_old_run_says_that_it_does_not_know_and_is_topped_up(
    copied: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    out, model = copied
    (run,) = (out / "runs").glob(f"*/{TASK}")
    manifest = json.loads((run / "manifest.json").read_text())
    younger = ("facts", "problems_file_sha256", "engine_args", "model_files", "seed_scheme", "model_path")
    (run / "manifest.json").write_text(json.dumps({name: manifest[name] for name in manifest if name not in younger}))
    pipeline.evaluate(str(model), TASK, SampleOptions(**options_of(out, n=8)), GradeOptions(workers=1))
    after = open_run(run).manifest
    assert (after.engine_args, after.seed_scheme, after.n) == (None, 1, 8)
    assert "with which engine arguments is unknown" in caplog.text


def test_engine_arguments_reach_the_manifest_from_the_command_line(tmp_path: Path) -> None:
    require("torch", "torch")
    asked = ("sample", "--model", "zoo:base", "--task", TASK, "-n", "2", "--limit", "2", "--engine", "transformers")
    assert run_verb(*asked, "--engine-arg", "rows=4", "--out", str(tmp_path)) in (None, 0)
    assert open_run(tmp_path / "zoo-base" / TASK).manifest.engine_args == {"rows": 4}
    assert run_verb(*asked, "--engine-arg", "attn_implementation=eager", "--out", str(tmp_path)) == 2
