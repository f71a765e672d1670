"""Leaderboards: one row per checkpoint and task, with intervals and ranks, stored in a CSV file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from rlvr_bench.comparison.cards import RunCounts, read_card
from rlvr_bench.comparison.folders import scorecard_files
from rlvr_bench.comparison.sets import boundary_change
from rlvr_bench.errors import BadArgument, RunError, UnknownName
from rlvr_bench.leaderboards.columns import BOARD, DEFAULT_KS, KEY, Cell, Column, Row, columns
from rlvr_bench.leaderboards.entries import ABOUT, Entry, described, make_entry, rounded
from rlvr_bench.leaderboards.files import (
    csv_text,
    json_text,
    key_of,
    markdown_text,
    parquet_bytes,
    read_csv,
    table_of_all,
    tables_of,
)
from rlvr_bench.leaderboards.ranks import rank_columns
from rlvr_bench.leaderboards.shifts import shift_cells
from rlvr_bench.parallel import counted, map_in_order
from rlvr_bench.scorecard import Scorecard

__all__ = [
    "DEFAULT_KS",
    "Column",
    "Leaderboard",
    "Row",
    "columns",
    "csv_text",
    "json_text",
    "leaderboard",
    "markdown_text",
    "parquet_bytes",
    "table_of_all",
    "tables_of",
]


class Leaderboard(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in the order of the file (by task, setting, model, step, sampling), for the budgets ``ks``; and notes."""

    ks: tuple[int, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def leaderboard(
    runs: Sequence[str | Path],
    *,
    existing: Path | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    base: str | None = None,
    about: Mapping[tuple[str, str], str] | None = None,
    jobs: int = 1,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Leaderboard:
    """Rows of runs, given as run folders, scorecard files or folders of them, merged into those of an ``existing`` CSV.

    A row replaces the row with the same task, setting, model, step, sampling parameters and tools. All other rows are
    kept; their ranks are recomputed if their task and setting has a new row. For a run folder, the row includes its
    rescorings.

    ``ks``: budgets of the pass@k columns. ``base``: the model for the columns gained, lost and kl, instead of each
    row's base model. ``about``: method, base_model or step by (model or pattern, field); fields not given keep their
    values in the file. ``jobs``: number of processes that read scorecards; the rows do not depend on it.
    ``on_progress`` is called with the number of scorecards read and their total. Nothing is written.

    Raises RunError for a missing scorecard, two for one row or a damaged rescoring, DataError for a CSV that is not a
    leaderboard of these budgets, UnknownName for a base that is not among the runs, BadArgument.
    """
    grid = _checked_ks(ks)
    given = _checked_about(about or {})
    kept = {key_of(row): row for row in (read_csv(existing, grid) if existing else [])}
    rows_read = _read(runs, grid, jobs, on_progress)
    entries = _entries(rows_read, given, kept, base)
    notes = [*_import_notes([card for _, card, _ in rows_read]), *_compare_with_base(list(entries.values()), base)]
    rows = {**kept, **{key: entry.row for key, entry in entries.items()}}
    ordered = sorted(rows, key=_sortable)
    groups: dict[tuple[Cell, Cell], list[tuple[Cell, ...]]] = {}
    for key in ordered:
        groups.setdefault((rows[key]["task"], rows[key]["setting"]), []).append(key)
    for keys in groups.values():
        if len({rows[key]["n"] for key in keys}) > 1:
            notes += _without_what_depends_on_n(rows, keys)
        if not any(key in entries for key in keys):
            continue
        counts = [entries[key].counts if key in entries else None for key in keys]
        for key, cells in zip(keys, rank_columns([rows[key] for key in keys], counts, grid), strict=True):
            rows[key] = {**rows[key], **cells}
    return Leaderboard(ks=grid, rows=tuple(rows[key] for key in ordered), notes=tuple(notes))


def _without_what_depends_on_n(rows: dict[tuple[Cell, ...], Row], keys: Sequence[tuple[Cell, ...]]) -> list[str]:
    """Empty the cells that depend on n, for rows of different n. Returns a note if any of them had a value."""
    names = [f"{column.name}{end}" for metric, column in BOARD if metric.equal_n for end in ("", "_low", "_high")]
    any_known = any(rows[key].get(name) is not None for key in keys for name in names)
    for key in keys:
        rows[key] = {**rows[key], **dict.fromkeys(names)}
    shown = ", ".join(name for name in names if not name.endswith(("_low", "_high")))
    return [f"{rows[keys[0]]['task']}: rows differ in n, on which {shown} depend: left empty"] if any_known else []


_ReadRun = tuple[Path, Scorecard, Entry]


def _read(
    runs: Sequence[str | Path], ks: Sequence[int], jobs: int, on_progress: Callable[[int, int], object]
) -> list[_ReadRun]:
    files = list(dict.fromkeys(file for path in runs for file in scorecard_files(path)))
    return list(counted(map_in_order(functools.partial(_read_one, ks=ks), files, jobs=jobs), len(files), on_progress))


def _read_one(file: Path, ks: Sequence[int]) -> _ReadRun:
    """The file, its scorecard without problems and estimates (small to send between processes), and its entry."""
    file, card = read_card(file)
    return file, msgspec.structs.replace(card, problems=[], estimates=[]), make_entry(file, card, ks)


def _entries(
    runs: Sequence[_ReadRun],
    given: Mapping[tuple[str, str], str],
    kept: Mapping[tuple[Cell, ...], Row],
    base: str | None,
) -> dict[tuple[Cell, ...], Entry]:
    entries: dict[tuple[Cell, ...], Entry] = {}
    files: dict[tuple[Cell, ...], Path] = {}
    for file, card, entry in runs:
        before = _before(entry.row, kept)
        entry.row.update(described(entry.row, card, given, before))
        entry.row.update(shift_cells(file, card, base or entry.row["base_model"]))
        key = key_of(entry.row)
        if key in entries:
            raise RunError(f"{files[key]} and {file}: two runs for one row (same {', '.join(KEY)}). Give one of them.")
        entries[key], files[key] = entry, file
    return entries


def _before(row: Row, kept: Mapping[tuple[Cell, ...], Row]) -> Row:
    """The only kept row with the same key apart from the step, else an empty one; the step may be only in the file."""
    same = [old for old in kept.values() if all(old[name] == row[name] for name in KEY if name != "step")]
    return same[0] if len(same) == 1 else {}


def _import_notes(cards: Sequence[Scorecard]) -> Iterator[str]:
    """What is unknown of imported runs, which are ranked with those drawn and graded here."""
    for card in cards:
        if card.run.imported:
            of = f"{card.run.model} on {card.run.task}: imported from {card.run.imported}"
            yield f"{of}, prompt and sampling unknown; verdicts by {card.run.grading.judge}"


def _compare_with_base(entries: Sequence[Entry], base: str | None) -> list[str]:
    """Add gained and lost problems relative to the base to each row whose base is among the runs. Returns notes."""
    models = {str(entry.row["model"]) for entry in entries}
    if base is not None and base not in models:
        raise UnknownName("base", base, models, "--base takes the name of a model among these runs.")
    notes = []
    for entry in entries:
        name = base or entry.row["base_model"]
        if name is None or name == entry.row["model"]:
            continue
        base_entry = _base_of(entry, str(name), entries)
        if base_entry is None:
            notes.append(
                f"{entry.row['model']} on {entry.row['task']}: no single run of its base {name} to compare with"
            )
        else:
            entry.row.update({"compared_to": name, **_sets(base_entry.counts, entry.counts)})
    return notes


def _base_of(entry: Entry, name: str, entries: Sequence[Entry]) -> Entry | None:
    """The base's run on the same problems; if there are several, the one with the same sampling parameters."""
    group = [other for other in entries if other.row["model"] == name and _agree(other, entry, ("task", "setting"))]
    alike = [
        other
        for other in group
        if _agree(other, entry, ("temperature", "top_p", "max_tokens", "tools", "other_parameters"))
    ]
    chosen = alike or group
    return chosen[0] if len(chosen) == 1 else None


def _agree(first: Entry, second: Entry, names: Sequence[str]) -> bool:
    return all(first.row[name] == second.row[name] for name in names)


def _sets(base: RunCounts, run: RunCounts) -> Row:
    row_index = {entry.id: i for i, entry in enumerate(base.entries)}
    aligned = base.at(np.array([row_index[entry.id] for entry in run.entries], dtype=np.int64))
    if base.counts.chosen or run.counts.chosen:  # the problems it solves in k are not known
        return {}
    k = min(base.largest_k, run.largest_k)
    change = boundary_change([entry.id for entry in run.entries], aligned, run, k, replicates=1)
    chance = None if change.gains is None else rounded(change.gains.expected)
    gained, lost = rounded(change.n_gained), rounded(change.n_lost)
    return {"compared_k": k, "gained": gained, "lost": lost, "by_chance": chance}


def _sortable(key: tuple[Cell, ...]) -> tuple[tuple[int, float, str], ...]:
    """A sort key: None first, then numbers by value or text by letters."""
    return tuple(
        (0, 0.0, "") if cell is None else (1, 0.0, cell) if isinstance(cell, str) else (1, float(cell), "")
        for cell in key
    )


def _checked_ks(ks: Sequence[int]) -> tuple[int, ...]:
    if not ks or min(ks) < 1:
        raise BadArgument("ks", list(ks), "must be budgets of at least 1")
    return tuple(sorted(set(ks)))


def _checked_about(about: Mapping[tuple[str, str], str]) -> Mapping[tuple[str, str], str]:
    for _, name in about:
        if name not in ABOUT:
            raise UnknownName("field", name, ABOUT, "--set reads MODEL:FIELD=VALUE.")
    return about
