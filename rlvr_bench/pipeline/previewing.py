"""Shows how an import would read its files. Nothing is written."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.importers import Count, ImportedEntry
from rlvr_bench.importers.entries import problem_name
from rlvr_bench.options import ImportOptions
from rlvr_bench.pipeline.import_sources import choose_source

__all__ = ["Preview", "preview_import"]

_SHOWN = 3
_MOST = 1000


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """How files would be read: the ``first`` entries, and counts over the ``entries`` read, at most 1,000.

    ``rows`` of the files gave ``rollouts`` of ``problems``, of which ``correct`` are correct and ``unjudged`` have no
    verdict; a problem has ``fewest`` to ``most`` of the rollouts. ``complete``: these are all entries of the files.
    """

    format: str
    files: tuple[str, ...]
    first: tuple[ImportedEntry, ...]
    rows: int
    rollouts: int
    problems: int
    correct: int
    unjudged: int
    fewest: int
    most: int
    complete: bool
    notes: tuple[str, ...]


def preview_import(paths: Sequence[str | Path], options: ImportOptions | None = None) -> Preview:
    """Read the first rollouts of the files as ``import_run`` would. Raises its errors; needs neither model nor task."""
    chosen = choose_source(paths, options or ImportOptions(), preview=True)
    reading = chosen.open(in_order=False)
    every = itertools.chain.from_iterable(map(reading.entries, chosen.files))
    entries = list(itertools.islice(every, _MOST + 1))
    complete, entries = len(entries) <= _MOST, entries[:_MOST]
    remarks = tuple(reading.remarks())
    if not entries:
        raise DataError(f"{chosen.files[0]}: no rollouts in it")
    n: Counter[str] = Counter()
    for entry in entries:
        n[problem_name(entry)] += entry.n if isinstance(entry, Count) else 1
    return Preview(
        format=chosen.format.name,
        files=tuple(map(str, chosen.files)),
        first=tuple(entries[:_SHOWN]),
        rows=len({entry.where for entry in entries}),
        rollouts=n.total(),
        problems=len(n),
        correct=sum(entry.c if isinstance(entry, Count) else entry.status == "correct" for entry in entries),
        unjudged=sum(not isinstance(entry, Count) and entry.status is None for entry in entries),
        fewest=min(n.values()),
        most=max(n.values()),
        complete=complete,
        notes=(*chosen.notes, *remarks),
    )
