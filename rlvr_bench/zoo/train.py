"""Train a zoo checkpoint from its recipe: seeded, logged, and put in place only when whole."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from rlvr_bench.countdown import Key
from rlvr_bench.errors import StorageError
from rlvr_bench.zoo.checkpoints import CARD, Card, Training, checkpoint_path
from rlvr_bench.zoo.demonstrations import examples, held_out_keys
from rlvr_bench.zoo.export import WEIGHTS, export, load
from rlvr_bench.zoo.learner import Learner, batches, schedule
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.recipes import Recipe, Supervised, recipe

__all__ = ["LOG", "LogLine", "Progress", "single_thread", "train", "train_recipe"]

LOG = "training.jsonl"
_LOG_EVERY = 25
_THREADS = 1


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the training log: mean loss (nats per response token) since the line before, at a step from 1."""

    phase: str
    step: int
    loss: float
    lr: float


@dataclass(frozen=True)
class Progress:
    """Where a training stands: ``step`` of ``steps`` over all phases, its phase, and the loss of this step."""

    phase: str
    step: int
    steps: int
    loss: float


ProgressCallback = Callable[[Progress], None]


def train(name: str, out: str | Path, seed: int = 0, progress: ProgressCallback | None = None) -> Path:
    """Train the recipe ``name`` into the folder ``out``; returns that folder.

    The same seed gives the same weights on the same kind of machine with the same torch. ``out`` is replaced only once
    the new checkpoint is whole. Raises UnknownName for a recipe or starting checkpoint that does not exist, and
    StorageError where the disk says no.
    """
    return train_recipe(recipe(name), Path(out), seed, progress)


def train_recipe(recipe: Recipe, out: Path, seed: int = 0, progress: ProgressCallback | None = None) -> Path:
    """``train`` for a recipe that need not be one of the zoo's."""
    started, cpu_started = time.monotonic(), time.process_time()
    with _whole_or_nothing(out) as folder, single_thread():
        model = _starting_model(recipe, seed)
        _run_phases(model, recipe, seed, folder, progress)
        export(model, folder)
        training = Training(
            seed=seed,
            steps=recipe.steps,
            cpu_s=round(time.process_time() - cpu_started, 1),
            wall_s=round(time.monotonic() - started, 1),
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            threads=_THREADS,
            torch=str(torch.__version__),
        )
        (folder / CARD).write_bytes(_card_bytes(recipe, model, folder, training))
    return out


def _starting_model(recipe: Recipe, seed: int) -> TinyLlama:
    if recipe.start is not None:
        return load(checkpoint_path(recipe.start))
    return TinyLlama(generator=torch.Generator().manual_seed(seed))


def _run_phases(model: TinyLlama, recipe: Recipe, seed: int, folder: Path, progress: ProgressCallback | None) -> None:
    excluded = held_out_keys()
    done, losses = 0, []
    with (folder / LOG).open("wb") as log:
        for index, phase in enumerate(recipe.phases):
            rng = random.Random(f"{seed}/{recipe.name}/{index}")
            for step, loss in enumerate(_run_phase(model, phase, rng, excluded)):
                done += 1
                losses.append(loss)
                if progress is not None:
                    progress(Progress(phase.name, done, recipe.steps, loss))
                if (step + 1) % _LOG_EVERY == 0 or step + 1 == phase.steps:
                    rate = phase.muon_lr * schedule(step, phase.steps, phase.warmup)
                    mean_loss = round(sum(losses) / len(losses), 4)
                    line = LogLine(phase=phase.name, step=done, loss=mean_loss, lr=round(rate, 6))
                    log.write(msgspec.json.encode(line) + b"\n")
                    losses.clear()


def _run_phase(model: TinyLlama, phase: Supervised, rng: random.Random, excluded: Set[Key]) -> Iterator[float]:
    """Train the model in place; the loss of every step."""
    learner = Learner(model, phase)
    source = batches(rng, examples(rng, phase.noise, excluded), phase.batch)
    for step, (inputs, labels) in zip(range(phase.steps), source, strict=False):
        yield learner.step(step, inputs, labels)


def _card_bytes(recipe: Recipe, model: TinyLlama, folder: Path, training: Training) -> bytes:
    card = Card(
        name=recipe.name,
        summary=recipe.summary,
        recipe=dataclasses.asdict(recipe),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights_sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        training=training,
    )
    return msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"


@contextmanager
def single_thread() -> Iterator[None]:
    """Run torch on one thread: matrices this small gain nothing from more, and sums keep their order on any machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _whole_or_nothing(out: Path) -> Iterator[Path]:
    """A temporary folder beside ``out`` that takes its place when the block ends well, and is removed otherwise."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    except OSError as fault:
        raise StorageError(f"cannot write beside {out}: {fault}. Choose another folder.") from fault
    try:
        yield folder
        _put_in_place(folder, out)
    except OSError as fault:
        raise StorageError(f"cannot write {out}: {fault}. Choose another folder.") from fault
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, out: Path) -> None:
    """Swap the folders by renaming; the old one is set aside first and comes back if the swap fails."""
    folder.chmod(0o777 & ~_umask())
    if not out.exists():
        folder.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.replaced-", dir=out.parent))
    out.rename(aside / out.name)
    try:
        folder.rename(out)
    except BaseException:
        if not out.exists():
            (aside / out.name).rename(out)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    """The process's file-creation mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
