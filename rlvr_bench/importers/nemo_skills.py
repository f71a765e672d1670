"""NeMo-Skills: ``output-rs*.jsonl``, one file per random seed, with a line per problem.

Written after the writers and metrics of github.com/NVIDIA/NeMo-Skills: ``generation`` is the response, ``predicted_answer``
and ``expected_answer`` are the answers. A verdict is ``symbolic_correct`` (``is_correct`` in older files and for code), a
judge's ``judgement``, or ``graded_list`` of LiveCodeBench.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict
from rlvr_bench.importers.lines import json_lines
from rlvr_bench.records import Status

__all__ = ["FORMAT"]

_JUDGEMENT = re.compile(r"\*{0,2}judge?ment\*{0,2}\s*:[\s*]*(yes|no)\b", re.IGNORECASE)


class _Line(msgspec.Struct, kw_only=True):
    generation: str | None = None
    problem: str | None = None
    question: str | None = None
    id: str | int | None = None
    problem_id: str | int | None = None
    task_id: str | int | None = None
    expected_answer: str | int | float | None = None
    predicted_answer: str | int | float | None = None
    num_generated_tokens: int | None = None
    finish_reason: str | None = None
    symbolic_correct: object = None
    is_correct: object = None
    is_correct_plus: object = msgspec.field(default=None, name="is_correct-plus")
    judgement: str | None = None
    graded_list: list[object] | None = None


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "lines" and "generation" in seen.names


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    """Leave a greedy ``output.jsonl`` out where there are seeds: it is no rollout of the same policy."""
    seeds = [file for file in files if file.name.startswith("output-rs")]
    greedy = [file for file in files if file.name == "output.jsonl"]
    if not seeds or not greedy:
        return Origin(task=_task(files[0])), list(files)
    note = f"{greedy[0]} is the greedy response next to those of the seeds: left out"
    return Origin(task=_task(files[0]), notes=(note,)), [file for file in files if file not in greedy]


def _task(file: Path) -> str:
    """The benchmark, where the path is the program's: ``eval-results/BENCHMARK/output-rs0.jsonl``."""
    return file.parent.name if file.parent.parent.name == "eval-results" else ""


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    for where, line in json_lines(file, _Line):
        verdicts = _verdicts(line)
        name = None if responses_only else chosen_verdict(where, list(verdicts), verdict if verdicts else None)
        status = verdicts[name] if name else None
        answer = None if line.predicted_answer is None else str(line.predicted_answer)
        if status == "wrong" and answer is None and name in ("symbolic_correct", "judgement"):
            status = "no_answer"
        yield Response(
            where=where,
            problem=_text(next((i for i in (line.problem_id, line.id, line.task_id) if i is not None), None)),
            question=line.problem or line.question or "",
            gold=_text(line.expected_answer),
            text=line.generation or "",
            status=status,
            verdict=name or "",
            answer=answer,
            n_tokens=line.num_generated_tokens,
            truncated={"length": True, "stop": False}.get(line.finish_reason or ""),
        )


def _verdicts(line: _Line) -> dict[str, Status | None]:
    """The verdicts of a line by the name of their field; None for a value that is neither yes nor no."""
    verdicts: dict[str, Status | None] = {}
    for name in ("symbolic_correct", "is_correct", "is_correct_plus"):
        value = getattr(line, name)
        if value is not None:
            verdicts[name.replace("_plus", "-plus")] = binary(value)
    if line.judgement is not None:
        match = _JUDGEMENT.search(line.judgement)
        verdicts["judgement"] = None if match is None else binary(match.group(1).lower() == "yes")
    if line.graded_list:
        verdicts["graded_list"] = binary(line.graded_list[0])
    return verdicts


def _text(value: str | int | float | None) -> str:
    return "" if value is None else str(value)


FORMAT = Format(name="nemo-skills", fits=_fits, survey=_survey, read=_read)
