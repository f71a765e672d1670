"""lighteval: ``details_TASK_DATE.parquet`` of ``--save-details``, a row per document with all its responses.

With several responses the file holds one number for all of them. Where that is their mean (``avg@n``, ``pass@k`` at k = 1),
it gives the number of correct ones but not which: these rows become counts.

Before ``doc`` and ``model_response`` (2025) a row had ``example``, ``predictions``, ``gold`` and ``metrics``, and before that
(2024) the same as the text of Python values.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import (
    Count,
    Format,
    Glimpse,
    ImportedEntry,
    Origin,
    Response,
    binary,
    chosen_verdict,
    number,
)
from rlvr_bench.importers.rows import parquet_rows

__all__ = ["FORMAT"]

_NAME = re.compile(r"details_(?P<task>.+)_\d{4}-\d\d-\d\dT[\d.-]+\.parquet")
_FIELDS = ("doc.id", "doc.query", "doc.choices", "doc.gold_index", "model_response.text", "metric")
_OLD_FIELDS = ("example", "predictions", "gold", "choices", "gold_index", "metrics")
_LONGEST_TEXT = 16 * 2**20
_MEAN = re.compile(r"avg@|pass@1\b|pass@k.*\bk=1\b")
_SLACK = 1e-6


def _fits(seen: Glimpse) -> bool:
    older = {"example", "predictions", "metrics", "full_prompt"} <= seen.names
    return seen.kind == "parquet" and (older or {"doc", "model_response", "metric"} <= seen.names)


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    """The task is in the file's name, the model in its path ``details/MODEL.../DATE/``; a model's name may have a slash."""
    tasks = sorted({match["task"] for file in files if (match := _NAME.fullmatch(file.name))})
    models = sorted({model for file in files if (model := _model(file))})
    for plural, names in (("tasks", tasks), ("models", models)):
        if len(names) > 1:
            raise DataError(f"{files[0].parent}: details of several {plural} ({', '.join(names)}). Name those of one.")
    return Origin(model="".join(models), task="".join(tasks)), list(files)


def _model(file: Path) -> str:
    parts = file.resolve().parts[:-2]
    if "details" not in parts:
        return ""
    return "/".join(parts[len(parts) - parts[::-1].index("details") :])


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[ImportedEntry]:
    for where, row in parquet_rows(file, (*_FIELDS, *_OLD_FIELDS)):
        present = _of_today(row) if "doc" in row else _of_old(where, row)
        yield from _entries(where, present, verdict, responses_only)


@dataclass(frozen=True)
class _Row:
    """A row of any layout; ``texts`` and ``scores`` as they are in the file."""

    problem: str
    question: str
    gold: str
    texts: object
    scores: object


def _of_today(row: dict[str, Any]) -> _Row:
    document = row["doc"] or {}
    return _Row(
        problem=str(document.get("id") or ""),
        question=str(document.get("query") or ""),
        gold=_gold(document),
        texts=(row["model_response"] or {}).get("text"),
        scores=row["metric"],
    )


def _of_old(where: str, row: dict[str, Any]) -> _Row:
    values = {name: _value(where, name, value) for name, value in row.items() if name != "example"}
    texts, golds = values.get("predictions"), values.get("gold")
    if isinstance(texts, list) and all(isinstance(text, list) for text in texts):
        texts = [text for inner in texts for text in inner]
    return _Row(
        problem="",
        question=str(row.get("example") or ""),
        gold=str(golds[0]) if isinstance(golds, list) and golds else _gold(values),
        texts=texts,
        scores=values.get("metrics"),
    )


def _value(where: str, name: str, value: object) -> object:
    """A value of an old row, which may be the text of a Python value. Raises DataError where it is none."""
    if not isinstance(value, str):
        return value
    try:
        if len(value) > _LONGEST_TEXT:
            raise ValueError("too long")
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(f"{where}: {name} is a text that is no value ({str(error)[:80]})") from error


def _entries(where: str, row: _Row, verdict: str | None, responses_only: bool) -> Iterator[ImportedEntry]:
    texts = row.texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: no generated responses (a task that compares log-likelihoods?)")
    common: dict[str, Any] = {
        "where": where,
        "problem": row.problem,
        "question": row.question,
        "gold": row.gold,
    }
    if responses_only:
        yield from (Response(text=text, **common) for text in texts)
        return
    metrics = row.scores if isinstance(row.scores, dict) else {}
    scores = {name: value for name, value in metrics.items() if isinstance(value, bool | int | float)}
    name = chosen_verdict(where, list(scores), verdict)
    if len(texts) == 1:
        value = scores[name] if name else None
        yield Response(text=texts[0], status=binary(value), verdict=name or "", reward=number(value), **common)
    elif name is None:
        yield from (Response(text=text, **common) for text in texts)
    else:
        yield Count(n=len(texts), verdict=name, c=_correct(where, name, scores[name], len(texts)), **common)


def _correct(where: str, name: str, value: float, n: int) -> int:
    """How many of n responses were right, from their mean. Raises DataError where the number is no mean of n verdicts."""
    drawn = re.search(r"(?:\bn=|:)(\d+)(?:_samples)?\b", name)
    if not _MEAN.search(name) or (drawn and int(drawn[1]) != n):
        raise DataError(f"{where}: {name!r} is no mean over the {n} responses: the number of correct ones is unknown")
    c = round(value * n) if value == value else -1
    if not 0 <= c <= n or abs(value * n - c) > _SLACK * n:
        raise DataError(f"{where}: {name} is {value}, which is not a fraction of {n} responses")
    return c


def _gold(document: Mapping[str, object]) -> str:
    choices, index = document.get("choices"), document.get("gold_index")
    first = index[0] if isinstance(index, list) and index else index
    if not isinstance(choices, list) or not isinstance(first, int) or not 0 <= first < len(choices):
        return ""
    return str(choices[first])


FORMAT = Format(name="lighteval", fits=_fits, survey=_survey, read=_read)
