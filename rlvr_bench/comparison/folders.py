"""Scorecards by the file or the folder somebody names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlvr_bench.comparison.cards import read_card
from rlvr_bench.errors import RunError
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.storage import as_path

__all__ = ["read_cards", "scorecard_files"]


def scorecard_files(path: str | Path) -> list[Path]:
    """The scorecards that ``path`` stands for: a file, a run, a folder of runs, or a folder of scorecard files.

    Sorted by path; in a folder ``scorecard.json`` at any depth, or where there is none every ``*.json`` directly in it.
    A path that does not exist stands for itself: reading it says what is wrong. Raises RunError for a folder without any.
    """
    path = as_path(path)
    if not path.is_dir():
        return [path]
    if (own := path / "scorecard.json").is_file():
        return [own]
    found = sorted(path.rglob("scorecard.json")) or sorted(path.glob("*.json"))
    if not found:
        raise RunError(
            f"{path}: no scorecard in this folder. Name a run folder, a scorecard file, or a folder of them."
        )
    return found


def read_cards(paths: Sequence[str | Path]) -> list[tuple[Path, Scorecard]]:
    """The scorecards of all ``paths``, each file once, in the order given. Raises RunError (``read_card``)."""
    files = dict.fromkeys(file for path in paths for file in scorecard_files(path))
    return [read_card(file) for file in files]
