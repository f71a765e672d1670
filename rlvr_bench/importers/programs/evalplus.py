"""EvalPlus: ``*_eval_results.json`` with a verdict per sample, and the ``samples.jsonl`` they were made from.

Also ``eval_results.json`` in a folder of samples, and HumanEval's own ``*_results.jsonl``, whose lines say ``passed``. The base
tests and the extra ones (plus) are two verdicts; plus means that both pass, as in the program's "base + extra tests".

Before February 2024 the results had an object per task, with verdicts but without samples. These come from the
``samples.jsonl`` beside it, which has them in the same order; without it the results become counts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

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
)
from rlvr_bench.importers.lines import decode, json_lines
from rlvr_bench.importers.printed import Printed, member, printed, summary
from rlvr_bench.importers.streams import open_stream, plain_name
from rlvr_bench.records import Status

__all__ = ["FORMAT", "MAX_RESULTS_BYTES"]

MAX_RESULTS_BYTES = 512 * 2**20
_RESULTS = re.compile(rb'\s*\{\s*"date"\s*:.*?"eval"\s*:\s*\{', re.DOTALL)
_PASS = ("pass", "success")  # the second before 2024


class _Sample(msgspec.Struct):
    task_id: str
    solution: str | None = None
    completion: str | None = None
    passed: object = None


class _Graded(msgspec.Struct):
    solution: str = ""
    base_status: str | None = None
    plus_status: str | None = None


class _Old(msgspec.Struct):
    """The verdicts of a task's samples: for each a status, and which tests passed."""

    base: list[list[object]] = []
    plus: list[list[object]] = []


class _Results(msgspec.Struct):
    eval: dict[str, list[_Graded] | _Old]


def _fits(seen: Glimpse) -> bool:
    if seen.kind != "lines":
        return False
    samples = "task_id" in seen.names and bool({"solution", "completion"} & seen.names)
    return samples or _RESULTS.match(seen.head) is not None


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    """Leave the file of samples out where there are results: these hold the samples."""
    results = [file for file in files if _is_results(file)]
    if not results or len(results) == len(files):
        return Origin(), list(files)
    samples = ", ".join(str(file) for file in files if file not in results)
    return Origin(notes=(f"{samples}: left out, the results hold the samples with their verdicts",)), results


def _is_results(file: Path) -> bool:
    return Path(plain_name(file)).suffix == ".json"


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[ImportedEntry]:
    if _is_results(file):
        yield from _graded(file, verdict, responses_only)
        return
    for where, sample in json_lines(file, _Sample):
        names = [] if sample.passed is None else ["passed"]
        name = None if responses_only else chosen_verdict(where, names, verdict if names else None)
        text = sample.completion if sample.solution is None else sample.solution
        status = binary(sample.passed) if name else None
        yield _response(where, sample.task_id, text or "", status, name)


def _graded(file: Path, verdict: str | None, responses_only: bool) -> Iterator[ImportedEntry]:
    with open_stream(file) as stream:
        content = stream.read(MAX_RESULTS_BYTES + 1)
    if len(content) > MAX_RESULTS_BYTES:
        raise DataError(f"{file}: more than {MAX_RESULTS_BYTES // 2**20} MB in one JSON value")
    results = decode(str(file), content, msgspec.json.Decoder(_Results))
    written = _samples_of(file) if any(isinstance(given, _Old) for given in results.eval.values()) else {}
    for task, given in results.eval.items():
        texts = written.get(task, [])
        samples = _from_old(given, texts) if isinstance(given, _Old) else given
        for number, sample in enumerate(samples, 1):
            where = f"{file}, {task}, sample {number}"
            names = [name for name in ("base", "plus") if getattr(sample, f"{name}_status") is not None]
            name = None if responses_only else chosen_verdict(where, names, verdict if names else None)
            used = [sample.base_status, sample.plus_status] if name == "plus" else [sample.base_status]
            status = _status(used) if name else None
            if isinstance(given, _Old) and len(texts) != len(samples):
                yield Count(
                    where=where, problem=task, verdict=name or "", n=1, c=int(status == "correct"), partial=True
                )
            else:
                yield _response(where, task, sample.solution, status, name)


def _from_old(given: _Old, texts: Sequence[str]) -> list[_Graded]:
    """The samples of a task in the old layout; without texts where their number is another."""
    base, plus = ([_first(result) for result in part] for part in (given.base, given.plus))
    extra = plus if len(plus) == len(base) else [None] * len(base)
    solutions = texts if len(texts) == len(base) else [""] * len(base)
    return [_Graded(*sample) for sample in zip(solutions, base, extra, strict=True)]


def _first(result: Sequence[object]) -> str | None:
    return result[0] if result and isinstance(result[0], str) else None


def _samples_of(results: Path) -> dict[str, list[str]]:
    """The samples that the results were made from, by task; empty where their file is not beside the results."""
    for ending in ("_eval_results.json", ".eval_results.json"):
        file = results.with_name(results.name.removesuffix(ending) + ".jsonl")
        if results.name.endswith(ending) and file.is_file() and file.stat().st_size <= MAX_RESULTS_BYTES:
            samples: dict[str, list[str]] = defaultdict(list)
            for _, sample in json_lines(file, _Sample):
                text = sample.completion if sample.solution is None else sample.solution
                samples[sample.task_id].append(text or "")
            return samples
    return {}


def _status(statuses: list[str | None]) -> Status | None:
    if None in statuses:
        return None
    return "correct" if all(status in _PASS for status in statuses) else "wrong"


def _response(where: str, task: str, text: str, status: Status | None, verdict: str | None) -> Response:
    return Response(where=where, problem=task, question="", gold="", text=text, status=status, verdict=verdict or "")


def _printed(files: Sequence[Path], verdict: str) -> list[Printed]:
    """``pass_at_k`` at the end of the results, since October 2024."""
    if len(files) != 1 or not _is_results(files[0]):
        return []
    values = member(summary(files[0], MAX_RESULTS_BYTES), "pass_at_k", verdict)
    return [
        number
        for name, value in (values.items() if isinstance(values, dict) else ())
        if (match := re.fullmatch(r"pass@(\d{1,6})", name))
        for number in printed(files[0], f"{verdict} {name}", value, int(match[1]))
    ]


FORMAT = Format(name="evalplus", fits=_fits, survey=_survey, read=_read, says_no_answer=False, printed=_printed)
