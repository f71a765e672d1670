"""The baseline for each run, and accepting new baselines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rlvr_bench.checking.results import Acceptance
from rlvr_bench.comparison.cards import read_card
from rlvr_bench.comparison.folders import read_cards, scorecard_files
from rlvr_bench.comparison.undecided import refuse_errors
from rlvr_bench.errors import RunError
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.store.paths import write_atomically

__all__ = ["accept", "pair_up"]

Card = tuple[Path, Scorecard]


def pair_up(runs: Sequence[Card], baselines: Sequence[Card]) -> tuple[list[tuple[Card, Card]], list[str]]:
    """(baseline, run) for each run, and notes on baselines without a run.

    A run's baseline is the only one of its task, or that of the same model where the task has several. Raises RunError
    where there is none or more than one.
    """
    pairs = [(_baseline_of(run, baselines), run) for run in runs]
    used = {baseline[0] for baseline, _ in pairs}
    notes = [f"{file} ({_title(card)}) was held against no run" for file, card in baselines if file not in used]
    return pairs, notes


def accept(runs: Sequence[str | Path], against: Sequence[Path], max_error_rate: float) -> list[Acceptance]:
    """Copy each run's scorecard over its baseline, byte for byte, without any test.

    A task without a baseline gets a new file: ``against`` itself where it is one path that does not exist, else
    MODEL--TASK.json in the one folder given. Each file is written atomically, and none is written before the paths of
    all runs are known. Raises RunError: two runs for one baseline, a run without a path, or a verifier that failed too
    often.
    """
    cards = read_cards(runs)
    refuse_errors(cards, max_error_rate, "raise --max-error-rate")
    old = [read_card(file) for path in against if path.exists() for file in _files_if_any(path)]
    targets = [_baseline_file(card, old, against) for card in cards]
    for file in targets:
        if targets.count(file) > 1:
            raise RunError(f"{file}: two of these runs would become this baseline. Update with one of them.")
    before = dict(old)
    done = []
    for (source, card), file in zip(cards, targets, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, source.read_bytes())
        done.append(
            Acceptance(
                task=_task(card),
                model=_model(card),
                source=str(source),
                baseline=str(file),
                replaced=_model(before[file]) if file in before else None,
            )
        )
    return done


def _baseline_of(run: Card, baselines: Sequence[Card]) -> Card:
    task, model = _task(run[1]), _model(run[1])
    of_task = [card for card in baselines if _task(card[1]) == task]
    if len(of_task) == 1:
        return of_task[0]
    named = [card for card in of_task if _model(card[1]) == model]
    if len(named) == 1:
        return named[0]
    there = "; ".join(f"{file} ({_title(card)})" for file, card in named or of_task or baselines)
    what = (
        "several baselines"
        if named
        else f"no baseline of this model among {len(of_task)}"
        if of_task
        else "no baseline"
    )
    raise RunError(f"{run[0]} ({_title(run[1])}): {what} for it. Given: {there or 'none'}. Name one with --against.")


def _baseline_file(run: Card, old: Sequence[Card], against: Sequence[Path]) -> Path:
    if any(_task(card) == _task(run[1]) for _, card in old):
        return _baseline_of(run, old)[0]
    if len(against) != 1:
        raise RunError(
            f"{run[0]} ({_title(run[1])}): no baseline of its task to replace. Name one file or folder with --against."
        )
    target = against[0]
    if target.suffix == ".json":
        if target.exists():
            raise RunError(f"{target}: holds the baseline of another task than {_task(run[1])}. Name another file.")
        return target
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", _model(run[1])).strip("-.") or "model"
    return target / f"{slug}--{re.sub(r'[^A-Za-z0-9._-]+', '-', _task(run[1]))}.json"


def _files_if_any(path: Path) -> list[Path]:
    return [] if path.is_dir() and not any(path.rglob("*.json")) else scorecard_files(path)


def _task(card: Scorecard) -> str:
    return card.run.task


def _model(card: Scorecard) -> str:
    return card.run.model


def _title(card: Scorecard) -> str:
    return f"{_model(card)} on {_task(card)}"
