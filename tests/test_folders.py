"""Which folder a model's run has: one for each model, the same by whatever path it is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rlvr_bench import pipeline
from rlvr_bench.pipeline import SampleOptions
from rlvr_bench.pipeline.folders import find_run, path_digest
from rlvr_bench.store import RunWriter
from tests.conftest import manifest_with, run_verb

TASK = "double_countdown"


def checkpoint(path: Path, content: str = "w") -> Path:
    """A folder that looks like a checkpoint."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_text(content)
    return path


def begin(out: Path, model: str, task: str = "t", **changed: object) -> Path:
    """A run of this model, as the pipeline would begin it."""
    folder = find_run(out, model, task)
    fields = {"model": model, "task": task, "weights": f"w of {model}", "model_path": path_digest(model), **changed}
    with RunWriter(folder, manifest_with(**fields), []):
        return folder


def test_equal_tails_under_other_parents_have_folders_of_their_own(tmp_path: Path) -> None:
    out, runs = tmp_path / "runs", []
    for number, parent in enumerate(("a/expA", "a/expB", "b/expA", "c/expA")):
        model = checkpoint(tmp_path / parent / "global_step_100" / "actor" / "huggingface", str(number))
        runs.append(begin(out, str(model)))
        assert find_run(out, str(model), "t") == runs[-1]
    names = [run.parent.name for run in runs]
    assert len(set(names)) == 4
    assert names[0] == "expA--global_step_100--actor--huggingface"
    assert names[2].startswith("expA--global_step_100--actor--huggingface-")


def test_one_model_has_one_folder_by_whatever_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = checkpoint(tmp_path / "here" / "my-model")
    (tmp_path / "link").symlink_to(model)
    monkeypatch.chdir(tmp_path / "here")
    run = begin(tmp_path / "runs", "my-model")
    assert run.parent.name == "my-model"
    for name in ("./my-model/", "../here/my-model", str(model), str(tmp_path / "link")):
        if "link" not in name:
            assert find_run(tmp_path / "runs", name, "t") == run, name
    other = checkpoint(tmp_path / "there" / "my-model", "other")
    monkeypatch.chdir(tmp_path / "there")
    assert find_run(tmp_path / "runs", "my-model", "t") != run
    assert find_run(tmp_path / "runs", str(other), "t") != run


def test_a_checkpoint_that_moved_is_known_by_its_weights(tmp_path: Path) -> None:
    from rlvr_bench.samplers.model_files import weights_digest

    model = checkpoint(tmp_path / "a" / "run1" / "step_1")
    run = begin(tmp_path / "runs", str(model), weights=weights_digest(str(model)))
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = tmp_path / "b" / "run1" / "step_1"
    assert find_run(tmp_path / "runs", str(moved), "t") == run
    (moved / "model.safetensors").write_text("other")
    assert find_run(tmp_path / "runs", str(moved), "t") != run


@pytest.mark.parametrize(("first", "second"), [("a b", "a-b"), ("Org/M", "Org--M"), ("zoo:x", "zoo-x"), ("м", "п")])
def test_names_that_look_alike_do_not_meet(tmp_path: Path, first: str, second: str) -> None:
    runs = [begin(tmp_path, name) for name in (first, second)]
    assert runs[0] != runs[1]
    assert [find_run(tmp_path, name, "t") for name in (first, second)] == runs


def test_tasks_that_look_alike_do_not_meet(tmp_path: Path) -> None:
    runs = [begin(tmp_path, "m", task) for task in ("g:a,b=1", "g-a-b-1")]
    assert runs[0] != runs[1]
    assert [find_run(tmp_path, "m", task) for task in ("g:a,b=1", "g-a-b-1")] == runs


@pytest.mark.parametrize(
    ("model", "folder"),
    [("a b", "a-b"), ("модель", "model"), ("x/global_step_1/actor", "global_step_1--actor"), ("lr=1", "lr-1")],
)
def test_a_run_under_its_old_name_is_kept(tmp_path: Path, model: str, folder: str) -> None:
    old = tmp_path / folder / "t"
    with RunWriter(old, manifest_with(model=model), []):
        pass
    assert find_run(tmp_path, model, "t") == old
    assert find_run(tmp_path, "another/one", "t").parent.name == "another--one"


def test_an_over_long_name_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("sample", "--task", TASK, "-n", "1", "--limit", "1", "--out", str(tmp_path))
    assert run_verb(*asked, "--model", "x" * 5000, "--engine", "transformers") == 2
    assert capsys.readouterr().err.strip().count("\n") == 0
    (tmp_path / "c.csv").write_text("problem_id,n,c\na,4,1\n")
    command = ("import", str(tmp_path / "c.csv"), "--model", "y" * 5000, "--task", "t" * 5000, "--out", str(tmp_path))
    assert run_verb(*command) in (None, 0)


def test_the_pipeline_goes_on_where_the_run_is(tmp_path: Path) -> None:
    options = SampleOptions(n=2, limit=2, out=tmp_path)
    run = pipeline.sample("fake:0.5", TASK, options)
    moved = tmp_path / "fake-0.5" / "renamed"
    assert pipeline.sample("fake:0.5", TASK, options) == run
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "model": "fake-0.5"}))
    assert pipeline.sample("fake:0.5", TASK, options) != run
    assert not moved.exists()
