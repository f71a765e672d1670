"""Scorecards from given files or folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlvr_bench.comparison.cards import read_card
from rlvr_bench.errors import RunError
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.storage import as_path

__all__ = ["read_cards", "read_scorecard", "scorecard_files"]


def read_scorecard(path: str | Path) -> Scorecard:
    """The scorecard of a run folder or of a file, local or at an address such as ``s3://bucket/runs/model/task``.

    Raises RunError where there is none, where it is not one of ours, or where the folder holds several; StorageError
    where the address cannot be reached.
    """
    folder = as_path(path)
    if folder.is_dir() and not (folder / "manifest.json").is_file():
        (folder, *others) = scorecard_files(folder)
        if others:
            raise RunError(f"{path}: {1 + len(others)} scorecards in this folder. Name one of them, such as {folder}")
    return read_card(folder)[1]


def scorecard_files(path: str | Path) -> list[Path]:
    """The scorecard files of ``path``: a file, a run, a folder of runs, or a folder of scorecard files.

    Sorted by path. In a folder: every ``scorecard.json`` at any depth, without those of runs at a cap, or, if there is
    none, every ``*.json`` directly in it. A path that does not exist is returned as it is; reading it raises the error.
    Raises RunError for a folder without scorecards.
    """
    path = as_path(path)
    if not path.is_dir():
        return [path]
    if (scorecard := path / "scorecard.json").is_file():
        return [scorecard]
    files = [file for file in sorted(path.rglob("scorecard.json")) if not _is_at_cap(file)] or sorted(
        path.glob("*.json")
    )
    if not files:
        raise RunError(
            f"{path}: no scorecard in this folder. Name a run folder, a scorecard file, or a folder of them."
        )
    return files


def read_cards(paths: Sequence[str | Path]) -> list[tuple[Path, Scorecard]]:
    """The scorecards of all ``paths``, each file once, in the order given. Raises RunError (``read_card``)."""
    files = dict.fromkeys(file for path in paths for file in scorecard_files(path))
    return [read_card(file) for file in files]


def _is_at_cap(scorecard: Path) -> bool:
    """Whether a scorecard is in ``caps/`` of a run: it has the run's rollouts, cut."""
    caps = scorecard.parent.parent
    return caps.name == "caps" and (caps.parent / "manifest.json").is_file()
