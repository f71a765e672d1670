"""Prints how an import would read its files."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from rlvr_bench.errors import visible
from rlvr_bench.importers import Count, ImportedEntry
from rlvr_bench.pipeline.previewing import Preview

__all__ = ["show_preview"]

_HEAD = 160  # characters of a text


def show_preview(console: Console, preview: Preview) -> None:
    """Print the first rollouts, field by field, and what the first rows give. Control characters are escaped."""
    for line in _lines(preview):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines(preview: Preview) -> Iterator[str]:
    for entry in preview.first:
        yield visible(entry.where)
        for name, value in _fields(entry):
            yield f"  {name:<9} {value}"
    per_problem = f"{preview.fewest}" if preview.fewest == preview.most else f"{preview.fewest} to {preview.most}"
    which = "all rows" if preview.complete else "the first rows"
    judged = f"{preview.correct:,} correct"
    if preview.unjudged:
        judged += f", {preview.unjudged:,} without a verdict"
    yield (
        f"{preview.format}: {which} ({preview.rows:,}) give {preview.rollouts:,} rollouts of {preview.problems:,} problems, "
        f"{per_problem} a problem; {judged}"
    )
    if preview.complete and preview.most == 1:
        yield "one rollout a problem: is the problem's id different in every rollout?"
    yield from (f"note: {visible(note)}" for note in preview.notes)
    yield "preview: nothing written"


def _fields(entry: ImportedEntry) -> Iterator[tuple[str, str]]:
    yield "problem", _head(entry.problem) or "(named by its question)"
    yield "question", _head(entry.question)
    yield "gold", _head(entry.gold)
    if isinstance(entry, Count):
        yield "n, c", f"{entry.n:,}, {entry.c:,}"
        return
    yield "text", _head(entry.text)
    yield "answer", "none" if entry.answer is None else _head(entry.answer)
    yield "verdict", entry.status or "none"
    yield "tokens", "unknown" if entry.n_tokens is None else f"{entry.n_tokens:,}"


def _head(text: str) -> str:
    return visible(text[:_HEAD]) + (f"... ({len(text):,} characters)" if len(text) > _HEAD else "")
