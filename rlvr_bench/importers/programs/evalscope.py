"""evalscope: ``reviews/MODEL/BENCHMARK_SUBSET.jsonl``, a line per response with its scores.

Responses with one ``group_id`` are of one problem; its question names it, because ids start again in every subset. The file
of the same name under ``predictions/`` has the same responses, by ``index``, with token counts and stop reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict, number, only_one
from rlvr_bench.importers.lines import json_lines
from rlvr_bench.importers.messages import plain
from rlvr_bench.importers.printed import Printed, member, printed, summary

__all__ = ["FORMAT"]


class _Score(msgspec.Struct):
    value: dict[str, Any] = {}
    extracted_prediction: str | None = None
    prediction: str | None = None
    main_score_name: str | None = None


class _Sample(msgspec.Struct):
    score: _Score


class _Review(msgspec.Struct):
    index: int | str
    sample_score: _Sample
    target: object = ""
    input: object = None  # before messages
    messages: list[dict[str, Any]] = []


class _Usage(msgspec.Struct):
    output_tokens: int | None = None


class _Choice(msgspec.Struct):
    stop_reason: str | None = None


class _Output(msgspec.Struct):
    usage: _Usage | None = None
    choices: list[_Choice] = []


class _Prediction(msgspec.Struct):
    index: int | str
    model: str = ""
    model_output: _Output | None = None


def _fits(seen: Glimpse) -> bool:
    reviews = {"index", "sample_score", "target"} <= seen.names
    return seen.kind == "lines" and (reviews or {"index", "model_output"} <= seen.names)


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    """Keep the reviews: predictions are the same responses without verdicts. The path names the model."""
    reviews = [file for file in files if _is_review(file)]
    if not reviews:
        raise DataError(
            f"{files[0]}: predictions without verdicts. Name the file of the same name in the folder reviews/."
        )
    model = only_one(files[0], "reviews of several models", map(_model, files))
    left = [str(file) for file in files if file not in reviews]
    notes = (f"{', '.join(left)}: left out, the reviews hold the same responses with verdicts",) if left else ()
    return Origin(model=model, task=_task(reviews), notes=notes), reviews


def _is_review(file: Path) -> bool:
    return any("sample_score" in fields for _, fields in _first(file))


def _first(file: Path) -> list[tuple[str, dict[str, msgspec.Raw]]]:
    return [next(json_lines(file, dict[str, msgspec.Raw]), ("", {}))]


def _model(file: Path) -> str:
    """The model that a prediction names, or the folder that the program names after it."""
    if not _is_review(file):
        return next((line.model for _, line in json_lines(file, _Prediction)), "")
    parent = file.resolve().parent
    return parent.name if parent.parent.name == "reviews" else ""


def _task(reviews: Sequence[Path]) -> str:
    """The part of the files' names that all of them share: BENCHMARK of BENCHMARK_SUBSET.jsonl."""
    names = {file.stem for file in reviews}
    if len(names) == 1:
        return names.pop()
    parts = [name.split("_") for name in sorted(names)]
    shared = [first for first, *rest in zip(*parts, strict=False) if all(part == first for part in rest)]
    return "_".join(shared)


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    lengths = _lengths(file)
    for where, line in json_lines(file, _Review):
        score = line.sample_score.score
        name = None if responses_only else _verdict(where, score, verdict)
        value = score.value.get(name) if name else None
        n_tokens, truncated = lengths.get(str(line.index), (None, None))
        yield Response(
            where=where,
            problem="",
            question=_question(line),
            gold="" if line.target is None or isinstance(line.target, list | dict) else str(line.target),
            text=score.prediction if score.prediction is not None else _response(line.messages),
            status=binary(value),
            verdict=name or "",
            reward=number(value),
            answer=score.extracted_prediction,
            n_tokens=n_tokens,
            truncated=truncated,
        )


def _lengths(reviews: Path) -> dict[str, tuple[int | None, bool | None]]:
    """Tokens, and whether a response was cut, by its index; from the predictions, where they are where they were written."""
    parent = reviews.resolve().parent
    file = parent.parent.parent / "predictions" / parent.name / reviews.name
    if parent.parent.name != "reviews" or not file.is_file():
        return {}
    return {str(line.index): _length(line.model_output or _Output()) for _, line in json_lines(file, _Prediction)}


def _length(output: _Output) -> tuple[int | None, bool | None]:
    reason = output.choices[0].stop_reason if output.choices else None
    tokens = output.usage.output_tokens if output.usage else None
    return tokens, {"stop": False, "max_tokens": True}.get(reason or "")


def _verdict(where: str, score: _Score, asked: str | None) -> str | None:
    """The verdict asked for; else the one that the program calls the main one; else the only one."""
    names = list(score.value)
    if asked is None and score.main_score_name in names:
        return score.main_score_name
    return chosen_verdict(where, names, asked if names else None)


def _question(line: _Review) -> str:
    """The text of the user's messages."""
    return plain([message for message in line.messages if message.get("role") == "user"] or line.input)


def _response(messages: Sequence[dict[str, Any]]) -> str:
    return plain([message for message in messages[-1:] if message.get("role") == "assistant"])


_BUDGET = re.compile(r"(?:pass|vote)(?:@|_at_)(\d{1,6})")


def _printed(files: Sequence[Path], verdict: str) -> list[Printed]:
    """``reports/MODEL/BENCHMARK.json``: means and pass@k of what was scored, with four decimals."""
    parent = files[0].resolve().parent
    folder = parent.parent.parent / "reports" / parent.name
    numbers: list[Printed] = []
    for file in sorted(folder.glob("*.json")) if parent.parent.name == "reviews" else ():
        if not all(review.stem == file.stem or review.stem.startswith(f"{file.stem}_") for review in files):
            continue
        metrics = member(summary(file), "metrics")
        for metric in metrics if isinstance(metrics, list) else ():
            numbers += _number(file, metric, verdict)
    return numbers


def _number(file: Path, metric: object, verdict: str) -> list[Printed]:
    """One metric of a report, by its name in older reports and by its identity in newer ones."""
    identity = member(metric, "identity")
    name = str(member(metric, "name") or "")
    k = 1
    if identity is not None:
        aggregation, budget = member(identity, "aggregation"), member(identity, "dimensions", "k")
        if member(identity, "name") != verdict or aggregation not in ("mean", "pass_at_k"):
            return []
        k = budget if aggregation == "pass_at_k" and isinstance(budget, int) else 1
        name = f"{verdict} {aggregation}" + (f" {k}" if aggregation == "pass_at_k" else "")
    elif verdict not in name:
        return []
    elif match := _BUDGET.search(name):
        k = int(match[1]) if match[0].startswith("pass") else 0
    scored = member(metric, "num")
    doubt = f"over {scored} of them; it leaves out what it could not score" if isinstance(scored, int) else ""
    return printed(file, name, member(metric, "score"), k, half=5e-5, doubt=doubt)


FORMAT = Format(name="evalscope", fits=_fits, survey=_survey, read=_read, printed=_printed)
