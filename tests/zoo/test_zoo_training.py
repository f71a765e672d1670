from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from rlvr_bench.errors import ModelError, StorageError, UnknownName
from rlvr_bench.zoo import checkpoints
from rlvr_bench.zoo.export import export, load, verify_export
from rlvr_bench.zoo.learner import schedule
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.recipes import Recipe, Supervised, recipe
from rlvr_bench.zoo.tokenizer import VOCABULARY
from rlvr_bench.zoo.train import LOG, Progress, train, train_recipe


def test_a_miniature_training_learns_and_logs(thirty_steps: Recipe, miniature: Path) -> None:
    log = [json.loads(line) for line in (miniature / LOG).read_text().splitlines()]
    assert [(line["phase"], line["step"]) for line in log] == [("clean", 25), ("noisy", 30)]
    assert log[-1]["loss"] < math.log(len(VOCABULARY)) - 1
    card = checkpoints.read_card(miniature)
    assert card.training.steps == 30
    assert card.training.seed == 3
    assert card.training.cpu_s > 0
    assert card.recipe == json.loads(json.dumps(dataclasses.asdict(thirty_steps)))
    assert card.measured is None
    assert sorted(path.name for path in miniature.parent.iterdir()) == ["miniature"]


@pytest.fixture(scope="module")
def repeated(thirty_steps: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    reports: list[Progress] = []
    return train_recipe(
        thirty_steps, tmp_path_factory.mktemp("again") / "again", seed=3, progress=reports.append
    ), reports


def test_the_loss_falls_and_progress_is_reported(repeated: tuple[Path, list[Progress]]) -> None:
    _, reports = repeated
    assert [progress.step for progress in reports] == list(range(1, 31))
    assert {progress.steps for progress in reports} == {30}
    clean = [progress.figures["loss"] for progress in reports if progress.phase == "clean"]
    assert sum(clean[-5:]) / 5 < sum(clean[:5]) / 5 - 1


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_weights(miniature: Path, repeated: tuple[Path, list[Progress]]) -> None:
    assert weights(repeated[0]) == weights(miniature)


def test_another_seed_gives_other_weights(one_step: Recipe, tmp_path: Path) -> None:
    first, second = (train_recipe(one_step, tmp_path / str(seed), seed) for seed in (0, 1))
    assert weights(first) != weights(second)


def test_an_interrupted_training_leaves_the_old_checkpoint(thirty_steps: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    out.mkdir()
    (out / "old").write_text("whole")

    def interrupt(progress: Progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_recipe(thirty_steps, out, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (out / "old").read_text() == "whole"


def test_a_finished_training_replaces_the_old_checkpoint(one_step: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "new"
    out.mkdir(parents=True)
    (out / "old").write_text("whole")
    assert train_recipe(one_step, out) == out
    assert not (out / "old").exists()
    assert (out / "model.safetensors").exists()
    assert [path.name for path in out.parent.iterdir()] == ["new"]


def test_a_failing_swap_brings_the_old_checkpoint_back(
    one_step: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "kept"
    out.mkdir()
    (out / "old").write_text("whole")
    rename = Path.rename

    def refuse_new(self: Path, target: str | Path) -> Path:
        if ".partial-" in self.name:
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(StorageError, match="no space left"):
        train_recipe(one_step, out)
    assert (out / "old").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_an_output_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Choose another folder"):
        train("base", tmp_path / "file" / "below")


def test_a_recipe_can_start_from_a_shipped_checkpoint(base: TinyLlama, tmp_path: Path) -> None:
    still = Supervised(name="still", steps=1, muon_lr=0.0, adam_lr=0.0, batch=4)
    out = train_recipe(Recipe(name="copy", summary="", phases=(still,), start="base"), tmp_path / "copy")
    copied = load(out).state_dict()
    assert all(torch.equal(copied[name], value) for name, value in base.state_dict().items())


def test_unknown_recipes_and_checkpoints_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"'bass'.*Did you mean 'base'"):
        train("bass", tmp_path / "x")
    with pytest.raises(UnknownName, match="base"):
        recipe("")
    with pytest.raises(UnknownName, match="Known: base, clip-higher"):
        checkpoints.checkpoint_path("../zoo/checkpoints/base")


def test_the_schedule_rises_stays_and_falls() -> None:
    rates = [schedule(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == [1.0] * 42
    assert rates == sorted(rates[:10]) + rates[10:51] + sorted(rates[51:], reverse=True)
    assert rates[-1] == pytest.approx(0.04)


def test_export_refuses_what_transformers_would_read_differently(miniature: Path, tmp_path: Path) -> None:
    model = load(miniature)
    export(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 50.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="logits differ"):
        verify_export(tmp_path)


def test_export_refuses_a_tokenizer_that_reads_differently(miniature: Path, tmp_path: Path) -> None:
    export(load(miniature), tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace('"[1-9][0-9]|[0-9]|[^0-9]"', '"[0-9]|[^0-9]"'))
    with pytest.raises(ModelError, match="tokenizer reads"):
        verify_export(tmp_path)


def test_a_broken_checkpoint_is_a_model_error(miniature: Path, tmp_path: Path) -> None:
    export(load(miniature), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelError, match="not a readable zoo checkpoint"):
            load(folder)
    with pytest.raises(ModelError, match="not a readable card"):
        checkpoints.read_card(tmp_path)
