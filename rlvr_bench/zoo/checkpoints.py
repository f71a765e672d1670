"""Where the shipped zoo checkpoints lie and what their cards say, without torch or NumPy: listing is instant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.errors import ModelError, UnknownName

__all__ = [
    "Card",
    "Interval",
    "Measured",
    "Training",
    "checkpoint_path",
    "checkpoints_directory",
    "headline",
    "list_checkpoints",
    "read_card",
]

CARD = "card.json"


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy did on the held-out problems; ``pass_at_k`` and each of ``tiers`` go from the budget, as text.

    ``reasons`` and ``distinct`` are fractions of all rollouts; token statistics are in tokens, nats and tokens of the
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
    cpu_s: float


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What the training took: ``cpu_s`` of the process, ``peak_memory_bytes`` resident, on ``threads`` threads."""

    seed: int
    steps: int
    cpu_s: float
    wall_s: float
    peak_memory_bytes: int
    threads: int
    torch: str


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about a checkpoint; the measured parts are None until it was measured."""

    name: str
    summary: str
    recipe: dict[str, Any]
    parameters: int
    weights_sha256: str
    training: Training
    measured: Measured | None = None
    guess: Measured | None = None


def checkpoints_directory() -> Path:
    """The folder inside the package that holds one folder for each checkpoint."""
    return Path(__file__).parent / "checkpoints"


def list_checkpoints() -> list[str]:
    """Names of the shipped checkpoints, sorted."""
    return sorted(card.parent.name for card in checkpoints_directory().glob(f"[!.]*/{CARD}"))


def checkpoint_path(name: str) -> Path:
    """The folder of a checkpoint, in Hugging Face format. Raises UnknownName, which lists those there are."""
    known = list_checkpoints()
    if name not in known:
        raise UnknownName("zoo checkpoint", name, known)
    return checkpoints_directory() / name


def read_card(directory: Path) -> Card:
    """The card of a checkpoint's folder. Raises ModelError where it is missing or not a card."""
    path = directory / CARD
    try:
        return msgspec.json.decode(path.read_bytes(), type=Card)
    except (OSError, msgspec.DecodeError) as fault:
        raise ModelError(f"{path} is not a readable card: {fault}. Train the checkpoint again.") from fault


def headline(name: str) -> str:
    """One line on a shipped checkpoint, for a listing. Raises UnknownName or ModelError."""
    card = read_card(checkpoint_path(name))
    if card.measured is None:
        return card.summary
    budgets = sorted(card.measured.pass_at_k, key=int)
    figures = ", ".join(f"pass@{k} {card.measured.pass_at_k[k].value:.1%}" for k in (budgets[0], budgets[-1]))
    return f"{card.summary} {figures} on {card.measured.n_problems} held-out problems."
