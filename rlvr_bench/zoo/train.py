"""Train a zoo checkpoint from its recipe: seeded and logged; the result replaces the output folder only when complete."""

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

from rlvr_bench.countdown import PuzzleKey
from rlvr_bench.errors import StorageError
from rlvr_bench.json_format import format_json
from rlvr_bench.zoo.checkpoints import CARD, DELTA, WEIGHTS, Card, Training, checkpoint_path, step_folder
from rlvr_bench.zoo.delta import apply_delta, pack, write_delta
from rlvr_bench.zoo.demonstrations import Example, examples, held_out_keys
from rlvr_bench.zoo.export import export, load
from rlvr_bench.zoo.learner import Learner, batches, schedule
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.recipes import Phase, Recipe, Reinforcement, Rejection, Supervised, recipe
from rlvr_bench.zoo.reinforce import Reinforcer, RlvrLine
from rlvr_bench.zoo.rejection import endless, selected

__all__ = ["LOG", "LogLine", "Progress", "single_thread", "train", "train_recipe", "whole_or_nothing"]

LOG = "training.jsonl"
_LOG_EVERY = 25
_THREADS = 1


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a supervised log: mean loss (nats per response token) since the previous line; steps count from 1."""

    phase: str
    step: int
    loss: float
    lr: float


@dataclass(frozen=True)
class Progress:
    """Progress of a training: ``step`` of ``steps`` over all phases, the current phase, and the figures of this step.

    ``figures`` are ``loss`` in supervised learning, ``reward``, ``entropy`` and ``tokens`` in RLVR.
    """

    phase: str
    step: int
    steps: int
    figures: dict[str, float]


ProgressCallback = Callable[[Progress], None]


def train(name: str, out: str | Path, seed: int = 0, progress: ProgressCallback | None = None) -> Path:
    """Train the recipe ``name`` into the folder ``out``; returns that folder.

    The same seed gives the same weights on the same kind of machine with the same torch. ``out`` is replaced only once
    the new checkpoint is complete. Raises UnknownName for a recipe or starting checkpoint that does not exist, and
    StorageError where the folder cannot be written.
    """
    return train_recipe(recipe(name), Path(out), seed, progress)


def train_recipe(recipe: Recipe, out: Path, seed: int = 0, progress: ProgressCallback | None = None) -> Path:
    """Like ``train``, for a recipe that need not be one of the zoo's."""
    started, cpu_started = time.monotonic(), time.process_time()
    with whole_or_nothing(out) as folder, single_thread():
        model = _starting_model(recipe, seed)
        _run_phases(model, recipe, seed, folder, progress)
        _save(model, recipe, folder)
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


def _save(model: TinyLlama, recipe: Recipe, folder: Path) -> None:
    """Export the model; a model that started from another one is first rounded to the difference that ships."""
    if recipe.start is None:
        export(model, folder)
        return
    start = load(checkpoint_path(recipe.start))
    packed = pack(model.state_dict(), start.state_dict())
    rounded = TinyLlama(model.shape)
    rounded.load_state_dict(apply_delta(start.state_dict(), packed))
    export(rounded, folder)
    write_delta(folder / DELTA, packed)


def _run_phases(model: TinyLlama, recipe: Recipe, seed: int, folder: Path, progress: ProgressCallback | None) -> None:
    excluded = held_out_keys()
    done = 0
    with (folder / LOG).open("wb") as log:
        for index, phase in enumerate(recipe.phases):
            for line, figures in _run_phase(model, phase, f"{seed}/{recipe.name}/{index}", excluded):
                done += 1
                if line is not None:
                    log.write(msgspec.json.encode(msgspec.structs.replace(line, step=done)) + b"\n")
                if done in recipe.keep:
                    (folder / step_folder(done)).mkdir()
                    _save(model, recipe, folder / step_folder(done))
                if progress is not None:
                    progress(Progress(phase.name, done, recipe.steps, figures))


StepOutcome = tuple[LogLine | RlvrLine | None, dict[str, float]]
"""The result of a step: a line for the log (None for most steps) and its figures."""


def _run_phase(model: TinyLlama, phase: Phase, seed: str, excluded: Set[PuzzleKey]) -> Iterator[StepOutcome]:
    """Train the model in place, step by step."""
    rng = random.Random(seed)
    if isinstance(phase, Reinforcement):
        learner = Reinforcer(model, phase, seed, excluded)
        for number in range(phase.steps):
            line = learner.step(number)
            yield line, {"reward": line.reward, "entropy": line.entropy, "tokens": line.tokens}
    elif isinstance(phase, Rejection):
        chosen = selected(model, phase, rng, excluded)
        yield from _learn(model, phase.learning, rng, endless(rng, chosen))
    else:
        yield from _learn(model, phase, rng, examples(rng, phase.noise, excluded))


def _learn(model: TinyLlama, phase: Supervised, rng: random.Random, source: Iterator[Example]) -> Iterator[StepOutcome]:
    learner = Learner(model, phase)
    losses: list[float] = []
    for step, (inputs, labels) in zip(range(phase.steps), batches(rng, source, phase.batch), strict=False):
        losses.append(learner.step(step, inputs, labels))
        line = None
        if (step + 1) % _LOG_EVERY == 0 or step + 1 == phase.steps:
            rate = phase.muon_lr * schedule(step, phase.steps, phase.warmup)
            line = LogLine(phase=phase.name, step=step + 1, loss=round(sum(losses) / len(losses), 4), lr=round(rate, 6))
        yield line, {"loss": losses[-1]}
        if line is not None:
            losses.clear()


def _card_bytes(recipe: Recipe, model: TinyLlama, folder: Path, training: Training) -> bytes:
    card = Card(
        name=recipe.name,
        summary=recipe.summary,
        recipe=dataclasses.asdict(recipe),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights_sha256=_digest(folder / WEIGHTS),
        training=training,
        steps={str(step): _digest(folder / step_folder(step) / WEIGHTS) for step in recipe.keep},
    )
    return format_json(card, indent=2)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


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
def whole_or_nothing(out: Path) -> Iterator[Path]:
    """A temporary folder next to ``out``: it replaces ``out`` when the block succeeds, and is removed otherwise."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    except OSError as fault:
        raise StorageError(f"cannot write next to {out}: {fault}. Choose another folder.") from fault
    try:
        yield folder
        _replace(folder, out)
    except OSError as fault:
        raise StorageError(f"cannot write {out}: {fault}. Choose another folder.") from fault
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(folder: Path, out: Path) -> None:
    """Swap the folders by renaming; the old one is restored if the swap fails."""
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
