from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlvr_bench.zoo import checkpoints
from rlvr_bench.zoo.export import load
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.recipes import Noise, Recipe, Supervised
from rlvr_bench.zoo.train import single_thread, train_recipe


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tests that run in parallel must not compete for cores."""
    with single_thread():
        yield


@pytest.fixture(scope="session")
def base() -> TinyLlama:
    """The shipped base, in float32."""
    return load(checkpoints.checkpoint_path("base")).eval()


@pytest.fixture(scope="session")
def thirty_steps() -> Recipe:
    """A recipe of two phases that trains in a second or two."""
    clean = Supervised(name="clean", steps=25, muon_lr=0.02, adam_lr=4e-3, batch=16, warmup=5)
    noise = Noise(mislabel=1.0)
    noisy = Supervised(name="noisy", steps=5, muon_lr=0.005, adam_lr=1e-3, batch=16, warmup=1, noise=noise)
    return Recipe(name="miniature", summary="A few steps.", phases=(clean, noisy))


@pytest.fixture(scope="session")
def one_step() -> Recipe:
    """The shortest training there is."""
    only = Supervised(name="only", steps=1, muon_lr=0.005, adam_lr=1e-3, batch=4)
    return Recipe(name="miniature", summary="One step.", phases=(only,))


@pytest.fixture(scope="session")
def miniature(thirty_steps: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of ``thirty_steps``, seed 3; not to be written to."""
    return train_recipe(thirty_steps, tmp_path_factory.mktemp("zoo") / "miniature", seed=3)
