"""The shipped zoo checkpoints and their cards. This module needs neither torch nor NumPy, so listing is instant.

``base`` ships as a Hugging Face folder. A checkpoint trained from it ships as the difference (see ``delta``). Its first use
writes the whole folder into the user's cache.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.errors import ModelError, StorageError, UnknownName
from rlvr_bench.storage import user_cache
from rlvr_bench.zoo import unpack

__all__ = [
    "CARD",
    "DELTA",
    "WEIGHTS",
    "Card",
    "Interval",
    "Measured",
    "Training",
    "checkpoint_path",
    "checkpoints_directory",
    "headline",
    "list_checkpoints",
    "list_steps",
    "read_card",
    "shipped_folder",
    "step_folder",
]

CARD = "card.json"
WEIGHTS = "model.safetensors"
DELTA = "delta.safetensors"
_SHARED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a policy on the held-out problems; the keys of ``pass_at_k`` and of each tier are budgets, as text.

    ``reasons`` and ``distinct`` are fractions of all rollouts; the token statistics are in tokens, nats and tokens of the
    0.95 nucleus, None for a policy without tokens.
    """

    n_problems: int
    n_samples: int
    pass_at_k: dict[str, Interval]
    tiers: dict[str, dict[str, Interval]]
    unsolved: int
    reasons: dict[str, float]
    distinct: float
    tokens_mean: float | None
    entropy_mean: float | None
    branching_mean: float | None


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of the training: ``cpu_s`` of the process, ``peak_memory_bytes`` resident, ``threads`` used."""

    seed: int
    steps: int
    cpu_s: float
    wall_s: float
    peak_memory_bytes: int
    threads: int
    torch: str


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about a checkpoint; ``measured`` and ``guess`` are None until they are measured.

    ``steps`` maps each training step that ships too, as text, to the SHA-256 of its weights.
    """

    name: str
    summary: str
    recipe: dict[str, Any]
    parameters: int
    weights_sha256: str
    training: Training
    steps: dict[str, str] = {}
    measured: Measured | None = None
    guess: Measured | None = None


def checkpoints_directory() -> Path:
    """The folder inside the package that holds one folder for each checkpoint."""
    return Path(__file__).parent / "checkpoints"


def list_checkpoints() -> list[str]:
    """Names of the shipped checkpoints, sorted."""
    return sorted(card.parent.name for card in checkpoints_directory().glob(f"[!.]*/{CARD}"))


def list_steps(name: str) -> list[int]:
    """The earlier training steps of a checkpoint that ship too (``zoo:NAME@STEP``), ascending."""
    return sorted(int(path.stem.removeprefix("step-")) for path in shipped_folder(name).glob("step-*.safetensors"))


def step_folder(step: int) -> str:
    """The folder name for a kept training step."""
    return f"step-{step}"


def shipped_folder(name: str) -> Path:
    """The folder of a shipped checkpoint, with its card. Raises UnknownName, which lists the checkpoints."""
    known = list_checkpoints()
    if name not in known:
        raise UnknownName("zoo checkpoint", name, known)
    return checkpoints_directory() / name


def checkpoint_path(name: str) -> Path:
    """The folder of a checkpoint ``NAME`` or ``NAME@STEP`` in Hugging Face format.

    Raises UnknownName, which lists the checkpoints; StorageError where the cache cannot be written; ModelError where
    the shipped files are damaged.
    """
    plain, _, step = name.partition("@")
    folder = shipped_folder(plain)
    if not step and (folder / WEIGHTS).is_file():
        return folder
    steps = list_steps(plain)
    if step and step not in map(str, steps):
        raise UnknownName("zoo checkpoint", name, [plain, *(f"{plain}@{known}" for known in steps)])
    card = read_card(folder)
    file = folder / (f"{step_folder(int(step))}.safetensors" if step else DELTA)
    return _unpacked(
        name, file, checkpoint_path(card.recipe["start"]), card.steps[step] if step else card.weights_sha256
    )


def _unpacked(name: str, file: Path, start: Path, sha256: str) -> Path:
    """The cached folder of a packed checkpoint; made where it is missing, complete or not at all."""
    cache = user_cache() / "zoo"
    target = cache / f"{name}-{sha256[:12]}"
    if (target / WEIGHTS).is_file():
        return target
    weights = unpack(file, start / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise ModelError(f"{file} does not give the weights that its card names. Install rlvr-bench again.")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
        for shared in _SHARED:
            shutil.copyfile(start / shared, folder / shared)
        (folder / WEIGHTS).write_bytes(weights)
        try:
            folder.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(folder)
            if not (target / WEIGHTS).is_file():
                raise
    except OSError as fault:
        raise StorageError(
            f"cannot unpack zoo:{name} into {cache}: {fault}. Set XDG_CACHE_HOME to a folder."
        ) from fault
    return target


def read_card(directory: Path) -> Card:
    """The card in a checkpoint's folder. Raises ModelError where it is missing or not a card."""
    path = directory / CARD
    try:
        return msgspec.json.decode(path.read_bytes(), type=Card)
    except (OSError, msgspec.DecodeError) as fault:
        raise ModelError(f"{path} is not a readable card: {fault}. Train the checkpoint again.") from fault


def headline(name: str) -> str:
    """One line about a shipped checkpoint, for a listing. Raises UnknownName or ModelError."""
    card = read_card(shipped_folder(name))
    if card.measured is None:
        return card.summary
    budgets = sorted(card.measured.pass_at_k, key=int)
    figures = ", ".join(f"pass@{k} {card.measured.pass_at_k[k].value:.1%}" for k in (budgets[0], budgets[-1]))
    return f"{card.summary} {figures} on {card.measured.n_problems} held-out problems."
