"""Qwen2.5-Math evaluation (``math_eval.py``), ToRA's before it and the many that copy it: a line per problem.

``code`` has the responses, ``pred`` the answer of each, ``score`` a verdict of each and ``gt`` the gold answer. ToRA's files
have no ``score``: their verdicts come from the verifier of a task.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict, number, only_one
from rlvr_bench.importers.lines import json_lines
from rlvr_bench.importers.printed import Printed, printed, summary

__all__ = ["FORMAT"]

# DATA_SET/SPLIT_PROMPT_NUMBER_seed0_t0.6_s0_e-1.jsonl
_NAME = re.compile(r".+_seed\d+_t[\d.]+_s-?\d+_e-?\d+\.jsonl")
_CHANCE_COPY = 500  # characters: two drawn lists of responses of this length are not equal by chance


class _Line(msgspec.Struct):
    code: list[str]
    idx: int | str | None = None
    question: str = ""
    gt: object = None
    pred: list[object] | None = None
    score: list[object] | None = None


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "lines" and {"question", "gt", "code", "pred"} <= seen.names


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    names = (file.resolve().parent.name for file in files if _NAME.fullmatch(file.name))
    return Origin(task=only_one(files[0], "files of several data sets", names)), list(files)


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    for where, line in json_lines(file, _Line):
        names = ["score"] if line.score is not None else []
        name = None if responses_only else chosen_verdict(where, names, verdict if names else None)
        answers = _each(where, "pred", line.pred, len(line.code))
        scores = _each(where, "score", line.score, len(line.code))
        copy = _copy_of(line)
        for at, text in enumerate(line.code):
            yield Response(
                where=where,
                problem="" if line.idx is None else str(line.idx),
                question=line.question,
                gold="" if line.gt is None or isinstance(line.gt, list | dict) else str(line.gt),
                text=text,
                status=binary(scores[at]) if name else None,
                verdict=name or "",
                reward=number(scores[at]) if name else None,
                answer=None if line.pred is None else _answer(answers[at]),
                key=f"{copy}, {at}" if copy else None,
            )


def _each(where: str, name: str, values: list[object] | None, n: int) -> list[object]:
    """One value per response; None where the line has no such list. Raises DataError for a list of another length."""
    if values is not None and len(values) != n:
        raise DataError(f"{where}: {len(values)} values in {name}, but {n} responses in code")
    return [None] * n if values is None else values


def _answer(value: object) -> str:
    return "" if value is None or isinstance(value, list | dict) else str(value)


def _copy_of(line: _Line) -> str | None:
    """Identifies a line that the program, started again, wrote once more with what it had drawn before."""
    content = "\0".join((str(line.idx), line.question, *line.code))
    return hashlib.sha256(content.encode()).hexdigest() if len("".join(line.code)) >= _CHANCE_COPY else None


def _printed(files: Sequence[Path], verdict: str) -> list[Printed]:
    """``acc`` of ``*_metrics.json``, in percent with one decimal: the mean of the first column of the scores."""
    numbers = []
    for file in files if len(files) == 1 else ():
        for metrics in sorted(file.parent.glob(f"{glob.escape(file.stem)}_*_metrics.json")):
            caveat = "it counts the first rollout of each problem only"
            value = summary(metrics)
            acc = value.get("acc") if isinstance(value, dict) else None
            numbers += printed(metrics, "acc", acc, 1, percent=True, half=0.0005, caveat=caveat)
    return numbers


FORMAT = Format(name="qwen-math", fits=_fits, survey=_survey, read=_read, printed=_printed)
