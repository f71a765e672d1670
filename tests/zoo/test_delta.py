from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from rlvr_bench.errors import ModelError, StorageError, UnknownName
from rlvr_bench.zoo import checkpoints
from rlvr_bench.zoo.delta import apply_delta, pack
from rlvr_bench.zoo.export import load
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.publish import publish
from rlvr_bench.zoo.recipes import Recipe, Reinforcement
from rlvr_bench.zoo.train import train_recipe


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder trained for two steps from base; the first step is kept too."""
    phase = Reinforcement(name="rlvr", steps=2, lr=1e-3, prompts=4, group=4, minibatches=1)
    recipe = Recipe(name="brief", summary="", phases=(phase,), start="base", keep=(1,))
    return train_recipe(recipe, tmp_path_factory.mktemp("delta") / "brief", seed=1)


def test_rounding_stays_below_a_254th_of_a_row_s_largest_change(base: TinyLlama) -> None:
    generator = torch.Generator().manual_seed(0)
    start = base.state_dict()
    moved = {name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in start.items()}
    again = apply_delta(start, pack(moved, start))
    for name, value in moved.items():
        allowed = (value - start[name]).abs().amax(-1, keepdim=True) / 254 + value.abs() / 256
        assert ((again[name].float() - value).abs() <= allowed * 1.001).all()


def test_no_change_packs_to_no_change(base: TinyLlama) -> None:
    start = {name: value.bfloat16() for name, value in base.state_dict().items()}
    same = apply_delta(start, pack(start, start))
    assert all(torch.equal(same[name], value) for name, value in start.items())


def test_a_delta_of_another_model_is_refused(base: TinyLlama) -> None:
    packed = pack(base.state_dict(), base.state_dict())
    packed.pop("model.norm.weight")
    with pytest.raises(ModelError, match="does not fit"):
        apply_delta(base.state_dict(), packed)


@pytest.fixture
def shelf(two_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder of checkpoints with base and the short published one, and a separate cache."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(checkpoints.shipped_folder("base"), folder / "base")
    monkeypatch.setattr(checkpoints, "checkpoints_directory", lambda: folder)
    monkeypatch.setattr("rlvr_bench.zoo.publish.checkpoints_directory", lambda: folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    publish(two_steps)
    return folder


def test_what_ships_unpacks_to_what_was_trained(shelf: Path, two_steps: Path) -> None:
    assert checkpoints.list_steps("brief") == [1]
    for name, trained in (("brief", two_steps), ("brief@1", two_steps / "step-1")):
        folder = checkpoints.checkpoint_path(name)
        assert folder.name.startswith(f"{name}-")
        for file in ("model.safetensors", "config.json", "tokenizer.json"):
            assert (folder / file).read_bytes() == (trained / file).read_bytes()
        assert load(folder).shape == load(trained).shape
    assert sum(path.stat().st_size for path in (shelf / "brief").iterdir()) < 1.3e6
    assert checkpoints.checkpoint_path("brief") == checkpoints.checkpoint_path("brief")


def test_an_unknown_step_lists_those_there_are(shelf: Path) -> None:
    with pytest.raises(UnknownName, match=r"Known: brief, brief@1\."):
        checkpoints.checkpoint_path("brief@7")


def test_a_damaged_delta_is_one_line(shelf: Path) -> None:
    (shelf / "brief" / "delta.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="Install rlvr-bench again"):
        checkpoints.checkpoint_path("brief")
    shutil.copyfile(shelf / "brief" / "step-1.safetensors", shelf / "brief" / "delta.safetensors")
    with pytest.raises(ModelError, match="does not give the weights that its card names"):
        checkpoints.checkpoint_path("brief")
    assert not list((shelf.parent / "cache").rglob("model.safetensors"))


def test_a_cache_that_cannot_be_written_is_a_storage_error(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shelf.parent / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(shelf.parent / "file"))
    with pytest.raises(StorageError, match="XDG_CACHE_HOME"):
        checkpoints.checkpoint_path("brief")


def test_half_a_checkpoint_is_not_published(shelf: Path, two_steps: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(two_steps, torn)
    shutil.rmtree(torn / "step-1")
    with pytest.raises(ModelError, match="not a whole checkpoint"):
        publish(torn)
