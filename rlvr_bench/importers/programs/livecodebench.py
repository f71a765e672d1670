"""LiveCodeBench: ``*_eval_all.json``, an array with an object per problem.

``output_list`` has the responses, ``code_list`` (``pred_list`` in the other scenarios) what was read from each, and
``graded_list`` its verdict. An empty code or prediction means that none was found. The file without ``_eval_all`` has the
same responses without verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict, only_one
from rlvr_bench.importers.guessing import first_fields
from rlvr_bench.importers.printed import Printed, printed, summary, worth_showing
from rlvr_bench.importers.tables import read_rows
from rlvr_bench.records import Status

__all__ = ["FORMAT"]

VERDICT = "graded_list"
_LARGEST_SUMMARY = 256 * 2**20  # it holds the outcome of every test
_NAMED = frozenset(("question_id", "output_list"))


class _Problem(msgspec.Struct):
    question_id: str | int
    output_list: list[str]
    id: str | int | None = None
    test_id: str | int | None = None
    code_list: list[str | None] | None = None
    pred_list: list[str | None] | None = None
    graded_list: list[Any] | None = None
    question_content: str = ""
    starter_code: str = ""
    difficulty: str = ""

    @property
    def name(self) -> str:
        """The problem's id; a question of the scenarios beside code generation has several tests or samples."""
        if self.id is not None:
            return str(self.id)
        return str(self.question_id) if self.test_id is None else f"{self.question_id}/{self.test_id}"


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "text" and seen.names >= _NAMED and bool({"code_list", "pred_list"} & seen.names)


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    """Leave out files without verdicts where there is one with verdicts. The folder is named after the model."""
    graded = [file for file in files if VERDICT in first_fields(file)]
    kept = graded or list(files)
    notes = tuple(
        f"{file}: left out, its responses are in {kept[0].name} with verdicts" for file in files if file not in kept
    )
    names = (file.resolve().parent.name for file in kept if file.resolve().parent.parent.name == "output")
    return Origin(model=only_one(files[0], "files of several models", names), notes=notes), kept


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    for row in read_rows(file, _NAMED):
        problem = _converted(row.where, row.value)
        parts = problem.pred_list if problem.code_list is None else problem.code_list
        names = [VERDICT] if problem.graded_list is not None else []
        name = None if responses_only else chosen_verdict(row.where, names, verdict if names else None)
        codes = _each(row.where, "code_list", parts, len(problem.output_list))
        verdicts = _each(row.where, VERDICT, problem.graded_list, len(problem.output_list))
        question = "\n\n".join(filter(None, (problem.question_content, problem.starter_code)))
        for text, code, value in zip(problem.output_list, codes, verdicts, strict=True):
            yield Response(
                where=row.where,
                problem=problem.name,
                question=question,
                gold="",
                text=text,
                status=_status(value, code) if name else None,
                verdict=name or "",
                tier=problem.difficulty,
            )


def _converted(where: str, value: object) -> _Problem:
    try:
        return msgspec.convert(value, _Problem)
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: {error}") from error


def _each(where: str, name: str, values: Sequence[Any] | None, n: int) -> Sequence[Any]:
    if values is not None and len(values) != n:
        raise DataError(f"{where}: {len(values)} values in {name}, but {n} responses in output_list")
    return [None] * n if values is None else values


def _status(value: object, code: str | None) -> Status | None:
    status = binary(value)
    return "no_answer" if status == "wrong" and code is not None and not code.strip() else status


def _printed(files: Sequence[Path], verdict: str) -> list[Printed]:
    """The first element of ``*_eval.json`` beside ``*_eval_all.json``."""
    file = files[0].with_name(files[0].name.replace("_eval_all.", "_eval."))
    parts = summary(file, _LARGEST_SUMMARY) if len(files) == 1 and file != files[0] else None
    values = parts[0] if isinstance(parts, list) and parts and isinstance(parts[0], dict) else {}
    budgets = {name: int(match[1]) for name in values if (match := re.fullmatch(r"pass@(\d{1,6})", name))}
    return [
        number
        for name, k in budgets.items()
        if worth_showing(k, max(budgets.values())) or k in (5, 10)
        for number in printed(file, name, values[name], k)
    ]


FORMAT = Format(name="livecodebench", fits=_fits, survey=_survey, read=_read, printed=_printed)
